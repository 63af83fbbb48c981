"""Whatever a spec holds, the end is a message that names the key, or a study that can be planned: never anything else.

A new key of a spec is found by itself. With ``-m slow`` many more specs are drawn.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path as File
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service import SpecError, StudySpec, load_spec
from tests.service.spec.any_spec import LIMIT_S, VALID, WRONG, Path, ends_well, keys, with_value
from trainers.bounds import settings_of
from trainers.config import ConfigError, TrainConfig

KEYS = list(keys())
STUDIES = File(__file__).parents[3] / "deploy" / "studies"
TABLES = [StudySpec, TrainConfig, *{type(getattr(StudySpec("x"), s.name)) for s in settings_of(StudySpec)}]
TABLES = [table for table in TABLES if dataclasses.is_dataclass(table)]


@pytest.fixture(autouse=True, scope="module")
def _torch() -> None:
    """Loaded once, so that no case is charged with it."""
    assert ends_well(VALID) is None


def test_the_walk_finds_the_keys_of_every_table() -> None:
    assert len(KEYS) == len(set(KEYS)) > 80
    for path in (("seed",), ("models", 0, "hidden"), ("hyperparameters", "log10_l2", "low"), ("execution", "actors")):
        assert path in KEYS
    assert any(path[1:2] == ("custom",) and path[-1] == "scope" for path in KEYS)


@pytest.mark.parametrize("path", KEYS, ids=lambda path: ".".join(map(str, path)))
def test_a_wrong_value_of_any_key_is_named_or_means_a_study(path: Path) -> None:
    for name, value in WRONG.items():
        began = time.monotonic()
        message = ends_well(with_value(VALID, path, value))
        assert time.monotonic() - began < LIMIT_S, name
        assert message is None or str(path[-1]) in message, name


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_a_wrong_value_in_python_is_named(table: type) -> None:
    needed: dict[str, Any] = {"name": "x"} if table is StudySpec else {}
    for setting in settings_of(table):
        for value in WRONG.values():
            message = setting.name
            try:
                table(**{**needed, setting.name: value})
            except (ConfigError, SpecError) as error:
                message = str(error)
            assert setting.name in message


UNSHOWN = ("5,000 digits", "very nested", "long list", "long")
PRINTABLE = [value for name, value in WRONG.items() if name not in UNSHOWN]  # by Hypothesis
ANYTHING = st.recursive(
    st.one_of(st.sampled_from(PRINTABLE), st.integers(), st.floats(), st.text(max_size=30)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=6,
)
CHANGES = st.lists(st.tuples(st.sampled_from(KEYS), ANYTHING), min_size=1, max_size=5)


def changed_at_once(changes: list[tuple[Path, object]]) -> None:
    values = VALID
    for path, value in changes:
        values = with_value(values, path, value)
    ends_well(values)


test_several_wrong_values_at_once = settings(max_examples=300)(given(changes=CHANGES)(changed_at_once))
test_many_wrong_values_at_once = pytest.mark.slow(settings(max_examples=5_000)(given(changes=CHANGES)(changed_at_once)))


TOKENS = [
    b"\r", b"\n", b"\xef\xbb\xbf", b"\xff", b"\0", b'"', b"'''", b"[", b"]", b"[[", b"{", b"}", b"=", b".", b",", b"#",
    b"nan", b"-inf", b"1e400", b"5e-324", b"9" * 5000, b"true", b"1979-05-27", b"a." * 200, b"[" * 5000, b"models",
]  # fmt: skip
TEXTS = [path.read_bytes() for path in sorted(STUDIES.glob("*.toml"))]
EDITS = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 40), st.sampled_from(TOKENS) | st.binary(max_size=8)), max_size=6
)


def edited(tmp_path: File, text: bytes, edits: list[tuple[float, int, bytes]]) -> None:
    for place, length, put in edits:
        start = int(place * len(text))
        text = text[:start] + put + text[start + length :]
    path = tmp_path / "spec.toml"
    path.write_bytes(text)
    began, message = time.monotonic(), str(path)
    try:
        spec = load_spec(path)
    except SpecError as error:
        message = str(error)
    else:
        ends_well(spec.to_dict())
    assert str(path) in message
    assert time.monotonic() - began < LIMIT_S


def tried(examples: int) -> Any:
    """So many files: of published studies with some edits, and of any bytes."""
    once = settings(max_examples=examples, suppress_health_check=[HealthCheck.function_scoped_fixture])
    return once(given(text=st.sampled_from(TEXTS) | st.binary(max_size=200), edits=EDITS)(edited))


test_any_file_is_refused_or_read = tried(400)
test_many_files_are_refused_or_read = pytest.mark.slow(tried(5_000))
