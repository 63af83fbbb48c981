"""A study that could not begin leaves nothing behind, so that a corrected spec may take its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import StudyError, StudySpec, run_study
from service.driver.discard import discard_untrained
from service.errors import StudyBusyError
from service.executors.base import Outcome
from service.executors.serial import SerialExecutor
from service.storage.files import open_storage
from tests.service.studies import run_serially, toy_spec


class Refusing(SerialExecutor):
    """None of its workers starts."""

    def wait(self, timeout_s: float) -> list[Outcome]:
        raise StudyError("no actor starts: the regulariser is none")


def corrected() -> StudySpec:
    return toy_spec(seed=6, configurations=1)


def test_a_study_whose_workers_do_not_start_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "studies" / "toy"
    with pytest.raises(StudyError, match="no actor starts"):
        run_study(toy_spec(), out, executor=Refusing())
    assert not list(tmp_path.iterdir())
    assert run_serially(corrected(), out).state == "completed"


def test_one_that_stood_there_before_stays(tmp_path: Path) -> None:
    class Interrupted(SerialExecutor):
        def wait(self, timeout_s: float) -> list[Outcome]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(toy_spec(), tmp_path / "toy", executor=Interrupted())
    with pytest.raises(StudyError, match="no actor starts"):
        run_study(toy_spec(), tmp_path / "toy", executor=Refusing())
    assert (tmp_path / "toy" / "study.json").exists()


def test_one_with_results_stays(tmp_path: Path) -> None:
    run_serially(toy_spec(), tmp_path / "toy")
    with pytest.raises(StudyError, match="a study with results is not discarded"):
        discard_untrained(open_storage(tmp_path / "toy"))
    assert (tmp_path / "toy" / "study.json").exists()


def test_one_that_another_driver_has_taken_is_left_to_it(tmp_path: Path) -> None:
    class Robbed(SerialExecutor):
        def wait(self, timeout_s: float) -> list[Outcome]:
            raise StudyBusyError("another driver has taken this study")

    with pytest.raises(StudyBusyError):
        run_study(toy_spec(), tmp_path / "toy", executor=Robbed())
    assert (tmp_path / "toy" / "study.json").exists()
