import json
from pathlib import Path

import pytest

from service.cli.app import main
from service.cli.results import print_summary
from service.client.results import write
from service.storage.files import open_storage
from tests.service.object_store import s3_server
from tests.service.toy_studies import run_toy

SMALL = {"grid": {"points": {"log10_l2": 3, "input_noise_std": 3}, "replicates": 2}, "configurations": 4}


def test_the_summary_that_ends_a_run_is_a_table_of_the_main_figures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uri = run_toy(tmp_path / "toy", **SMALL).uri
    written = write([uri], tmp_path / "report")
    print_summary(written)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0].startswith("95 % intervals in brackets")
    assert len(lines) == 1 + len(written.main_figures())
    for line, (label, *texts) in zip(lines[1:], written.main_figures(), strict=True):
        assert line.startswith(label.strip())
        assert all(text in line for text in texts)


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
