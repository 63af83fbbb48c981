"""Reads the directory of a Ray Tune experiment, as Tune's default loggers leave it. It needs no Ray.

Only JSON, CSV and plain text are read: ``params.json``, ``result.json``, ``progress.csv`` and ``error.txt`` of each
trial, and the experiment's ``experiment_state-*.json``. Tune also leaves pickles, some of them as hexadecimal text
within that JSON. None of them is ever decoded, because to load a pickle is to run what its writer wants.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from service.errors import StorageError, StudyError
from service.imports.trials import Report, Source, Trial, flat, is_number
from service.storage.files import Storage, open_storage

ITERATION = "training_iteration"  # Tune's own count of the reports of a trial
# What Tune adds to every report. None of it is a metric of the training.
BOOKKEEPING = {
    "checkpoint_dir_name", "date", "done", "experiment_id", "experiment_tag", "hostname", "iterations_since_restore",
    "node_ip", "pid", "should_checkpoint", "time_since_restore", "time_this_iter_s", "time_total_s", "timestamp",
    "timesteps_since_restore", "timesteps_total", "episodes_total", ITERATION, "trial_id", "warmup_time",
}  # fmt: skip
RECORDS = ("params.json", "result.json", "progress.csv")  # a directory with one of them is a trial's
LAST_SECOND = 253_402_300_800  # since 1970, of the year 9999
UNENDED = {"RUNNING": "still running", "PAUSED": "paused", "PENDING": "not started"}
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # that Ray puts into the text of errors


class _State(NamedTuple):
    """What the experiment's state says of one trial."""

    trial_id: str
    status: str
    started_at: float | None


def read_experiment(uri: str, step: str = ITERATION) -> Source:
    """The trials of the Tune experiment in the directory or at the URI ``uri``.

    ``step`` is the metric that counts the steps of a training. Tune does not record why a trial has ended. One that
    ended without an error is taken for stopped early if it reported less often than the longest one. A trial that has
    not ended is left out, and so is a line of its records that cannot be read; both are counted.

    Raises:
        StudyError: there is no experiment here, or no trial reports ``step``.
    """
    storage = open_storage(uri, tries=1)
    try:
        states = _states(storage)
        left_out: Counter[str] = Counter()
        trials = [
            trial
            for name in storage.directories()
            if (trial := _trial(storage, name, states.get(name), step, left_out)) is not None
        ]
    except StorageError as error:
        raise StudyError(f"{uri}: cannot be read ({error.__cause__ or error})") from None
    if not trials and not left_out:
        raise StudyError(
            f"{uri}: holds no Ray Tune experiment; give the directory whose subdirectories hold {', '.join(RECORDS)}"
        )
    known = sorted({name for trial in trials for name, value in trial.metrics.items() if is_number(value)})
    if known and not any(trial.reports for trial in trials):
        raise StudyError(f"--step {step}: no trial reports it as a whole number; there are {', '.join(known)}")
    longest = max((_iterations(trial) for trial in trials), default=0)
    ended = (
        replace(trial, end="stopped") if trial.end == "completed" and _iterations(trial) < longest else trial
        for trial in trials
    )
    return Source(
        kind="Ray Tune",
        name=uri.partition("?")[0].rstrip("/").rpartition("/")[2],
        location=storage.uri,
        trials=tuple(_public(trial) for trial in sorted(ended, key=_start)),
        left_out=left_out,
    )


def _start(trial: Trial) -> tuple[float, str]:
    """Trials without a time come last, by their ids."""
    return (float("inf") if trial.started_at is None else trial.started_at, trial.id)


def _iterations(trial: Trial) -> float:
    return _number(trial.metrics.get(ITERATION)) or 0.0


def _public(trial: Trial) -> Trial:
    """The trial without what Tune keeps for itself."""

    def kept(metrics: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in metrics.items() if name not in BOOKKEEPING}

    reports = tuple(replace(report, metrics=kept(report.metrics)) for report in trial.reports)
    return replace(trial, metrics=kept(trial.metrics), reports=reports)


def _states(storage: Storage) -> dict[str, _State]:
    """The state of each trial by its directory, from the latest file of the experiment's state; none without one."""
    names = [name for name in storage.files("", ".json") if name.startswith("experiment_state-")]
    content = _json(storage.read(names[-1])) if names else None
    found = {}
    for entry in _listed(content, "trial_data"):
        trial, run = (_json(part) if isinstance(part, str) else part for part in (*_listed(entry), None, None)[:2])
        if isinstance(trial, dict) and isinstance(trial.get("relative_logdir"), str):
            started = _time(run.get("start_time")) if isinstance(run, dict) else None
            found[trial["relative_logdir"]] = _State(str(trial.get("trial_id")), str(trial.get("status")), started)
    return found


def _listed(value: Any, key: str | None = None) -> list[Any]:
    """``value``, or its ``key``, if that is a list."""
    inner = value.get(key) if key is not None and isinstance(value, dict) else value
    return inner if isinstance(inner, list) else []


