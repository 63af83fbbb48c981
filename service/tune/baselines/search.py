"""One search: one method, from one repetition's starts, until it has spent what it may.

A rival is a real Tuner of Ray Tune, one trial at a time, so that the same seed gives the same trials.
"""

from __future__ import annotations

import dataclasses
import logging
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from service.executors.received import reason
from service.spec.arms import ARMS
from service.spec.plan import STREAMS, make_plan, stream
from service.spec.study_spec import StudySpec
from service.tune.baselines.methods import METHODS, POINTS, Box, Method, Start, scheduler_of, searcher_of, space_of
from service.tune.baselines.trials import Trial
from service.tune.training import SEED, Training, train_config
from trainers.config import TrainConfig
from trainers.costs import Costs
from trainers.problem import Problem, load_problem


@dataclass(frozen=True, kw_only=True)
class Search:
    """What is to be done."""

    spec: StudySpec
    model: str  # the label
    method: str
    repetition: int
    trainings: float  # the budget, in trainings with fixed hyperparameters
    costs: Costs


def fixed_cost(config: TrainConfig, costs: Costs) -> float:
    """Inner-step equivalents of one training with fixed hyperparameters, and of the look at its T2 loss."""
    return costs.compute(config.inner.steps, online=False, evaluations=1)


def run_search(search: Search) -> list[Trial]:
    """Run it in this process, which a rival's first search connects to a Ray of its own."""
    method = METHODS[search.method]
    spec = dataclasses.replace(search.spec, seed=stream(search.spec.seed, search.repetition, 0, STREAMS["baselines"]))
    if method.estimator is not None and method.estimator != "spec":
        spec = dataclasses.replace(spec, outer=dataclasses.replace(spec.outer, estimator=method.estimator))
    _, config = train_config(spec, search.model)
    steps = config.inner.steps
    spec = dataclasses.replace(spec, record_every=-(-steps // method.points))
    budget = search.trainings * fixed_cost(config, search.costs)
    starts = _starts(spec, search.model)
    if method.is_tuned:
        return _tuned(search, method, spec, starts, budget)
    return _rival(search, method, spec, starts, budget)


def _starts(spec: StudySpec, model: str) -> Iterator[Start]:
    """Those of the repetition, the same for every method: starts and seeds of a study with its seed."""
    plan = make_plan(spec, pack_size=1)
    place = plan.labels.index(model)
    slot = 0
    while True:
        run = plan.run(ARMS["online"], place, slot)
        yield {SEED: run.seed, **run.initial}
        slot += 1


def _tuned(search: Search, method: Method, spec: StudySpec, starts: Iterator[Start], budget: float) -> list[Trial]:
    """T1-T2 from one start after another while it can be paid for, once at least; each with a training of its ends."""
    _, config = train_config(spec, search.model)
    problem = _problem(config)
    cost = search.costs.compute(config.inner.steps, online=True, evaluations=1)
    trials: list[Trial] = []
    reruns: list[Trial] = []
    for number in range(max(1, int(budget / cost))):
        start = next(starts)
        trial = _trained(search, problem, config, method.name, number, start, online=True)
        again = _trained(
            search, problem, config, method.rerun, number, {SEED: start[SEED], **trial.final}, online=False
        )
        _add_up(trial, trials[-1:], [trial])
        _add_up(again, reruns[-1:], [trial, again])
        trials.append(trial)
        reruns.append(again)
    return [*trials, *reruns]


def _add_up(trial: Trial, before: list[Trial], own: list[Trial]) -> None:
    """What the search had spent when ``trial`` ended: as much as ``before``, and its ``own`` trainings."""
    trial.spent = sum(each.spent for each in before) + sum(each.compute for each in own)
    trial.spent_s = sum(each.spent_s for each in before) + sum(each.seconds for each in own)


def _trained(
    search: Search, problem: Problem, config: TrainConfig, arm: str, number: int, start: Start, *, online: bool
) -> Trial:
    """One whole training, alone; one that raises an exception has failed, as a trial of Tune's does."""
    training = Training(problem, config, start, seed=0, online=online, costs=search.costs)
    trial = Trial(arm=arm, number=number, seed=training.member.seed, initial=training.member.hyperparameters)
    begun = time.perf_counter()
    try:
        while not trial.reports or not trial.reports[-1]["done"]:
            trial.reports.append(training.advance())
    except Exception as error:
        trial.error = reason(error)
    trial.seconds = time.perf_counter() - begun
    trial.compute = trial.reports[-1]["compute"] if trial.reports else 0.0
    return trial


def _rival(search: Search, method: Method, spec: StudySpec, starts: Iterator[Start], budget: float) -> list[Trial]:
    """A Tuner of Ray Tune, until the budget is spent or, of a population, until all of it has been trained."""
    import ray
    from ray import tune

    from service.tune.baselines.recorder import Budget, Recorder
    from service.tune.trainable import OnlineTrainable

    _, config = train_config(spec, search.model)
    plan = make_plan(spec, pack_size=1)
    found = plan.boxes[plan.labels.index(search.model)]
    boxes: Box = {name: (box.low, box.high) for name, box in found.items()}
    most = method.population or int(search.trainings) * (POINTS if method.scheduler else 1)
    given = [next(starts) for _ in range(most)]
    seed = stream(search.spec.seed, search.repetition, 0, STREAMS["baselines"], zlib.crc32(method.name.encode()))
    record = Recorder(method.name, config, search.costs)
    if not ray.is_initialized():  # of one core, so that one trial is trained at a time
        ray.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    pauses = method.scheduler in ("hyperband", "pbt")  # a limit would count paused trials, too; one core is a limit
    with tempfile.TemporaryDirectory(prefix="t1t2-search-") as directory:
        tune.Tuner(
            tune.with_parameters(OnlineTrainable, spec=spec, model=search.model, online=False, costs=search.costs),
            param_space=space_of(method, boxes),
            tune_config=tune.TuneConfig(
                metric="t2_loss",
                mode="min",
                num_samples=most,
                max_concurrent_trials=None if pauses else 1,
                search_alg=searcher_of(method, boxes, given, seed),
                scheduler=scheduler_of(method, boxes, seed),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                storage_path=directory,
                name="search",
                verbose=0,
                stop=None if method.population else Budget(record, budget),
                callbacks=[record],
            ),
        ).fit()
    return list(record.trials.values())


_problems: dict[str, Problem] = {}


def _problem(config: TrainConfig) -> Problem:
    """Loaded once for all searches of a model in this process; how often points are recorded has no part in it."""
    key = repr(dataclasses.replace(config, record_every=1))
    if key not in _problems:
        _problems.clear()
        _problems[key] = load_problem(config)
    return _problems[key]
