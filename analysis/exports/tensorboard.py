"""TensorBoard event files, with a directory for each run, and the table of its HParams page."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

# Not hparams.api, which needs TensorFlow.
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, summary_v2
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo
from tensorboard.summary.writer.record_writer import RecordWriter

from analysis.exports.selection import Run, Selection, result_columns

_WORDS = ("model", "arm", "status")  # shown beside the hyperparameters, to choose runs by
_ENDS = {"completed": api_pb2.STATUS_SUCCESS}  # all other runs have failed


def write(selection: Selection, folder: Path, place: Path) -> str:
    """Directories ``MODEL/ARM/CONFIGURATION/REPLICATE``, each with an event file.

    Its scalars are what was recorded on the way, below ``trajectory/``, and all that was measured at the end, at the
    last step. TensorBoard keeps them with the seven digits of float32. The hyperparameters that a run started with, and
    its model, arm and status, are columns of the page HParams.
    """
    _write(folder, 0.0, [(0, _columns(selection))])
    for run in selection.runs():
        below = folder.joinpath(*map(_directory, run.place))
        below.mkdir(parents=True)
        _write(below, run.finished.timestamp(), _summaries(run))
    return f"tensorboard --logdir {shlex.quote(str(place))}"


def _directory(name: str) -> str:
    """A directory called ``name``, whatever anybody wrote there: never one that leads elsewhere."""
    quoted = quote(name, safe=" :")
    return quoted.replace(".", "%2E") if quoted in (".", "..") else quoted


def _write(folder: Path, when: float, summaries: Iterable[tuple[int, Any]]) -> None:
    """An event file of summaries with their steps; all have the time ``when`` (s), as only their steps are known."""
    with (folder / f"events.out.tfevents.{when:010.0f}.t1t2").open("wb") as file:
        records = RecordWriter(file)
        records.write(Event(wall_time=when, file_version="brain.Event:2").SerializeToString())
        for step, summary in summaries:
            records.write(Event(wall_time=when, step=step, summary=summary).SerializeToString())


def _columns(selection: Selection) -> Any:
    """What the page HParams shows of each run."""
    words = [summary_v2.HParam(name, summary_v2.Discrete(selection.frame[name].unique().tolist())) for name in _WORDS]
    boxes = [
        summary_v2.HParam(name, summary_v2.RealInterval(low, high)) for name, (low, high) in selection.boxes.items()
    ]
    # The page shows the first five unasked: losses and errors.
    results = sorted(result_columns(list(selection.frame.columns)), key=lambda name: name.endswith("_final"))
    metrics = [summary_v2.Metric(name) for name in results]
    return summary_v2.hparams_config_pb([*words, *boxes], metrics, time_created_secs=0.0)


def _summaries(run: Run) -> Iterator[tuple[int, Any]]:
    hparams = {**{name: run.row[name] for name in _WORDS}, **run.starts()}
    yield 0, summary_v2.hparams_pb(hparams, trial_id=run.row["run_id"], start_time_secs=run.started.timestamp())
    for step, scalars in run.scalars():
        yield step, _scalars({f"trajectory/{name}": value for name, value in scalars.items()})
    yield run.row["steps"] or 0, _scalars(run.results())
    end = SessionEndInfo(
        status=_ENDS.get(run.row["status"], api_pb2.STATUS_FAILURE), end_time_secs=run.finished.timestamp()
    )
    about = metadata.create_summary_metadata(HParamsPluginData(session_end_info=end))
    value = Summary.Value(tag=metadata.SESSION_END_INFO_TAG, metadata=about, tensor=metadata.NULL_TENSOR)
    yield 0, Summary(value=[value])


def _scalars(values: dict[str, float]) -> Any:
    return Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])
