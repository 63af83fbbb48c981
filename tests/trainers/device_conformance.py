"""What trainings on any device must do: the tests that a GPU passes, and that a pretended device passes without one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar, TypedDict

import pytest

from tests.trainers import images, problems
from tests.trainers.runs import after, assert_close, bits, checkpoints, of_member, results, run
from trainers import Checkpoint, Member, Problem, TrainConfig
from trainers.checkpoint import dumps, loads
from trainers.config import EstimatorName, HyperparameterConfig, ModelConfig, Range
from trainers.hypergradients import ESTIMATORS
from trainers.optimisers.inner import STATE
from trainers.problem import build_problem
from trainers.records import Record


class Tolerance(TypedDict):
    """Of :func:`assert_close`."""

    rel: float
    abs_: float


NETWORKS = {  # None: the perceptron in closed form
    "perceptron": None,
    "module": images.small_cnn(),
    "module with batch normalisation": images.small_cnn(batch_norm=True),
}
RATES = {"sgd": 0.2, "momentum": 0.05, "adam": 0.01}
EVERYTHING = HyperparameterConfig(
    log10_l2=Range(-5.5, 0.0, learning_rate=0.1, scope="layer"),
    input_noise_std=Range(0.0, 0.8, learning_rate=0.05, coordinate="variance"),
    hidden_noise_std=Range(0.0, 0.8, learning_rate=0.05, scope="layer"),
    label_smoothing=Range(0.0, 0.5, learning_rate=0.02),
)
SLIDES = dataclasses.replace(EVERYTHING, hidden_noise_std=None, label_smoothing=None)  # all that they have formulas for
CUSTOM = HyperparameterConfig(
    label_smoothing=Range(0.01, 0.5, learning_rate=0.02),
    custom={"tests.trainers.regularisers:everything": Range(0.01, 0.5, learning_rate=0.02)},
)
WIDE = HyperparameterConfig(log10_l2=Range(-6.0, 40.0), clamp=False)
STEPS, EVERY, SAVED_AT = 4, 2, 3  # a checkpoint between two outer steps
SAVED = [*(("perceptron", optimiser) for optimiser in STATE), ("module with batch normalisation", "adam")]

# Devices add in other orders. Roundings of that size in every weight move no number of these trainings by a hundredth
# of this (test_devices.py); a number that is wrong is wrong by far more.
CLOSE = Tolerance(rel=1e-9, abs_=1e-10)


def config_of(
    model: ModelConfig | None,
    estimator: str,
    optimiser: str,
    *,
    hyperparameters: HyperparameterConfig = EVERYTHING,
    steps: int = STEPS,
    record_every: int = 2,
) -> TrainConfig:
    """A training in float64 that makes use of everything that its estimator has."""
    outer = {"estimator": estimator, "every": EVERY, "batch_size": 5, "look_back": 2}
    if estimator == "forward":
        outer |= {"tangent_batch": 4, "tangent_every": 2, "antithetic": True, "averaging": 0.9}
    inner = {"steps": steps, "optimiser": optimiser, "learning_rate": RATES[optimiser], "schedule": "linear"}
    if estimator == "seed_literal" and hyperparameters is EVERYTHING:
        hyperparameters = SLIDES
    if model is None:
        return problems.small_config(
            inner=inner, outer=outer, hyperparameters=hyperparameters, record_every=record_every
        )
    return images.image_config(model, hyperparameters, inner, outer, record_every)


def problem_of(config: TrainConfig, device: str) -> Problem:
    """The configuration's network on random data, there."""
    split = problems.random_split(0) if config.model.name == "mlp" else images.image_split()
    return build_problem(config, split, device)


def members_of(problem: Problem) -> list[Member]:
    """Three, in different places of the boxes; the last two share a seed."""
    boxes = list(zip(problem.layout.names, problem.layout.ranges, strict=True))
    return [
        Member(seed, {name: box.low + share * (box.high - box.low) for name, box in boxes})
        for seed, share in ((11, 0.3), (12, 0.6), (12, 0.8))
    ]


