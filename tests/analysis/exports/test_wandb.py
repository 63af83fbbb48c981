from __future__ import annotations

import importlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.exports.export import export_study
from analysis.study import Study

wandb = pytest.importorskip("wandb", reason="wandb is not installed")

BLOCK = 32768
FULL, LAST = 1, 4


def records(path: Path) -> Iterator[Any]:
    """The records of a run's file: W&B's own messages, in the framing of a LevelDB log."""
    messages: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")
    content, place, message = path.read_bytes(), 7, b""
    assert content[:4] == b":W&B"
    while place < len(content):
        if BLOCK - place % BLOCK < 7:  # what is left of a block holds no header
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        message += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (FULL, LAST):
            yield messages.Record.FromString(message)
            message = b""


def values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


@pytest.fixture(scope="module")
def chosen(layered: Study) -> pd.DataFrame:
    return layered.runs.query("model == 'mlp-64' and arm == 'online'")


@pytest.fixture(scope="module")
def folder(layered: Study, chosen: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exports") / "wandb"
    exported = export_study(layered, "wandb-offline", out, chosen)
    assert exported.opened_by == f"wandb sync {out}/wandb/offline-run-*"
    return out / "wandb"


def test_each_run_has_its_history_configuration_and_summary(layered: Study, chosen: pd.DataFrame, folder: Path) -> None:
    assert set(chosen["status"]) == {"completed", "diverged"}
    assert len(list(folder.glob("offline-run-*"))) == len(chosen)
    for row in chosen.to_dict("records"):
        [file] = folder.glob(f"offline-run-*-{row['run_id']}/run-{row['run_id']}.wandb")
        read = list(records(file))
        run = next(record.run for record in read if record.WhichOneof("record_type") == "run")
        assert (run.project, run.run_group) == ("layered", "mlp-64/online")
        assert run.display_name == f"mlp-64/online/{row['config_index']}/{row['replicate']}"
        config = values(run.config.update)
        assert config["log10_l2_layer2"] == row["log10_l2_layer2_initial"]
        assert (config["arm"], config["status"], config["seed"]) == (row["arm"], row["status"], row["seed"])
        history = [values(record.history.item) for record in read if record.WhichOneof("record_type") == "history"]
        points = layered.trajectories[layered.trajectories["run_id"] == row["run_id"]]
        assert [point["_step"] for point in history] == list(points["step"])
        assert [point["trajectory/input_noise_std"] for point in history if "trajectory/input_noise_std" in point] == (
            list(points["input_noise_std"].dropna())
        )
        summary: dict[str, Any] = {}
        for record in read:
            if record.WhichOneof("record_type") == "summary":
                summary |= values(record.summary.update)
        assert summary.get("test_loss") == (row["test_loss"] if row["status"] == "completed" else None)
        exits = [record.exit.exit_code for record in read if record.WhichOneof("record_type") == "exit"]
        assert exits == [0 if row["status"] == "completed" else 1]


def test_nothing_tells_of_the_machine_that_exports(folder: Path) -> None:
    for file in folder.glob("offline-run-*/run-*.wandb"):
        kinds = {record.WhichOneof("record_type") for record in records(file)}
        assert [record.run.host for record in records(file) if record.WhichOneof("record_type") == "run"] == [""]
        assert not kinds & {"environment", "stats", "files"}
        assert not list(file.parent.glob("files/*"))
