"""`t1t2 verify`: what it says of a sound study, of a damaged one, and of what is no study."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from service.cli.app import main
from tests.service.toy_studies import run_toy


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("verify") / "toy"
    run_toy(out, configurations=1)
    return out


@pytest.fixture
def study(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "toy"))


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 2
    path.write_bytes(content)


def test_a_sound_study(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(study)]) == 0
    files = [path for path in study.rglob("*") if path.is_file()]
    assert capsys.readouterr().out == f"{len(files)} sound\n"


def test_a_study_in_a_study_is_another_study(sound: Path, study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As `baselines` is: the commands on the outer one do not see it, and those on itself read it."""
    main(["list", "--json", str(study.parent)])
    alone = capsys.readouterr().out
    main(["verify", str(study)])
    files = capsys.readouterr().out
    shutil.copytree(sound, study / "baselines")
    assert main(["list", "--json", str(study.parent)]) == 0
    assert capsys.readouterr().out == alone
    assert main(["verify", str(study)]) == 0
    assert capsys.readouterr().out == files
    assert main(["verify", str(study / "baselines")]) == 0
    assert capsys.readouterr().out == files
    assert main(["list", "--json", str(study)]) == 0
    [listed] = json.loads(capsys.readouterr().out)
    assert listed["uri"].endswith("/toy/baselines")
    assert main(["results", str(study / "baselines"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == len(json.loads(_results(study, capsys)))


def _results(study: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["results", str(study), "--json"]) == 0
    return capsys.readouterr().out


def test_each_damaged_file_is_named_with_what_mends_it(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(study / "runs.parquet", -10)
    flip(study / "progress.json", 30)
    flip(next((study / "events").iterdir()), 30)
    (study / "attempts.parquet").unlink()
    (study / "checkpoints").mkdir()
    (study / "checkpoints" / "0123.zip").write_bytes(b"PK")
    before = {path: path.read_bytes() for path in study.rglob("*") if path.is_file()}
    assert main(["verify", str(study)]) == 1
    text = capsys.readouterr().out
    anew = f"`t1t2 resume {study}`: the table is made anew"
    for name, repair in {
        "runs.parquet: damaged (its content does not fit its checksum)": anew,
        "attempts.parquet: damaged (it is missing)": anew,
        "progress.json: damaged (": "none needed: the next driver writes it anew",
        "checkpoints/0123.zip: damaged (": "none needed: its pack starts again",
        "events/": "none: what can be read is shown",
    }.items():
        line = next(i for i, line in enumerate(text.splitlines()) if line.startswith(name))
        assert text.splitlines()[line + 1].startswith(f"  repair: {repair}")
    assert text.splitlines()[-1] == "4 sound, 5 damaged"
    assert before == {path: path.read_bytes() for path in study.rglob("*") if path.is_file()}, (
        "it has changed something"
    )


def test_for_machines(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(study), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["sound"] is True
    flip(study / "trajectories.parquet", 100)
    assert main(["verify", str(study), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["sound"] is False
    assert [file["path"] for file in found["files"] if file["verdict"] == "damaged"] == ["trajectories.parquet"]


def test_a_damaged_manifest_leaves_the_rest_to_be_examined(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study / "study.json").write_text("{")
    flip(study / "runs.parquet", 200)
    assert main(["verify", str(study)]) == 1
    text = capsys.readouterr().out
    assert "study.json: damaged" in text
    assert f"t1t2 run SPEC --out {study}" in text
    assert "runs.parquet: damaged" in text


def test_where_there_is_no_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path)]) == 2
    assert "holds no study" in capsys.readouterr().err
