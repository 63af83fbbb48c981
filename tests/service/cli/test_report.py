import json
from pathlib import Path

import pytest

from analysis import load_study, summarise
from service.cli.app import main
from service.cli.summary import summary_rows
from service.storage.files import open_storage
from tests.analysis.synthetic import write_study
from tests.service.object_store import s3_server
from tests.service.toy_studies import run_toy

SMALL = {"grid": {"points": {"log10_l2": 3, "input_noise_std": 3}, "replicates": 2}, "configurations": 4}


def test_the_summary_has_the_main_figures(tmp_path: Path) -> None:
    statistics = summarise(load_study(write_study(tmp_path / "study", models=("mlp-64",), configurations=10, points=2)))
    rows = {label.strip(): values for label, *values in summary_rows(statistics)}
    for column, model in enumerate(["mlp-64"]):
        found = statistics["models"][model]
        end = found["region"]["t2_loss"]["shares"]["end"]
        assert rows["optimal region, share of the box"][column] == f"{found['region']['t2_loss']['volume']:.1%}"
        assert rows["online runs that end in it"][column] == (
            f"{end['value']:.0%} [{end['low']:.0%}, {end['high']:.0%}] of 10"
        )
        spread = next(line for line in found["contraction"] if line["along"] == "log10_l2")
        assert rows["spread of log10_l2, end / start"][column].startswith(f"{spread['std_ratio']:.2f} [")
        difference = found["diagonal"]["online_rerun"]["test_loss"]["mean_difference"]
        assert rows["test loss, rerun − online"][column].startswith(f"{difference['value']:+.4f} [")
        overhead = next(line for line in statistics["overhead"] if line["model"] == model)
        assert rows["time, online / initial"][column].startswith(f"{overhead['ratio']:.2f} [")
    shares = [rows[f"initial → rerun, {outcome}"][0] for outcome in ("good→good", "bad→good", "bad→bad", "good→bad")]
    assert sum(int(text.split("%")[0]) for text in shares) in (99, 100, 101)
    assert list(rows) == [
        "optimal region, share of the box",
        "online runs that start in it",
        "online runs that end in it",
        "spread of log10_l2, end / start",
        "spread of input_noise_std, end / start",
        "initial → rerun, good→good",
        "initial → rerun, bad→good",
        "initial → rerun, bad→bad",
        "initial → rerun, good→bad",
        "test loss, rerun − online",
        "time, online / initial",
    ]


def test_what_a_study_does_not_allow_is_a_dash(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "study", arms=("initial", "online"), models=("mlp-64",)))
    rows = {label.strip(): values for label, *values in summary_rows(summarise(study))}
    assert rows["optimal region, share of the box"] == ["–"]
    assert rows["test loss, rerun − online"] == ["–"]
    assert rows["time, online / initial"] != ["–"]


@pytest.mark.slow
def test_a_report_of_one_study_and_of_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        run_toy(tmp_path / name, name=name, **SMALL)
    assert main(["report", str(tmp_path / "a"), "--json"]) == 0
    places = json.loads(capsys.readouterr().out)
    assert places["report"] == str(tmp_path / "a" / "report.html")
    for place in (places["report"], places["summary"], *places["figures"]):
        assert Path(place).stat().st_size > 0
    assert main(["report", str(tmp_path / "a"), str(tmp_path / "b"), "--out", str(tmp_path / "both")]) == 0
    out = capsys.readouterr().out
    assert f"report:  {tmp_path}/both/report.html\n" in out
    listed = [line.split()[-1] for line in out.partition("figures:")[2].splitlines()]
    assert listed
    assert all(line.endswith(".png") and Path(line).exists() for line in listed)
    statistics = json.loads((tmp_path / "both" / "summary.json").read_text())["studies"]
    assert [study["study"]["name"] for study in statistics] == ["a", "b"]


@pytest.mark.slow
def test_the_report_of_a_study_in_an_object_store_lies_beside_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with s3_server(monkeypatch, "studies") as store:
        uri = store.uri("studies/toy")
        run_toy(uri, **SMALL)
        assert main(["results", uri, "--limit", "1"]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == "parquet: s3://studies/toy/runs.parquet"
        assert main(["report", uri, "--json"]) == 0
        places = json.loads(capsys.readouterr().out)
        assert places["report"] == "s3://studies/toy/report.html"
        storage = open_storage(uri)
        assert b"<html" in storage.read("report.html")
        for figure in places["figures"]:
            assert storage.exists(figure.removeprefix("s3://studies/toy/"))


def test_bad_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert "holds no study" in capsys.readouterr().err
    run_toy(tmp_path / "toy", **SMALL)
    (tmp_path / "file").write_text("")
    assert main(["report", str(tmp_path / "toy"), "--out", str(tmp_path / "file" / "report")]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --out '{tmp_path}/file/report': must be a directory that can be written (")
    assert len(error.splitlines()) == 1
