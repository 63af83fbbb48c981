"""The same trainings by the service, Ray Tune, Optuna and a pool of processes: a function for each.

Each is given the spec of a study with fixed hyperparameters and returns the last values of its runs, in their order.
Whatever computes has one thread, and two workers are at work.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from service import StudySpec
from service.spec.plan import make_plan
from tests.benchmarks.tuners import QUIET, WORKERS, optuna_storage, start_ray
from trainers import Member, Problem, Result, load_problem, train

Values = list[float]  # of FINAL, for one run
FINAL = ("t1_loss", "t2_loss", "t2_error", "test_loss", "test_error")
FORK = multiprocessing.get_context("fork")  # a worker has all that was imported and loaded before it began


def study_spec(runs: int, steps: int) -> StudySpec:
    """``runs`` trainings on the digits, each with hyperparameters of its own, which stay fixed; else the defaults."""
    return StudySpec.from_dict(
        {
            "name": "real-job",
            "configurations": runs,
            "arms": ["initial"],
            "models": [{"hidden": [64]}],
            "inner": {"steps": steps},
            "execution": {"actors": WORKERS, "runs_per_actor": "auto"},
        }
    )


def members_of(spec: StudySpec) -> list[Member]:
    """The seeds and hyperparameters that the study gives its runs."""
    plan = make_plan(spec)
    (arm,) = plan.arms
    runs = [plan.run(arm, 0, slot) for slot in range(plan.slots(arm))]
    return [Member(run.seed, run.initial) for run in runs]


@cache
def loaded(steps: int) -> Problem:
    """The data and the network, once in each process; both are the same for any number of runs."""
    (config,) = study_spec(1, steps).train_configs()
    return load_problem(config)


def trained(spec: StudySpec, members: Sequence[Member]) -> list[Values]:
    """The last values of a pack."""
    (config,) = spec.train_configs()
    results = [
        each for each in train(loaded(spec.inner.steps), config, members, online=False) if isinstance(each, Result)
    ]
    by_member = sorted(results, key=lambda result: result.member)
    return [[getattr(result, name) for name in FINAL] for result in by_member]


def service(spec: StudySpec, out: Path, *, runs_per_actor: int | None = None) -> list[Values]:
    """``run_study``, and the tables that it publishes; packs of the size that it chooses, or of a given one."""
    from analysis import load_study
    from service import run_study

    execution = spec.to_dict()["execution"] | ({"runs_per_actor": runs_per_actor} if runs_per_actor else {})
    run_study(StudySpec.from_dict(spec.to_dict() | {"execution": execution}), out)
    table = load_study(str(out)).runs.sort_values("config_index")
    return [list(map(float, row)) for row in table[list(FINAL)].to_numpy()]


def ray_tune(spec: StudySpec, out: Path) -> list[Values]:
    """Tune at its quietest, with actors that are used again; a trial is a run."""
    os.environ.update(QUIET)
    import ray
    from ray import tune
    from ray.tune.search.basic_variant import BasicVariantGenerator

    from service.tune import OnlineTrainable
    from trainers.costs import Costs

    members = members_of(spec)
    points = [{"seed": member.seed, **member.hyperparameters} for member in members]
    space = {name: tune.uniform(0, 1) for name in points[0]}  # every trial is a given point, so nothing is drawn of it
    start_ray()
    costs = Costs(step_s=1.0, online=1.0, evaluation=1.0)  # so that no time goes into measuring them
    results = tune.Tuner(
        tune.with_parameters(OnlineTrainable, spec=spec, online=False, costs=costs),
        param_space=space,
        tune_config=tune.TuneConfig(
            num_samples=len(points), search_alg=BasicVariantGenerator(points_to_evaluate=points), reuse_actors=True
        ),
        run_config=tune.RunConfig(storage_path=str(out), verbose=0),
    ).fit()
    ray.shutdown()
    ended = [results[number] for number in range(len(results))]
    by_seed = {result.config["seed"]: result.metrics for result in ended if result.config and result.metrics}
    return [[by_seed[member.seed][name] for name in FINAL] for member in members]


def optuna_worker(spec: StudySpec, out: Path, trials: int) -> None:
    """One of the processes that share Optuna's study."""
    import optuna

    members = members_of(spec)

    class Given(optuna.samplers.RandomSampler):
        """The hyperparameters that belong to the number of the trial."""

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> float:
            value: float = members[trial.number].hyperparameters[param_name]
            return value

    def objective(trial: optuna.Trial) -> float:
        member = members[trial.number]
        for name, value in member.hyperparameters.items():
            trial.suggest_float(name, value - 1, value + 1)
        (values,) = trained(spec, [member])
        trial.set_user_attr("final", values)
        return values[FINAL.index("t2_loss")]

    storage = optuna_storage(out, "journal")
    optuna.load_study(study_name=spec.name, storage=storage, sampler=Given()).optimize(objective, n_trials=trials)


def optuna_processes(spec: StudySpec, out: Path) -> list[Values]:
    """Two processes of Optuna on one journal file; an objective is a run."""
    import optuna

    loaded(spec.inner.steps)  # before the processes fork
    runs = spec.configurations
    optuna.create_study(study_name=spec.name, storage=optuna_storage(out, "journal"))
    shares = [runs // WORKERS + (worker < runs % WORKERS) for worker in range(WORKERS)]
    workers = [FORK.Process(target=optuna_worker, args=(spec, out, share)) for share in shares]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    trials = optuna.load_study(study_name=spec.name, storage=optuna_storage(out, "journal")).trials
    return [trial.user_attrs["final"] for trial in trials]


def pool(spec: StudySpec, out: Path, *, runs_at_once: int = 1) -> list[Values]:
    """A pool of two processes, which keeps nothing: no other can do with less."""
    loaded(spec.inner.steps)  # before the processes fork
    members = members_of(spec)
    packs = [members[start : start + runs_at_once] for start in range(0, len(members), runs_at_once)]
    with FORK.Pool(WORKERS) as processes:
        return [values for pack in processes.imap(partial(trained, spec), packs) for values in pack]


def pool_of_packs(spec: StudySpec, out: Path) -> list[Values]:
    """The pool, with packs of the service's size."""
    return pool(spec, out, runs_at_once=make_plan(spec).pack_size)


FLOOR, FLOOR_OF_PACKS = "pool of processes", "pool of processes, packs"
ALONE: dict[str, Callable[[StudySpec, Path], list[Values]]] = {
    "service": partial(service, runs_per_actor=1),
    "Ray Tune": ray_tune,
    "Optuna": optuna_processes,
    FLOOR: pool,
}
PACKED: dict[str, Callable[[StudySpec, Path], list[Values]]] = {
    "service, packs": service,
    FLOOR_OF_PACKS: pool_of_packs,
}