class DeviceConformance:
    """The tests. Inherit them, and name the device."""

    device: ClassVar[str]

    def opened(self) -> AbstractContextManager[None]:
        """What is open while the device is used."""
        return nullcontext()

    def trained(
        self,
        config: TrainConfig,
        device: str,
        members: Sequence[Member] = (),
        *,
        online: bool = True,
        checkpoint_every: int | None = None,
        resume: Checkpoint | None = None,
    ) -> list[Record]:
        """The records of a training there; through the bytes of a file, where it goes on from a checkpoint."""
        with nullcontext() if device == "cpu" else self.opened():
            problem = problem_of(config, device)
            assert problem.t1[0].device.type == device
            return run(
                problem,
                config,
                members or members_of(problem),
                online,
                checkpoint_every,
                resume and loads(dumps(resume)),
            )

    @pytest.mark.parametrize("optimiser", STATE)
    @pytest.mark.parametrize("estimator", ESTIMATORS)
    @pytest.mark.parametrize("model", NETWORKS.values(), ids=NETWORKS)
    def test_a_training_gives_what_it_gives_on_the_cpu(
        self, model: ModelConfig | None, estimator: EstimatorName, optimiser: str
    ) -> None:
        config = config_of(model, estimator, optimiser)
        found = self.trained(config, self.device)
        assert_close(found, self.trained(config, "cpu"), **CLOSE)
        assert all(result.final != result.initial for result in results(found))

    @pytest.mark.parametrize("model", NETWORKS.values(), ids=NETWORKS)
    def test_so_does_one_with_fixed_hyperparameters(self, model: ModelConfig | None) -> None:
        config = config_of(model, "t1t2", "sgd")
        found = self.trained(config, self.device, online=False)
        assert_close(found, self.trained(config, "cpu", online=False), **CLOSE)

    @pytest.mark.parametrize("estimator", ["t1t2", "forward"])
    def test_so_do_regularisers_of_a_users_own(self, estimator: EstimatorName) -> None:
        config = config_of(images.small_cnn(), estimator, "sgd", hyperparameters=CUSTOM)
        assert_close(self.trained(config, self.device), self.trained(config, "cpu"), **CLOSE)

    @pytest.mark.parametrize("model", NETWORKS.values(), ids=NETWORKS)
    def test_so_does_a_training_in_float32_to_its_fewer_digits(self, model: ModelConfig | None) -> None:
        """As studies are trained. Products whose factors a GPU rounds to ten bits (TF32) would be seen."""
        config = dataclasses.replace(config_of(model, "forward", "sgd"), dtype="float32")
        assert_close(self.trained(config, self.device), self.trained(config, "cpu"), rel=1e-4, abs_=1e-5)

    @pytest.mark.parametrize(("network", "optimiser"), SAVED)
    def test_a_checkpoint_goes_on_bit_for_bit_on_its_device(self, network: str, optimiser: str) -> None:
        config = config_of(NETWORKS[network], "forward", optimiser)
        whole = self.trained(config, self.device, checkpoint_every=SAVED_AT)
        saved = checkpoints(whole)[0]
        assert all(tensor.device.type == "cpu" for tensor in saved.tensors.values())
        rest = self.trained(config, self.device, checkpoint_every=SAVED_AT, resume=saved)
        assert bits(rest) == bits(after(whole, saved.step))

    @pytest.mark.parametrize(("network", "optimiser"), SAVED)
    def test_a_checkpoint_goes_on_on_the_other_device(self, network: str, optimiser: str) -> None:
        config = config_of(NETWORKS[network], "forward", optimiser)
        for first, second in ((self.device, "cpu"), ("cpu", self.device)):
            whole = self.trained(config, first, checkpoint_every=SAVED_AT)
            saved = checkpoints(whole)[0]
            wanted = [record for record in after(whole, saved.step) if not isinstance(record, Checkpoint)]
            assert_close(self.trained(config, second, resume=saved), wanted, **CLOSE)

    @pytest.mark.parametrize("model", NETWORKS.values(), ids=NETWORKS)
    def test_a_member_of_a_pack_equals_itself_alone(self, model: ModelConfig | None) -> None:
        config = config_of(model, "forward", "adam")
        packed = self.trained(config, self.device)
        member = members_of(problem_of(config, "cpu"))[1]
        assert_close(of_member(packed, 1), self.trained(config, self.device, [member]), **CLOSE)

    @pytest.mark.parametrize("network", ["perceptron", "module with batch normalisation"])
    @pytest.mark.parametrize("estimator", ["t1t2_at_theta", "forward"])
    def test_a_member_that_diverges_changes_no_bit_of_the_others(self, estimator: EstimatorName, network: str) -> None:
        config = config_of(NETWORKS[network], estimator, "sgd", hyperparameters=WIDE, steps=12, record_every=4)
        first, second, third = (
            Member(seed, {"log10_l2": -3.0, "input_noise_std": std}) for seed, std in ((11, 0.1), (12, 0.3), (13, 0.6))
        )
        bad = Member(12, {"log10_l2": 39.0, "input_noise_std": 0.3})  # θ grows 10³⁸ times with every step
        sound, broken = (self.trained(config, self.device, [first, middle, third]) for middle in (second, bad))
        assert [result.status for result in results(sound)] == ["completed"] * 3
        assert [result.status for result in results(broken)] == ["completed", "diverged", "completed"]
        for position in (0, 2):
            assert bits(of_member(broken, position)) == bits(of_member(sound, position))
