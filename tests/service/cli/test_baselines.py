from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pandas as pd
import pytest

from service.cli.app import main
from tests.service.cli.test_app import fails
from tests.service.tune.baselines.settings import give_costs

SPEC = (
    'name = "small"\ndata = { name = "digits", t1_size = 200, t2_size = 100, test_size = 100 }\n'
    "models = [{ hidden = [8] }]\ninner = { steps = 50, batch_size = 50 }\nouter = { batch_size = 50 }\n"
)


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    give_costs(monkeypatch)
    Path("spec.toml").write_text(SPEC)
    return "spec.toml"


def test_it_says_how_far_it_is_and_where_the_tables_are(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["baselines", spec, "--methods", "online, t1t2", "--repetitions", "2", "--trainings", "2"]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [
        "4 searches, 4 of them now: studies/small/baselines",
        "see them:  t1t2 report studies/small/baselines",
    ]
    assert printed.err.splitlines()[0] == "0 of 4: searches done"
    assert printed.err.splitlines()[-1] == "4 of 4: t1t2, mlp-8, repetition 1"
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {"uri": "studies/small/baselines", "searches": 4, "ran": 0, "failed": 0}
    assert main(["results", "studies/small/baselines", "--arm", "rerun", "--json"]) == 0
    assert {row["arm"] for row in json.loads(capsys.readouterr().out)["rows"]} == {"rerun"}
    assert main(["report", "studies/small/baselines", "--out", "report"]) == 0
    standings = pd.read_csv("report/tables/baselines_differences.csv")
    assert {"online", "online + rerun", "t1t2", "t1t2 + rerun"} == set(standings["method"])
    for command in ("verify", "status"):
        assert main([command, "studies/small/baselines"]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--methods", "onlin"], "methods = 'onlin': must be among online, t1t2, random"),
        (["--methods", "online,online"], "each once"),
        (["--methods", ""], "must be one or more of online"),
        (["--repetitions", "1"], "repetitions = 1: must be at least 2"),
        (["--trainings", "0"], "trainings = 0: must be at least 1"),
        (["--processes", "0"], "processes = 0: must be at least 1"),
    ],
)
def test_bad_input_is_refused_before_anything_is_made(
    spec: str, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert message in fails(capsys, "baselines", spec, *options)
    assert not Path("studies").exists()


def test_a_trainer_of_the_users_own_has_no_rivals(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path(spec).write_text(f'trainer = "tests.service.toy:train"\n{SPEC}')
    assert "trainer = 'tests.service.toy:train': must be 't1t2'" in fails(capsys, "baselines", spec)
    assert not Path("studies").exists()


def test_without_optuna_the_line_that_installs_it_is_told(
    spec: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "optuna" else found(name))
    assert "pip install 't1t2-study[optuna]'" in fails(capsys, "baselines", spec)
    assert not Path("studies").exists()
    assert main(["baselines", spec, "--methods", "online", "--repetitions", "2", "--trainings", "2"]) == 0
