"""The stacked module against the closed form, against differences of real trainings, and alone against packed."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from tests.trainers.images import (
    ALL_KINDS,
    differences,
    image_config,
    image_split,
    last_point,
    middle,
    small_cnn,
    users,
)
from tests.trainers.runs import assert_close, bits, checkpoints, of_member, results, run
from trainers import Member, Problem
from trainers.checkpoint import dumps, loads
from trainers.config import HyperparameterConfig, ModelConfig, Range
from trainers.hyperparameters import lay_out
from trainers.networks.module.network import StackedModule
from trainers.networks.perceptron.network import StackedMLP, parameters_of
from trainers.problem import build_problem


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("hidden", [(), (5, 4)])
def test_a_perceptron_equals_the_closed_form_in_every_method(
    hidden: tuple[int, ...], activation: Literal["relu", "tanh"]
) -> None:
    shape, classes, members, batch = (1, 2, 3), 3, 3, 8
    kinds = ALL_KINDS if hidden else HyperparameterConfig(label_smoothing=Range(0.0, 0.5))
    config = image_config(ModelConfig(hidden=hidden, activation=activation), kinds, outer={"estimator": "forward"})
    network = StackedModule(config, shape, classes, image_split(0, shape).t1_x, tangents=True)
    parameters = parameters_of(6, hidden, classes)
    layout = lay_out(config.hyperparameters, parameters, len(hidden))
    closed = StackedMLP(config.model, 6, classes, layout)
    assert (network.parameters, network.layout) == (parameters, layout)
    draw, columns = draws(), len(layout.names)
    theta, w, z = normal(draw, members, closed.size), normal(draw, members, closed.size), None
    z = normal(draw, members, columns, closed.size)
    x, y = normal(draw, members, batch, *shape), torch.randint(classes, (members, batch), generator=draw)
    h = torch.rand(members, columns, generator=draw, dtype=torch.float64) / 2
    noise = [None if site is None else normal(draw, members, batch, *site) for site in network.noise_shapes]
    flat = [None if drawn is None else drawn.flatten(2) for drawn in noise]

    trace, own = network.linearise(theta, x, y, h, noise), closed.linearise(theta, x.flatten(2), y, h, flat)
    clean, own_clean = network.linearise(theta, x, y), closed.linearise(theta, x.flatten(2), y)
    twice = network.linearise(theta, x, y, h, noise, mirrored=True)
    own_twice = closed.linearise(theta, x.flatten(2), y, h, flat, mirrored=True)
    w_own = closed.direction(w)
    pairs = [
        (network.loss(trace), closed.loss(own)),
        (network.gradient(trace), closed.gradient(own)),
        (network.gradient(clean), closed.gradient(own_clean)),
        (network.scaled_gradient(clean, 0.1), 0.1 * closed.gradient(own_clean)),
        (network.dots(theta, network.direction(w)), closed.dots(theta, w_own)),
        (network.mixed_vjp(trace, network.direction(w)), closed.mixed_vjp(own, w_own)),
        (network.tangent(trace, z, batch, h), closed.tangent(own, z, batch, h)),
        (network.tangent(trace, z, 5, h), closed.tangent(own, z, 5, h)),
        (network.tangent(twice, z, 2 * batch, h), closed.tangent(own_twice, z, 2 * batch, h)),
        (network.tangent(trace, z[:, :1], batch, None), closed.tangent(own, z[:, :1], batch, None)),
        *zip(network.evaluate(theta, x[0], y[0]), closed.evaluate(theta, x[0].flatten(1), y[0]), strict=True),
    ]
    for found, wanted in pairs:
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


MODELS = {
    "cnn": small_cnn(),
    "cnn with batch normalisation": small_cnn(batch_norm=True),
    "a user's module": users("residual"),
}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_the_hypergradient_of_one_step_equals_central_differences(model: ModelConfig, optimiser: str) -> None:
    settings = {"sgd": {"learning_rate": 0.3}, "adam": {"learning_rate": 0.05, "epsilon": 0.01}}[optimiser]
    config = image_config(model, ALL_KINDS, inner={"optimiser": optimiser, **settings})
    problem = build_problem(config, image_split())
    values = middle(problem)
    found = last_point(problem, config, values, online=True).hypergradient
    assert found == pytest.approx(differences(problem, config, values), rel=1e-6, abs=2e-10)
    assert all(abs(value) > 1e-7 for value in found.values())


@pytest.mark.parametrize("batch_norm", [False, True])
def test_forward_mode_equals_central_differences_of_the_whole_training(batch_norm: bool) -> None:
    kinds = HyperparameterConfig(hidden_noise_std=Range(0.0, 0.8))
    outer = {"estimator": "forward", "every": 4, "memory": 1.0}
    config = image_config(small_cnn(batch_norm), kinds, {"steps": 4, "optimiser": "momentum"}, outer, record_every=4)
    problem = build_problem(config, image_split())
    values = middle(problem)
    found = last_point(problem, config, values, online=True).hypergradient
    assert found == pytest.approx(differences(problem, config, values), rel=1e-6, abs=2e-10)


def test_neumann_without_look_back_equals_t1t2_and_with_it_uses_the_hessian() -> None:
    kinds = HyperparameterConfig(hidden_noise_std=Range(0.0, 0.8))
    config = image_config(small_cnn(True), kinds)
    problem = build_problem(config, image_split())
    values = middle(problem)
    exact = last_point(problem, config, values, online=True).hypergradient
    found = {}
    for terms in (0, 2):
        looking = image_config(small_cnn(True), kinds, outer={"estimator": "neumann", "look_back": terms})
        found[terms] = last_point(build_problem(looking, image_split()), looking, values, online=True).hypergradient
    assert found[0] == pytest.approx(exact, rel=1e-10)
    assert found[2] != pytest.approx(exact, rel=1e-3)


WIDE = HyperparameterConfig(log10_l2=Range(-6.0, 9.0), hidden_noise_std=Range(0.0, 0.8))
STARTS = [
    {"log10_l2": -2.0, "input_noise_std": 0.1, "hidden_noise_std": 0.3},
    {"log10_l2": 8.0, "input_noise_std": 0.5, "hidden_noise_std": 0.2},  # shrinks θ by 1 - 0.1 · 10⁸ a step: diverges
    {"log10_l2": -4.0, "input_noise_std": 0.6, "hidden_noise_std": 0.1},
]


@pytest.mark.parametrize(("estimator", "steps"), [("t1t2_at_theta", 200), ("forward", 30)])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_member_of_a_pack_equals_itself_alone_beside_one_that_diverges(
    batch_norm: bool, estimator: str, steps: int
) -> None:
    config = image_config(
        small_cnn(batch_norm, "relu"),
        WIDE,
        {"steps": steps, "learning_rate": 0.1},
        {"estimator": estimator, "every": 10, "batch_size": 5},
        record_every=10,
    )
    problem = build_problem(config, image_split())
    members = [Member(seed, start) for seed, start in zip((3, 4, 5), STARTS, strict=True)]
    packed = run(problem, config, members)
    assert [result.status for result in results(packed)] == ["completed", "diverged", "completed"]
    for position in (0, 2):
        alone = run(problem, config, [members[position]])
        assert_close(of_member(packed, position), alone, rel=1e-9, abs_=1e-9)
        assert results(alone)[0].final != results(alone)[0].initial


@pytest.mark.parametrize("estimator", ["t1t2", "forward"])
def test_a_run_continued_from_a_checkpoint_equals_the_uninterrupted_one_bit_for_bit(estimator: str) -> None:
    config = image_config(
        small_cnn(batch_norm=True),
        WIDE,
        {"steps": 20, "optimiser": "adam", "learning_rate": 0.01},
        {"estimator": estimator, "every": 2, "batch_size": 5},
        record_every=5,
    )
    problem = build_problem(config, image_split())
    members = [Member(3, STARTS[0]), Member(5, STARTS[2])]
    whole = run(problem, config, members, checkpoint_every=7)
    saved = checkpoints(whole)[0]
    fresh = build_problem(config, image_split())
    rest = run(fresh, config, members, checkpoint_every=7, resume=loads(dumps(saved)))
    later = whole[whole.index(saved) + 1 :]
    assert bits(rest) == bits(later)


def test_initial_weights_follow_from_the_seed_alone_and_leave_torchs_generator_as_it_was() -> None:
    config = image_config(small_cnn())
    problem = build_problem(config, image_split())
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = problem.network.initial(5)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(problem.network.initial(5), first)
    assert first.dtype == torch.float64
    assert not torch.equal(problem.network.initial(6), first)


def test_two_threads_that_draw_initial_weights_at_once_do_not_disturb_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = build_problem(image_config(small_cnn()), image_split()).network
    assert isinstance(network, StackedModule)
    expected, make = [network.initial(seed) for seed in (1, 2)], network.factory
    pauses = iter((0.05, 0.15))  # the first thread draws after the second has seeded, and before it draws

    def slowly() -> nn.Module:
        time.sleep(next(pauses))
        return make()

    monkeypatch.setattr(network, "factory", slowly)
    with ThreadPoolExecutor(2) as pool:
        for drawn, weights in zip(pool.map(network.initial, (1, 2)), expected, strict=True):
            assert torch.equal(drawn, weights)


def test_evaluation_in_chunks_equals_the_mean_over_all(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = build_problem(image_config(small_cnn(batch_norm=True)), image_split())
    theta = torch.stack([problem.network.initial(seed) for seed in (1, 2, 3)])
    whole = problem.network.evaluate(theta, *problem.test)
    monkeypatch.setattr("trainers.networks.module.network.EVALUATION_ROWS", 9)  # three examples a chunk, one left over
    for found, wanted in zip(problem.network.evaluate(theta, *problem.test), whole, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_gpu_gives_what_the_cpu_gives(model: ModelConfig) -> None:
    config = image_config(model, ALL_KINDS, outer={"estimator": "forward"})
    problems = [build_problem(config, image_split(), device) for device in ("cpu", "cuda")]
    network, draw, rows = problems[0].network, draws(), len(problems[0].t2[1])
    theta = torch.stack([network.initial(seed) for seed in (1, 2)])
    h = torch.rand(2, len(problems[0].layout.names), generator=draw, dtype=torch.float64) / 2
    z = normal(draw, 2, h.shape[1], network.size)
    noise = [None if site is None else normal(draw, 2, rows, *site) for site in network.noise_shapes]
    outcomes = [methods(problem, theta, h, z, noise) for problem in problems]
    for wanted, found in zip(*outcomes, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def methods(problem: Problem, theta: Tensor, h: Tensor, z: Tensor, noise: list[Tensor | None]) -> list[Tensor]:
    """What every method gives on the problem's T2, computed where that lies."""
    network, (x, y) = problem.network, problem.t2
    theta, h, z = (tensor.to(x) for tensor in (theta, h, z))
    xs, ys = x.expand(len(theta), *x.shape), y.expand(len(theta), -1)
    trace = network.linearise(theta, xs, ys, h, [None if drawn is None else drawn.to(x) for drawn in noise])
    clean = network.linearise(theta, xs, ys)
    found = [
        network.gradient(trace),
        network.gradient(clean),
        network.mixed_vjp(trace, z[:, 0]),
        network.tangent(trace, z, 6, h),
        *network.evaluate(theta, x, y),
    ]
    return [tensor.cpu() for tensor in found]