def _trial(storage: Storage, name: str, state: _State | None, step: str, left_out: Counter[str]) -> Trial | None:
    """The trial in the directory ``name``; None where it is none, or has not ended."""
    here = storage.child(name)
    records = [record for record in RECORDS if here.exists(record)]
    if not records:
        if state is not None or (not here.files("") and not here.directories()):
            left_out["without any record"] += 1
        return None
    parameters = _json(here.read("params.json")) if "params.json" in records else None
    reported = list(_reports(here, records, left_out))
    latest = reported[-1] if reported else {}
    configs = [flat(line["config"]) for line in reported if isinstance(line.get("config"), dict)]
    given = flat(parameters) if isinstance(parameters, dict) else None
    error = _last_line(here.read("error.txt")) if here.exists("error.txt") else None
    status = state.status if state else "TERMINATED" if latest.get("done") else "ERROR" if error else "RUNNING"
    if status in UNENDED:
        left_out[UNENDED[status]] += 1
        return None
    if given is None and not configs:
        left_out["without parameters that can be read"] += 1
        return None
    config = configs[-1] if configs else given or {}
    metrics = _metrics(latest)
    finished_at, seconds = _time(latest.get("timestamp")), _number(latest.get("time_total_s"))
    began = None if finished_at is None or seconds is None else _time(finished_at - seconds)
    pid = latest.get("pid")
    return Trial(
        id=state.trial_id if state else str(latest.get("trial_id") or name),
        end="failed" if status == "ERROR" else "completed",
        reports=_by_step(reported, step, config),
        metrics=metrics,
        initial=configs[0] if configs else config,
        final=_held(config, metrics),
        error=(error or "its error was not recorded") if status == "ERROR" else None,
        started_at=state.started_at if state and state.started_at is not None else began,
        finished_at=finished_at,
        seconds=seconds,
        node_ip=str(latest["node_ip"]) if latest.get("node_ip") else None,
        pid=pid if isinstance(pid, int) and 0 < pid < 2**63 else None,
    )


def _by_step(reported: list[dict[str, Any]], step: str, config: Mapping[str, Any]) -> tuple[Report, ...]:
    """The reports in the order of their steps; of two at one step, as a restored trial leaves them, the later one."""
    by_step: dict[int, Report] = {}
    for line in reported:
        metrics = _metrics(line)
        at = _number(metrics.get(step))
        if at is not None and at.is_integer() and 0 <= at < 2**53:
            then = flat(line["config"]) if isinstance(line.get("config"), dict) else config
            by_step[int(at)] = Report(step=int(at), metrics=metrics, parameters=_held(then, metrics))
    return tuple(by_step[at] for at in sorted(by_step))


def _held(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that a trial had when it reported ``metrics``.

    What it reports by the name of a parameter is that parameter's value: a training that tunes itself, such as one of
    :class:`service.tune.OnlineTrainable`, has only its start in the config.
    """
    return {name: metrics[name] if is_number(metrics.get(name)) else value for name, value in config.items()}


def _metrics(line: Mapping[str, Any]) -> dict[str, Any]:
    return flat({name: value for name, value in line.items() if name != "config"})


def _reports(here: Storage, records: list[str], left_out: Counter[str]) -> Iterator[dict[str, Any]]:
    """What a trial has reported: from ``result.json``, or else from ``progress.csv``."""
    if "result.json" in records:
        for line in here.read("result.json").splitlines():
            values = _json(line)
            if isinstance(values, dict):
                yield values
            elif line.strip():
                left_out["damaged lines of result.json"] += 1
    elif "progress.csv" in records:
        text = here.read("progress.csv").decode("utf-8", "replace")
        rows = csv.DictReader(text.replace("\0", "").splitlines())
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error:  # a cell of more than 128 KiB
                left_out["damaged lines of progress.csv"] += 1
                continue
            if None in row or None in row.values():  # more or fewer values than there are columns
                left_out["damaged lines of progress.csv"] += 1
            else:
                yield {name: _parsed(value) for name, value in row.items()}


def _parsed(text: str) -> Any:
    """A cell of a CSV file: an integer, a float, true or false, or a text."""
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _json(content: str | bytes) -> Any:
    """What JSON says; None for what is none. NaN and infinities, which Tune writes, are floats."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):  # no JSON, no UTF-8; nested too deeply
        return None


def _number(value: Any) -> float | None:
    """A finite number; None for anything else."""
    try:
        number = float(value) if is_number(value) else math.nan
    except OverflowError:  # an integer of hundreds of digits
        return None
    return number if math.isfinite(number) else None


def _time(value: Any) -> float | None:
    """Seconds since 1970; None for what no date can be."""
    seconds = _number(value)
    return seconds if seconds is not None and 0 <= seconds < LAST_SECOND else None


def _last_line(content: bytes) -> str:
    """The last line of an error's traceback, which names it."""
    lines = [line for line in _COLOURS.sub("", content.decode("utf-8", "replace")).splitlines() if line.strip()]
    return lines[-1].strip() if lines else "its error was not recorded"
