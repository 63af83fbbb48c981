from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from service.cli.app import main
from tests.service.cli.test_app import fails
from tests.service.imports.searches import write_experiment, write_trial
from tests.service.toy_studies import run_toy

OPTIONS = ["--map", "weight_decay=log10_l2:log10", "--map", "net/noise=input_noise_std", "--metric", "val/loss=t2_loss"]


def test_an_import_says_what_came_and_what_did_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_experiment(tmp_path / "search")
    write_trial(source / "zero", [], {"weight_decay": 0.0, "net": {"noise": 0.5}})
    (source / "zero" / "error.txt").write_text("ValueError: boom")
    (source / "empty").mkdir()
    out = str(tmp_path / "out")
    assert main(["import", str(source), "--out", out, "--model", "mlp", *OPTIONS]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"4 trials of Ray Tune in {out}: 3 completed, 1 failed",
        "left out: 1 without any record",
        "trials without a number that their hyperparameter can take: weight_decay in 1",
        "parameters without a column: batch_size",
        f"runs:              t1t2 results {out}",
        f"over a region:     t1t2 report STUDY --beside {out}",
    ]
    assert main(["results", out, "--query", "status == 'completed'", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["t2_loss"] for row in rows] == [0.5, 1.5, 2.5]
    assert main(["status", out]) == 0
    assert "retry" not in capsys.readouterr().out
    assert main(["verify", out]) == 0
    assert main(["report", out, "--out", str(tmp_path / "report")]) == 0


def test_json_and_a_study_named_like_that_of_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_toy(tmp_path / "studies" / "toy", models=[{"hidden": [8]}])
    source = write_experiment(tmp_path / "search")
    assert main(["import", str(source), "--out", "out", "--like", "toy", *OPTIONS, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["kind"], made["statuses"], made["not_taken"]) == ("Ray Tune", {"completed": 3}, ["batch_size"])


def test_a_search_is_laid_over_the_region_of_a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy, out, report = (str(tmp_path / name) for name in ("toy", "out", "report"))
    run_toy(toy, models=[{"hidden": [8]}])
    source = str(write_experiment(tmp_path / "search"))
    assert main(["import", source, "--out", out, "--like", toy, *OPTIONS, "--name", "grid-search"]) == 0
    assert main(["report", toy, "--beside", out, "--out", report]) == 0
    row = pd.read_csv(Path(report, "tables", "overlay.csv")).iloc[0]
    assert (row["study"], row["beside"], row["arm"], row["n"]) == ("toy", "grid-search", "imported", 3)
    assert row["best_t2_loss"] == 0.5
    assert Path(report, "figures", "overlay.png").stat().st_size > 1000
    assert "holds no study" in fails(capsys, "report", toy, "--beside", str(tmp_path / "nowhere"))


def test_what_cannot_be_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    source = str(write_experiment(tmp_path / "search"))
    assert "no Ray Tune experiment" in fails(capsys, "import", str(tmp_path / "nowhere"), "--out", out, "--model", "m")
    assert "the parameters batch_size, net/noise" in fails(capsys, "import", source, "--out", out, "--model", "m")
    assert "is not empty" in fails(capsys, "import", source, "--out", source, "--model", "m")
    assert not (tmp_path / "out").exists()
