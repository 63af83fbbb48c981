"""What a type checker knows of the documented names. ``make lint`` checks this file; it is never run.

A call whose type is lost would be ``Any``, which ``assert_type`` refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import assert_type

import pandas as pd
from matplotlib.axes import Axes

from analysis import (
    Diagonal,
    Estimate,
    NotComputable,
    Region,
    RegionShares,
    ReportPaths,
    Study,
    compare_arms,
    find_region,
    load_study,
    plots,
    region_shares,
    split,
    wilson,
    write_report,
)
from service import (
    Event,
    SpecError,
    StudyClient,
    StudyError,
    StudySpec,
    StudyStatus,
    list_studies,
    load_spec,
    read_events,
    read_spec,
    read_status,
    resume_study,
    run_study,
)
from trainers import Checkpoint, Member, Point, Problem, Result, TrainConfig, boxes, load_problem, train
from trainers.checkpoint import dumps, loads
from trainers.config import Range


def a_training_without_the_service(config: TrainConfig) -> None:
    problem = load_problem(config)
    assert_type(problem, Problem)
    assert_type(boxes(config), dict[str, Range])
    records = train(problem, config, [Member(1, {"log10_l2": -4.0})], online=True)
    assert_type(records, Iterator[Point | Checkpoint | Result])
    for record in records:
        if isinstance(record, Checkpoint):
            assert_type(dumps(record), bytes)
            assert_type(loads(dumps(record)), Checkpoint)
        elif isinstance(record, Result):
            assert_type(record.t2_loss, float)
            assert_type(record.final, dict[str, float])


def a_study_in_this_process(out: Path) -> None:
    spec = load_spec("study.toml")
    assert_type(spec, StudySpec)
    assert_type(StudySpec.from_dict({"name": "tiny"}), StudySpec)
    status = run_study(spec, out, on_event=print, on_progress=print)
    assert_type(status, StudyStatus)
    assert_type(resume_study(str(out)), StudyStatus)
    assert_type(read_status(str(out)), StudyStatus)
    assert_type(read_spec(str(out)), StudySpec)
    assert_type(list_studies(str(out)), list[StudyStatus])
    for event in read_events(str(out)):
        assert_type(event, Event)
    error: StudyError = SpecError("a spec's error is a study's error")
    raise error


def a_study_on_a_cluster() -> None:
    client = StudyClient(storage="studies")
    assert_type(client, StudyClient)
    assert_type(client.status("tiny"), StudyStatus)
    assert_type(client.list(), Sequence[StudyStatus])
    assert_type(client.results("tiny"), pd.DataFrame)


def an_analysis(ax: Axes) -> None:
    study = load_study("studies/tiny")
    assert_type(study, Study)
    assert_type(study.runs, pd.DataFrame)
    assert_type(study.best("t2_error", n=3, arm="online"), pd.DataFrame)
    region = find_region(study.runs, "mlp-64", study.boxes)
    assert_type(region, Region | NotComputable)
    if isinstance(region, NotComputable):
        assert_type(region.reason, str)
        return
    shares = region_shares(study.runs, region)
    assert_type(shares, RegionShares | NotComputable)
    assert_type(wilson(3, 4), Estimate)
    assert_type(split(study.runs, "mlp-64", 0.5), pd.DataFrame | NotComputable)
    assert_type(compare_arms(study.runs, model="mlp-64"), Diagonal | NotComputable)
    assert_type(plots.region_convergence(ax, study.runs, study.trajectories, study.boxes, region), Axes)
    assert_type(write_report([study], "out"), ReportPaths)
