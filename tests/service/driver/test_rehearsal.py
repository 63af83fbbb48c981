"""User modules and functions that raise, exit, loop or cannot be compiled: refused before anything is made."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from service import SpecError, StudySpec, run_study
from service.cli.app import main
from service.driver.rehearsal import refuse_main, rehearse
from service.executors.serial import SerialExecutor
from tests.service.studies import toy_spec
from tests.service.toy_studies import toml

GOOD = """
import numpy as np, torch
from trainers.data import Samples
from trainers.hyperparameters import Regulariser

print("hello")
def train(config, members, online, checkpoint_every=None, resume=None):
    yield from ()
def data():
    x = np.random.default_rng(0).random((2000, 4), dtype=np.float32)
    return Samples(x, (x[:, 0] > 0.5).astype(np.int64), 2)
def net(shape, classes):
    return torch.nn.Linear(4, classes)
penalty = Regulariser(penalty=lambda parameters, value: value * sum((p**2).sum() for p in parameters.values()))
"""
LOOP = "while True: pass"
SMALL: dict[str, Any] = {"t1_size": 100, "t2_size": 100, "test_size": 100}
BOX = {"low": 0.0, "high": 1.0}
TRAINER: dict[str, Any] = {"trainer": "mine:train"}
DATA: dict[str, Any] = {"trainer": "t1t2", "data": {"name": "mine:data", **SMALL}}
MODEL = DATA | {"models": [{"name": "mine:net"}], "grid": {}, "arms": ["online"]}
CUSTOM = {"trainer": "t1t2", "grid": {}, "arms": ["online"], "hyperparameters": {"custom": {"mine:penalty": BOX}}}

# What the module does instead, what the spec names, and the words of the refusal.
BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "exits": ("import sys\n\nsys.exit(0)", TRAINER, "trainer = 'mine:train': exited with code 0 (at {}/mine.py:3)"),
    "exits hard": ("import os\nos._exit(7)", TRAINER, "trainer = 'mine:train': ended the process with code 7; must"),
    "crashes": ("import os\nos.abort()", TRAINER, "trainer = 'mine:train': was killed by SIGABRT; must return"),
    "raises": ("x = 1\nx / 0", TRAINER, "cannot be imported (ZeroDivisionError: division by zero)"),
    "raises, where": ("x = 1\nx / 0", TRAINER, "(at {}/mine.py:2)"),
    "cannot be compiled": ("x = 1\ndef f(:\n", TRAINER, "(at {}/mine.py:2)"),
    "stops": ("raise KeyboardInterrupt('me')", TRAINER, "trainer = 'mine:train': raised KeyboardInterrupt: me (at"),
    "loops": (LOOP, TRAINER, "trainer = 'mine:train': still running after 1 s, the limit that"),
    "has no such name": ("x = 1", TRAINER, "trainer = 'mine:train': cannot be imported (AttributeError"),
    "data raise": (GOOD + "def data(): raise OSError('no disk')", DATA, "data.name = 'mine:data': the function raised"),
    "data exit": (GOOD + "def data(): raise SystemExit(3)", DATA, "data.name = 'mine:data': exited with code 3 (at"),
    "data take for ever": (GOOD + "def data():\n    while True: pass", DATA, "'mine:data': still running after"),
    "data end all": (GOOD + "def data(): import os; os._exit(0)", DATA, "'mine:data': ended the process with code 0"),
    "a model raises": (GOOD + "def net(*_): return 1 / 0", MODEL, "models.name = 'mine:net': the function raised"),
    "a model exits": (GOOD + "def net(*_): exit(1)", MODEL, "models.name = 'mine:net': exited with code 1 (at"),
    "a model takes for ever": (GOOD + "def net(*_):\n    while True: pass", MODEL, "'mine:net': still running"),
    "a regulariser raises": (
        GOOD + "def p(parameters, value): raise KeyError('w')\npenalty = Regulariser(penalty=p)", CUSTOM, "KeyError"
    ),
    "a regulariser exits": (
        GOOD + "def p(parameters, value): exit(4)\npenalty = Regulariser(penalty=p)", CUSTOM, "exited with code 4 (at"
    ),
    "a regulariser takes for ever": (
        GOOD + "import time\ndef p(parameters, value): time.sleep(99)\npenalty = Regulariser(penalty=p)",
        CUSTOM,
        "hyperparameters.custom = 'mine:penalty': still running after",
    ),
    "is no regulariser": (GOOD + "penalty = 3", CUSTOM, "hyperparameters.custom = 'mine:penalty': must be a"),
}  # fmt: skip


def mine(directory: Path, text: str, monkeypatch: pytest.MonkeyPatch, values: dict[str, Any]) -> StudySpec:
    (directory / "mine.py").write_text(text)
    monkeypatch.syspath_prepend(str(directory))
    limit_s = 1.0 if text == LOOP else 8.0
    return toy_spec(**values | {"execution": {"load_timeout_s": limit_s}})


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
def test_users_code_that_misbehaves_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, values, words = BAD[name]
    with pytest.raises(SpecError) as caught:
        rehearse(mine(tmp_path, text, monkeypatch, values))
    assert words.format(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["exits", "exits hard", "loops", "raises"])
def test_a_module_that_misbehaves_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test_users_code_that_misbehaves_is_refused(name, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("values", [TRAINER, DATA, MODEL, CUSTOM])
def test_users_code_that_behaves_is_not(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    rehearse(mine(tmp_path, GOOD, monkeypatch, values))
    assert capfd.readouterr() == ("", "")


def test_what_is_built_in_takes_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.driver.rehearsal.subprocess", None)
    rehearse(toy_spec(trainer="t1t2"))


def test_threads_and_children_that_go_on_do_not_hold_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import subprocess, threading, time\nsubprocess.Popen(['sleep', '20'])\ntrain = 1\n"
    text += "threading.Thread(target=time.sleep, args=(20,)).start()"
    start = time.monotonic()
    rehearse(mine(tmp_path, text, monkeypatch, TRAINER))
    assert time.monotonic() - start < 15


@pytest.mark.parametrize(
    "values",
    [
        {"trainer": "__main__:f"},
        {"trainer": "t1t2", "data": {"name": "__main__:f"}},
        {"trainer": "t1t2", "models": [{"name": "__main__:f"}]},
        {"trainer": "t1t2", "grid": {}, "arms": ["online"], "hyperparameters": {"custom": {"__main__:f": BOX}}},
    ],
)
def test_functions_of_the_script_itself_are_refused_and_nothing_is_made(values: dict[str, Any], tmp_path: Path) -> None:
    spec = toy_spec(**values)
    with pytest.raises(SpecError, match=r"= '__main__:f': is in the script itself"):
        refuse_main(spec)
    for executor in (None, SerialExecutor()):
        with pytest.raises(SpecError, match="'__main__:f'"):
            run_study(spec, tmp_path / "toy", executor=executor)
    assert not list(tmp_path.iterdir())


def test_sys_exit_at_import_is_exit_code_2_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    mine(tmp_path, "import sys\nsys.exit(0)", monkeypatch, TRAINER)
    (tmp_path / "mine.toml").write_text(toml({"name": "mine", **TRAINER}))
    assert main(["run", "mine.toml"]) == 2
    assert "error: trainer = 'mine:train': exited with code 0 (at" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.py", "mine.toml"]
