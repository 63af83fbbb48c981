"""What is surely a slip wants --yes, is told with its size, and costs no time otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service import SpecError, StudySpec, load_spec
from service.cli.app import main
from service.cli.slips import ask_about_slips, core_years
from tests.service.toy_studies import TOY, run_toy, toml

STUDIES = Path(__file__).parents[3] / "deploy" / "studies"


def spec(**values: Any) -> StudySpec:
    return StudySpec.from_dict({"name": "x", "arms": ["initial", "online"], **values})


@pytest.mark.parametrize("path", sorted(STUDIES.glob("**/*.toml")), ids=lambda path: path.stem)
def test_no_published_study_is_a_slip(path: Path) -> None:
    ask_about_slips(load_spec(path), yes=False, here=True)


SLIPS: dict[str, tuple[dict[str, Any], str]] = {
    "runs": ({"configurations": 10**7, "trainer": "m:f"}, "x: the study has 20,000,000 runs (more than 1,000,000)."),
    "points": (
        {"configurations": 10**5, "record_every": 1, "trainer": "m:f", "inner": {"steps": 10**6}},
        "x: its trajectories take about 10.4 TiB (record_every = 1).",
    ),
    "actors": ({"execution": {"actors": 10**5}}, "x: its 100,000 actors take about 35,000 GiB, and "),
}


@pytest.mark.parametrize(("values", "message"), SLIPS.values(), ids=SLIPS)
def test_a_slip_is_told_with_its_size_and_goes_with_yes(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        ask_about_slips(spec(**values), yes=False, here=True)
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith("If that is meant, give the command again with --yes")
    ask_about_slips(spec(**values), yes=True, here=True)


def test_actors_elsewhere_take_no_memory_here() -> None:
    ask_about_slips(spec(execution={"actors": 10**5}), yes=False)


def test_many_long_trainings_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    load = {"configurations": 400_000, "inner": {"steps": 10**6}, "record_every": 10**6}
    assert 0.1 < core_years(spec(**load)) < 10_000, "8e11 steps of 10 µs to 10 ms are 0.25 to 250 years"
    monkeypatch.setattr("service.cli.slips._measured", lambda *_, **__: 1e-4)
    assert core_years(spec(**load)) == pytest.approx(8e11 * 1e-4 / (365 * 86400))


def test_what_cannot_be_a_core_year_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.slips._measured", lambda *_, **__: pytest.fail("it is too small to be measured"))
    assert core_years(spec(configurations=1000)) == 0.0
    assert core_years(spec(configurations=10**6, trainer="m:f")) == 0.0
    assert core_years(spec(configurations=10**6, inner={"steps": 10**6}, data={"name": "m:f"})) == 0.0


def test_steps_too_long_to_be_tried_are_told_by_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.cli.slips._measured", lambda *_, **__: pytest.fail("it would take long"))
    large = [{"hidden": [20_000, 20_000]}]
    assert 100 < core_years(spec(configurations=10**4, models=large, inner={"steps": 10**5})) < 10_000
    channels = [{"name": "cnn", "channels": [2000, 2000]}]
    assert core_years(spec(configurations=10**5, models=channels)) > 1


def test_the_commands_ask(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "spec.toml", tmp_path / "out"
    path.write_text(toml({**TOY, "configurations": 10**6}))
    for words in (["run", "--out", str(out)], ["submit", "--address", "http://127.0.0.1:9", "--storage", str(out)]):
        assert main([words[0], str(path), *words[1:]]) == 2
        assert "error: toy: the study has 6,000,016 runs (more than 1,000,000)" in capsys.readouterr().err
        assert not out.exists()
    assert main(["submit", str(path), "--address", "http://127.0.0.1:9", "--storage", str(out), "--yes"]) != 0
    assert "--yes" not in capsys.readouterr().err, "it went on, and found nobody at this address"


def test_an_extension_asks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "toy"
    run_toy(out, configurations=1)
    assert main(["extend", str(out), "--configurations", "1000000"]) == 2
    assert "error: toy: the study has 6,000,016 runs" in capsys.readouterr().err
    assert not list(out.glob("control/*"))
    assert main(["extend", str(out), "--configurations", "1000000", "--yes"]) == 0
    assert len(list(out.glob("control/*"))) == 1
    assert main(["extend", str(out), "--configurations", "1000000", "--yes"]) == 0


def test_doubts_are_told_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "spec.toml"
    path.write_text(toml({**TOY, "inner": {"steps": 100, "momentum": 0.5}, "configurations": 10**6}))
    assert main(["run", str(path), "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "warning: inner.momentum: has no effect where inner.optimiser is not 'momentum'"
    assert lines[1].startswith("error: ")
