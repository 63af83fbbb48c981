"""Trials that do nothing, through Ray Tune and through Optuna: what each adds to a trial."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WORKERS = 2
# Tune at its quietest, each by the documents or the source of Ray 2.60.
QUIET = {
    # No CSV, JSON and TensorBoard file for each trial.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # The state of the whole experiment is written as it ends, and not every ten seconds.
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",
    # So many trials may wait for an actor. By default 200 do, and each asks Ray for a placement group that it does not
    # need, as it is given an actor that is used again. With 1, Tune would never begin a second actor.
    "TUNE_MAX_PENDING_TRIALS_PG": str(WORKERS),
    # The points of a trial come in one message. Ray 2.60 reads each of these two where it means the other, so both have
    # the same value.
    "TUNE_RESULT_BUFFER_LENGTH": "1000",
    "TUNE_RESULT_BUFFER_MIN_TIME_S": "1000",
}


def start_ray() -> None:
    """A Ray of this process, with nothing that is not needed."""
    import ray

    ray.init("local", num_cpus=WORKERS, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)


def _class() -> Any:
    """A class of trials that do nothing, and whose actors can be used again."""
    from ray import tune

    class Noop(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            pass

        def step(self) -> dict[str, Any]:
            return {"loss": 0.5, "done": True}

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            return True

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            pass

        def load_checkpoint(self, checkpoint: Any) -> None:
            pass

    return Noop


def _function(config: dict[str, Any]) -> dict[str, Any]:
    return {"loss": 0.5}


def tune_trials(
    out: Path, runs: int, *, function: bool = False, settings: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Tune with ``reuse_actors``, two trials at a time; ``settings`` are of its environment.

    Without them Tune is as it comes: its loggers on, and snapshots whenever it wants to.
    """
    os.environ.update(settings or {})
    import ray
    from ray import tune

    start_ray()
    tuner = tune.Tuner(
        _function if function else _class(),
        param_space={"x": tune.uniform(0, 1)},
        tune_config=tune.TuneConfig(
            num_samples=runs, max_concurrent_trials=None if settings else WORKERS, reuse_actors=True
        ),
        run_config=tune.RunConfig(storage_path=str(out), verbose=0),
    )
    started, cpu = time.perf_counter(), time.process_time()
    results = tuner.fit()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    if results.num_terminated != runs:
        raise SystemExit(f"{results.num_terminated} of {runs} trials ended well")
    ray.shutdown()
    return {"runs": runs, "overhead_ms_per_run": 1000 * seconds / runs, "driver_cpu_ms_per_run": 1000 * cpu / runs}


def ray_tune(out: Path, runs: int) -> dict[str, Any]:
    """Tune as it comes, with ``reuse_actors``."""
    return tune_trials(out, runs)


def ray_tune_quiet(out: Path, runs: int) -> dict[str, Any]:
    """Tune at its quietest."""
    return tune_trials(out, runs, settings=QUIET)


def ray_tune_function(out: Path, runs: int) -> dict[str, Any]:
    """Tune at its quietest; a trial is a call of a function and not of a class."""
    return tune_trials(out, runs, function=True, settings=QUIET)


def optuna_storage(out: Path, kind: str) -> Any:
    """One of Optuna's storages, in the directory ``out``."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    out.mkdir(parents=True, exist_ok=True)
    if kind == "sqlite":
        return f"sqlite:///{out}/optuna.db"
    from optuna.storages.journal import JournalFileBackend

    return optuna.storages.JournalStorage(JournalFileBackend(f"{out}/optuna.log"))


def optuna_trials(out: Path, runs: int, kind: str) -> dict[str, Any]:
    """Optuna's random search in one process, on one of its storages."""
    import optuna

    study = optuna.create_study(storage=optuna_storage(out, kind), sampler=optuna.samplers.RandomSampler(seed=0))
    started = time.perf_counter()
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=runs)
    return {"runs": runs, "overhead_ms_per_run": 1000 * (time.perf_counter() - started) / runs}


def optuna_sqlite(out: Path, runs: int) -> dict[str, Any]:
    """Optuna on SQLite."""
    return optuna_trials(out, runs, "sqlite")


def optuna_journal(out: Path, runs: int) -> dict[str, Any]:
    """Optuna on its journal file."""
    return optuna_trials(out, runs, "journal")
