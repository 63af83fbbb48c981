"""The numbers that studies were published with: kept, and compared up to the rounding that kinds of CPU differ by."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from tests.golden.__main__ import CHECKPOINT, KEPT
from tests.golden.cases import CHECKPOINT_AT, CONTINUED, configurations, differences, study, training
from tests.golden.cases import plain as in_json
from trainers.checkpoint import load

CONFIGURATIONS = dict(configurations())


@pytest.fixture(scope="module")
def kept() -> dict[str, Any]:
    record: dict[str, Any] = json.loads(gzip.decompress(KEPT.read_bytes()))
    return record


def test_the_record_holds_every_case(kept: dict[str, Any]) -> None:
    assert kept.keys() == {*CONFIGURATIONS, "study"}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_a_training_gives_the_kept_numbers(name: str, kept: dict[str, Any]) -> None:
    config = CONFIGURATIONS[name]
    rounding = 1e-7 if config.dtype == "float64" else 1e-4

    assert list(differences(in_json(training(config)), kept[name], rounding)) == []


def test_a_training_goes_on_from_the_kept_checkpoint(kept: dict[str, Any]) -> None:
    found = in_json(training(CONFIGURATIONS[CONTINUED], load(CHECKPOINT)))
    rest = [point for point in kept[CONTINUED]["points"] if point["step"] > CHECKPOINT_AT]

    assert len(rest) == 2  # of two members, at the last step
    assert list(differences(found["points"], rest, 1e-7)) == []
    assert list(differences(found["results"], kept[CONTINUED]["results"], 1e-7)) == []


def test_a_study_gives_the_kept_tables(kept: dict[str, Any]) -> None:
    assert list(differences(in_json(study()), kept["study"], 1e-7)) == []


def test_a_number_that_moved_is_told(kept: dict[str, Any]) -> None:
    moved = json.loads(json.dumps(kept["perceptron-default"]))
    moved["results"][0]["t2_loss"] *= 1 + 1e-15

    assert len(list(differences(moved, kept["perceptron-default"]))) == 1
    assert list(differences(moved, kept["perceptron-default"], 1e-7)) == []
