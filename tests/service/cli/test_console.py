import json
import math
from pathlib import Path

import numpy as np
import pytest

from service.cli.console import print_error, print_json, study_at


def test_json_has_null_for_what_it_cannot_say(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"loss": math.nan, "rows": [(np.float32(0.5), np.int64(3), -math.inf)], 7: Path("studies/x")})
    assert json.loads(capsys.readouterr().out) == {"loss": None, "rows": [[0.5, 3, None]], "7": "studies/x"}


def test_a_name_is_a_study_below_the_default_root_unless_a_study_is_nearer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(place: Path) -> None:
        place.mkdir(parents=True)
        (place / "study.json").write_text("{}")

    monkeypatch.chdir(tmp_path)
    make(tmp_path / "studies" / "mine")
    assert study_at("mine") == "studies/mine"
    assert study_at("yours") == "yours"
    assert study_at("./mine") == "./mine"
    assert study_at("s3://bucket/mine") == "s3://bucket/mine"
    make(tmp_path / "mine")
    assert study_at("mine") == "mine"


def test_an_error_is_one_message_in_which_words_are_no_longer_than_a_path(capsys: pytest.CaptureFixture[str]) -> None:
    path = "/".join(["folder"] * 40)
    print_error(f"{path}: cannot be read, nor {'x' * 10_000} beside it")
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: cannot be read, nor xxx")
    assert error.endswith("xxx (10000 characters) beside it\n")
    assert len(error) < 450


def test_a_name_longer_than_the_system_allows_is_no_study_below_the_default_root() -> None:
    assert study_at("x" * 10_000) == "x" * 10_000
