"""A training that begins where others are: the exploit of population based training."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tests.trainers.problems import small_config, small_problem
from tests.trainers.runs import after, bits, checkpoints, points, run
from trainers import Checkpoint, ConfigError, Member, Problem, TrainConfig, train
from trainers.state import start

DONORS = [Member(5, {"log10_l2": -3.0, "input_noise_std": 0.3}), Member(6, {"log10_l2": -5.0, "input_noise_std": 0.7})]
HEIRS = [Member(7, {"log10_l2": -2.6, "input_noise_std": 0.1}), Member(5, {"log10_l2": -4.0, "input_noise_std": 0.5})]
STEPS, BRANCH = 24, 12


def problem_of(estimator: str, optimiser: str) -> tuple[Problem, TrainConfig]:
    inner = {"steps": STEPS, "optimiser": optimiser, "learning_rate": 0.05}
    config = small_config(inner=inner, outer={"estimator": estimator, "every": 4, "averaging": 0.9})
    return small_problem(config), config


def donated(problem: Problem, config: TrainConfig, online: bool) -> Checkpoint:
    return checkpoints(run(problem, config, DONORS, online, checkpoint_every=BRANCH))[0]


@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize("estimator", ["t1t2", "t1t2_lagged", "forward"])
@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adam"])
def test_all_is_the_donors_but_the_hyperparameters_and_the_draws(estimator: str, optimiser: str, online: bool) -> None:
    """As if the donor's own training were resumed with these written into its checkpoint."""
    problem, config = problem_of(estimator, optimiser)
    donor = donated(problem, config, online)
    values = torch.tensor([[m.hyperparameters[n] for n in problem.layout.names] for m in HEIRS], dtype=torch.float64)
    written = {"seeds": torch.tensor([7, 5]), "initial": values, "h": values, "finite_h": values}
    by_hand = Checkpoint(donor.step, donor.tensors | written)

    branched = list(train(problem, config, HEIRS, online=online, branch_from=donor))
    assert bits(branched) == bits(run(problem, config, HEIRS, online, resume=by_hand))
    first = points(branched)[0]
    assert first.step == BRANCH + 1
    assert first.hyperparameters == HEIRS[0].hyperparameters  # no outer step is due yet


def test_who_branches_off_from_itself_goes_on() -> None:
    problem, config = problem_of("forward", "adam")
    whole = run(problem, config, DONORS, online=False, checkpoint_every=BRANCH)
    itself = train(problem, config, DONORS, online=False, branch_from=checkpoints(whole)[0])
    assert bits(list(itself)) == bits([r for r in after(whole, BRANCH) if not isinstance(r, Checkpoint)])


def test_the_donors_checkpoint_stays_as_it_is() -> None:
    problem, config = problem_of("forward", "momentum")
    donor = donated(problem, config, online=True)
    before = bits([donor])
    list(train(problem, config, HEIRS, online=True, branch_from=donor))
    assert bits([donor]) == before


def test_a_donor_that_has_diverged_ends_its_heirs_the_same_way() -> None:
    problem, config = problem_of("forward", "sgd")
    donor = donated(problem, config, online=False)
    donor.tensors["theta"][0] = math.nan
    *_, first, second = train(problem, config, HEIRS, online=False, branch_from=donor)
    assert (first.status, second.status) == ("diverged", "completed")  # type: ignore[union-attr]


def test_a_checkpoint_of_another_configuration_arm_or_pack_is_refused() -> None:
    problem, config = problem_of("forward", "adam")
    donor = donated(problem, config, online=True)
    for members, online in ((HEIRS[:1], True), (HEIRS, False)):
        with pytest.raises(ConfigError, match=r"checkpoint with .*: must be of the same configuration, arm and pack"):
            list(train(problem, config, members, online=online, branch_from=donor))
    shorter = replace(config, inner=replace(config.inner, steps=10))
    with pytest.raises(ConfigError, match=r"checkpoint at step 12: must be at most inner.steps = 10"):
        list(train(problem, shorter, HEIRS, online=True, branch_from=donor))


def test_one_checkpoint_at_most() -> None:
    problem, config = problem_of("forward", "adam")
    donor = donated(problem, config, online=True)
    with pytest.raises(ConfigError, match="resume and branch_from are both given"):
        list(train(problem, config, DONORS, online=True, resume=donor, branch_from=donor))


def test_who_resumes_a_strangers_checkpoint_is_told_of_the_other_way() -> None:
    problem, config = problem_of("forward", "adam")
    state = start(problem, config, HEIRS, online=True)
    with pytest.raises(ConfigError, match=r"train\(branch_from=…\) begins from a checkpoint of others"):
        state.restore(donated(problem, config, online=True))
