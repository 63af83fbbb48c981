"""The stacked module against the closed form, against differences of real trainings, and alone against packed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from tests.trainers.images import (
    ALL_KINDS,
    Arguments,
    differences,
    image_config,
    image_split,
    last_point,
    middle,
    small_cnn,
    tangent,
    users,
)
from tests.trainers.runs import assert_close, bits, checkpoints, of_member, points, results, run
from trainers import Member
from trainers.batches import Order
from trainers.checkpoint import dumps, loads
from trainers.config import EstimatorName, HyperparameterConfig, ModelConfig, Range
from trainers.hypergradients import ESTIMATORS
from trainers.hyperparameters import lay_out
from trainers.networks.module.network import StackedModule
from trainers.networks.perceptron.network import StackedMLP, parameters_of
from trainers.noise import Noise
from trainers.problem import build_problem


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("hidden", [(), (5, 4)])
@pytest.mark.parametrize("batch", [8, 7])
def test_a_perceptron_equals_the_closed_form_in_every_method(
    hidden: tuple[int, ...], activation: Literal["relu", "tanh"], batch: int
) -> None:
    shape, classes, members = (1, 2, 3), 3, 3
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
    noise = [None if s is None else normal(draw, members, (batch + 1) // 2, *s) for s in network.noise_shapes]
    written_out = [None if drawn is None else torch.cat([drawn, -drawn], 1)[:, :batch] for drawn in noise]
    flat = [None if drawn is None else drawn.flatten(2) for drawn in noise]

    trace, own = network.linearise(theta, x, y, h, noise), closed.linearise(theta, x.flatten(2), y, h, flat)
    clean, own_clean = network.linearise(theta, x, y), closed.linearise(theta, x.flatten(2), y)
    all_flat = [None if drawn is None else drawn.flatten(2) for drawn in written_out]
    twice = network.linearise(theta, x, y, h, written_out, mirrored=True)
    own_twice = closed.linearise(theta, x.flatten(2), y, h, all_flat, mirrored=True)
    w_own = closed.direction(w)
    pairs = [
        (network.loss(trace), closed.loss(own)),
        (network.gradient(trace), closed.gradient(own)),
        (network.gradient(trace), network.gradient(network.linearise(theta, x, y, h, written_out))),
        (network.gradient(clean), closed.gradient(own_clean)),
        (network.scaled_gradient(clean, 0.1), 0.1 * closed.gradient(own_clean)),
        (network.dots(theta, network.direction(w)), closed.dots(theta, w_own)),
        (network.mixed_vjp(trace, network.direction(w)), closed.mixed_vjp(own, w_own)),
        *((tangent(network, trace, z, m, h), tangent(closed, own, z, m, h)) for m in (batch, 5, 2)),
        (tangent(network, twice, z, 2 * batch, h), tangent(closed, own_twice, z, 2 * batch, h)),
        (tangent(network, trace, z[:, :1], batch, None), tangent(closed, own, z[:, :1], batch, None)),
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
@pytest.mark.parametrize("batch", [6, 5])
def test_any_hyperparameters_can_have_a_direction_in_any_order(model: ModelConfig, batch: int) -> None:
    """β out + α (∇²θ C z_h + direct_h ∂_h ∇θ C), where ε is drawn for half of the batch, by double backward."""
    config = image_config(model, ALL_KINDS, outer={"estimator": "forward"})
    network = StackedModule(config, (1, 4, 4), 3, image_split().t1_x, tangents=True)
    draw, count = draws(), len(network.layout.names)
    theta, z, out = normal(draw, 1, network.size), *normal(draw, 2, 1, count, network.size)
    h, direct = torch.rand(2, 1, count, generator=draw, dtype=torch.float64) / 2
    x, y = normal(draw, 1, batch, 1, 4, 4), torch.randint(3, (1, batch), generator=draw)
    noise = [None if s is None else normal(draw, 1, (batch + 1) // 2, *s) for s in network.noise_shapes]
    signed = {i: torch.cat([e[0], -e[0]])[:batch] for i, e in enumerate(noise) if e is not None}

    at, values = theta[0].clone().requires_grad_(), h[0].clone().requires_grad_()
    parts = [
        part.view(own.shape) for part, own in zip(at.split(list(network.layout.sizes)), network.parameters, strict=True)
    ]
    loss, _ = network.run_loss.regularised(parts, values, x[0], y[0], signed)
    (g,) = torch.autograd.grad(loss + 0 * values.sum(), at, create_graph=True)  # the λs are used, if only like this
    dummy = torch.ones_like(g, requires_grad=True)  # a vector-Jacobian product, differentiated by the vector
    (by_h,) = torch.autograd.grad((g * dummy).sum(), values, create_graph=True)
    ways = [torch.autograd.grad(by_h[column], dummy, retain_graph=True)[0] for column in range(count)]
    products = [torch.autograd.grad(g, at, row, retain_graph=True)[0] for row in z[0]]
    trace = network.linearise(theta, x, y, h, noise)
    for columns in [(0,), (count - 1, 1), (2, 0, count - 2), tuple(range(count))]:
        some, found = len(columns), out[:, : len(columns)].clone()
        part = z[:, :some].contiguous()
        network.tangent(trace, part, batch, columns=columns, direct=direct[:, :some], out=found, beta=0.75, alpha=0.2)
        for i, column in enumerate(columns):
            wanted = 0.75 * out[0, i] + 0.2 * (products[i] + direct[0, i] * ways[column])
            torch.testing.assert_close(found[0, i], wanted, rtol=1e-9, atol=1e-11)


def test_a_batch_without_noise_for_all_is_never_written_into() -> None:
    config = image_config(small_cnn(), ALL_KINDS)
    network = build_problem(config, image_split()).network
    draw = draws()
    x, y = normal(draw, 1, 5, 1, 4, 4), torch.randint(3, (1, 5), generator=draw)
    noise = [None if s is None else normal(draw, 1, 3, *s) for s in network.noise_shapes]
    h, before = torch.full((1, 7), 0.3, dtype=torch.float64), x.clone()
    network.gradient(network.linearise(network.initial(1)[None], x, y, h, noise))
    assert torch.equal(x, before)


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


@pytest.mark.parametrize(("estimator", "steps"), [("t1t2", 100), ("t1t2_at_theta", 200), ("forward", 30)])
@pytest.mark.parametrize("model", [small_cnn(False, "relu"), small_cnn(True, "relu"), users("with_batch_norm")])
def test_a_member_of_a_pack_equals_itself_alone_beside_one_that_diverges(
    model: ModelConfig, estimator: str, steps: int
) -> None:
    """A network with convolutions bit for bit, as its members are evaluated one by one; others to rounding."""
    noisy = model.name == "cnn"
    config = image_config(
        model,
        WIDE if noisy else replace(WIDE, hidden_noise_std=None),
        {"steps": steps, "learning_rate": 0.1},
        {"estimator": estimator, "every": 10, "batch_size": 5},
        record_every=10,
    )
    problem = build_problem(config, image_split())
    members = [
        Member(seed, {name: start[name] for name in problem.layout.names}) for seed, start in enumerate(STARTS, 3)
    ]
    packed = run(problem, config, members)
    assert [result.status for result in results(packed)] == ["completed", "diverged", "completed"]
    for position in (0, 2):
        alone = run(problem, config, [members[position]])
        if noisy:
            assert bits(of_member(packed, position)) == bits(alone)
        else:
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


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize("model", [small_cnn(batch_norm=True), users("residual")], ids=["cnn", "residual"])
def test_a_trace_is_never_evaluated_on_a_batch_or_noise_that_has_been_overwritten(
    model: ModelConfig, optimiser: str, estimator: EstimatorName, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a step has been given is NaN from the next step on, and also when the loss of the last one is taken."""
    inner = {"steps": 6, "optimiser": optimiser, "learning_rate": 0.01}
    outer = {"estimator": estimator, "every": 2, "batch_size": 5}
    config = image_config(model, HyperparameterConfig(), inner, outer, record_every=3)
    problem = build_problem(config, image_split())
    members = [Member(seed, middle(problem)) for seed in (1, 2)]
    expected = run(problem, config, members)

    given: dict[int, list[Tensor]] = {}  # the latest of each source

    def forget(tensors: list[Tensor]) -> None:
        for tensor in tensors:
            tensor.fill_(torch.nan)

    def fresh(at: Callable[..., Any]) -> Callable[..., Any]:
        def called(source: Order | Noise, step: int) -> list[Tensor | None]:
            forget(given.pop(id(source), []))
            made = [None if part is None else part.clone() for part in at(source, step)]
            given[id(source)] = [part for part in made if part is not None and part.is_floating_point()]
            return made

        return called

    def loss(network: StackedModule, trace: Any) -> Tensor:
        for tensors in given.values():
            forget(tensors)
        return loss_of(network, trace)

    loss_of = StackedModule.loss
    monkeypatch.setattr(StackedModule, "loss", loss)
    for kind in (Order, Noise):
        monkeypatch.setattr(kind, "at", fresh(kind.at))
    assert bits(run(problem, config, members)) == bits(expected)
    assert all(math.isfinite(point.t1_loss) for point in points(expected)[2:])


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
    monkeypatch.setattr("trainers.networks.module.group.EVALUATION_ROWS", 3)  # examples a chunk, one is left over
    for found, wanted in zip(problem.network.evaluate(theta, *problem.test), whole, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device on this machine")
@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_gpu_gives_what_the_cpu_gives(model: ModelConfig) -> None:
    config = image_config(model, ALL_KINDS, outer={"estimator": "forward"})
    problems = [build_problem(config, image_split(), device) for device in ("cpu", "cuda")]
    arguments = Arguments.drawn(problems[0], members=2)
    for wanted, found in zip(*(arguments.outcomes(problem) for problem in problems), strict=True):
        torch.testing.assert_close(found.cpu(), wanted, rtol=1e-9, atol=1e-9)
