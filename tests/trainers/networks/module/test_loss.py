"""The loss of one run: batch normalisation by the statistics of T1, and regularisers as they are defined."""

from __future__ import annotations

import pytest
import torch

from tests.trainers.images import differences, image_config, image_split, last_point, middle, small_cnn, users
from trainers.config import HyperparameterConfig, ModelConfig, Range
from trainers.networks.module.network import StackedModule
from trainers.problem import build_problem


def test_the_loss_of_a_run_is_that_of_its_noisy_inputs_and_smoothed_targets() -> None:
    kinds = HyperparameterConfig(log10_l2=None, label_smoothing=Range(0.0, 0.5))
    split = image_split()
    network = StackedModule(image_config(ModelConfig(hidden=()), kinds), (1, 4, 4), 3, split.t1_x, tangents=False)
    theta, x, y = network.initial(1), torch.from_numpy(split.t2_x).double(), torch.from_numpy(split.t2_y)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert network.layout.names == ("input_noise_std", "label_smoothing")
    parts = theta[:48].view(3, 16), theta[48:]
    found, logits = network.run_loss.regularised(parts, torch.tensor([0.3, 0.2], dtype=torch.float64), x, y, {0: noise})
    weight, bias = parts
    torch.testing.assert_close(logits, (x + 0.3 * noise).flatten(1) @ weight.T + bias, rtol=1e-12, atol=1e-12)
    wanted = torch.nn.functional.cross_entropy(logits, y, label_smoothing=0.2)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    clean, clean_logits = network.run_loss.clean(parts, x, y)
    torch.testing.assert_close(clean_logits, x.flatten(1) @ weight.T + bias, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(clean, torch.nn.functional.cross_entropy(clean_logits, y), rtol=1e-12, atol=1e-12)


def test_clean_batches_are_normalised_by_the_statistics_of_t1_as_torch_does_in_evaluation() -> None:
    config = image_config(small_cnn(batch_norm=True))
    problem = build_problem(config, image_split())
    network = problem.network
    assert isinstance(network, StackedModule)
    theta = torch.stack([network.initial(seed) for seed in (1, 2)])
    x, y = problem.t2
    with torch.no_grad():
        clean = network.linearise(theta, x.expand(2, *x.shape), y.expand(2, -1))
    for member, seed in enumerate((1, 2)):
        torch.manual_seed(0)
        module = network.factory().double()
        torch.nn.utils.vector_to_parameters(network.initial(seed), module.parameters())
        for layer in module.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = 1.0  # running statistics: those of the last batch
        module(problem.t1[0])
        for side, name in ((4, "norm1"), (2, "norm2")):
            count = len(problem.t1[0]) * side * side
            module.get_buffer(f"{name}.running_var").mul_((count - 1) / count)  # torch keeps the unbiased variance
        torch.testing.assert_close(clean.logits[member], module.eval()(x), rtol=1e-10, atol=1e-10)
    losses, _ = network.evaluate(theta, x, y)
    torch.testing.assert_close(losses, network.loss(clean), rtol=1e-10, atol=1e-10)
    few, _ = network.evaluate(theta, x[:3], y[:3])  # no example's prediction depends on the others
    torch.testing.assert_close(
        few,
        torch.nn.functional.cross_entropy(
            clean.logits[:, :3].transpose(1, 2), y[:3].expand(2, -1), reduction="none"
        ).mean(1),
        rtol=1e-10,
        atol=1e-10,
    )


def test_a_users_batch_normalisation_needs_no_state_and_has_exact_hypergradients() -> None:
    kinds = HyperparameterConfig(label_smoothing=Range(0.0, 0.5))
    config = image_config(users("with_batch_norm"), kinds)
    problem = build_problem(config, image_split())
    assert [p.name for p in problem.network.parameters] == [
        "1.weight",
        "1.bias",
        "2.weight",
        "2.bias",
        "4.weight",
        "4.bias",
        "8.weight",
        "8.bias",
    ]
    values = middle(problem)
    found = last_point(problem, config, values, online=True).hypergradient
    assert found == pytest.approx(differences(problem, config, values), rel=1e-6, abs=2e-10)
