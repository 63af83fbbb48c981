"""Whatever the files of an experiment hold, an import gives tables or one error, and never a traceback."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis import load_study
from service import StudyError
from service.imports.study import import_study
from tests.service.imports.searches import write_experiment

STATE = "experiment_state-2026-01-01_00-00-00.json"
FILES = ["result.json", "params.json", "progress.csv", "error.txt"]
NUMBERS = st.integers() | st.integers(-(10**400), 10**400) | st.floats()
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(st.characters(exclude_categories=()), max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["val", "config", "timestamp", "time_total_s", "training_iteration", "pid", "node_ip", "trial_id", "done"]
)
KNOWN = st.sampled_from(["weight_decay", "net", "loss", "noise"])
REPORTS = st.dictionaries(KEYS, VALUES | st.dictionaries(KNOWN, VALUES, max_size=3), max_size=6)


def import_or_refuse(folder: Path, out: Path) -> None:
    """The import is done, and can be read; or it is refused, and nothing is made."""
    maps = ["weight_decay=log10_l2:log10", "net/noise=input_noise_std"]
    try:
        import_study(folder, out, maps=maps, metrics=["val/loss=t2_loss"], model="mlp")
    except StudyError:
        assert not out.exists()
    else:
        study = load_study(out)
        assert len(study.runs) == study.info["planned"]["imported"]
        assert study.trajectories["run_id"].isin(study.runs["run_id"]).all()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_experiment(tmp_path_factory.mktemp("any") / "search", trials=2)
    trial = {"trial_id": "t0", "status": "TERMINATED", "relative_logdir": "train_t0"}
    (folder / STATE).write_text(json.dumps({"trial_data": [[json.dumps(trial), json.dumps({"start_time": 1.0})]]}))
    return folder


@given(st.sampled_from(FILES), st.lists(REPORTS, min_size=1, max_size=3), VALUES)
@settings(max_examples=60)
def test_any_values(whole: Path, name: str, lines: list[Any], state: Any) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(shutil.copytree(whole, Path(place) / "search"))
        (folder / "train_t1" / name).write_text("\n".join(json.dumps(line) for line in lines))
        run = json.dumps({"start_time": state})
        trial = json.dumps({"trial_id": state, "status": "TERMINATED", "relative_logdir": "train_t1"})
        (folder / STATE).write_text(json.dumps({"trial_data": [[trial, run], state]}))
        import_or_refuse(folder, Path(place) / "out")


@given(
    st.sampled_from(["result.json", "params.json", STATE]), st.integers(0, 400), st.binary(max_size=3), st.booleans()
)
@settings(max_examples=60)
def test_any_damage(whole: Path, name: str, at: int, put: bytes, is_cut: bool) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(shutil.copytree(whole, Path(place) / "search"))
        path = folder / name if name == STATE else folder / "train_t0" / name
        content = path.read_bytes()
        path.write_bytes(content[:at] + put + (b"" if is_cut else content[at + len(put) :]))
        import_or_refuse(folder, Path(place) / "out")


def test_values_that_are_nested_deeply(whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "search"))
    deep = '{"a":' * 900 + "1" + "}" * 900
    (folder / "train_t0" / "params.json").write_text(deep)
    (folder / "train_t1" / "result.json").write_text(f'{{"config": {deep}, "done": true}}')
    import_or_refuse(folder, tmp_path / "out")
