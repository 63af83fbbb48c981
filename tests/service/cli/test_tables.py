"""Tables on narrow terminals, and with what looks like markup."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from service.cli.app import main
from service.cli.console import plain, print_error
from service.cli.display import live, print_studies, progress_view
from service.cli.tables import print_table
from service.records.events import Event
from tests.service.statuses import RUNNING
from tests.service.toy_studies import run_toy

HEADINGS = ["arm", *(f"loss_{number}" for number in range(12)), "error"]
NUMBERS = [f"-{number}.6345e-{number:02}" for number in range(12)]
ERROR = "cannot read [/data/mnist] " + "x" * 200
ROWS = [["online", *NUMBERS, ERROR], ["[bold]", *reversed(NUMBERS), "[/]"]]


def printed(width: int, *, terminal: bool = True, keys: int = 0) -> str:
    screen = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    print_table(screen, HEADINGS, ROWS, numbers=range(1, 13), keys=keys)
    return str(screen.file.getvalue())  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [24, 40, 80, 120, 200, 1000])
@pytest.mark.parametrize("keys", [0, 1])
def test_no_number_is_cut_and_no_word_lost(width: int, keys: int) -> None:
    text = printed(width, keys=keys)
    assert "…" not in text
    assert sorted(word for word in text.split() if "e-" in word) == sorted([*NUMBERS, *NUMBERS])
    assert all(heading in text for heading in HEADINGS)
    assert "[/data/mnist]" in text
    assert "[bold]" in text
    assert "[/]" in text
    assert text.count("x") == 200
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width


def test_parts_begin_with_the_key_or_the_number_of_the_row() -> None:
    parts = printed(80, keys=1).split("\n\n")
    assert len(parts) > 1
    assert [[line.split()[0] for line in part.splitlines()[:2]] for part in parts] == [["arm", "online"]] * len(parts)
    parts = printed(80).split("\n\n")
    assert [[line.split()[0] for line in part.splitlines()[:2]] for part in parts] == [["row", "0"]] * len(parts)


def test_where_there_is_no_terminal_a_row_is_a_line() -> None:
    lines = printed(30, terminal=False).splitlines()
    assert len(lines) == 3
    assert lines[1].split() == " ".join(ROWS[0]).split()


def test_the_studies_at_80_columns() -> None:
    screen = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    print_studies(screen, [dataclasses.replace(RUNNING, name="[/data]-" + "n" * 30, updated_at="2026-01-02T03:04:05")])
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    for word in ("[/data]-" + "n" * 30, "running", "1,644", "48.0 runs/min", "1 h 02 min", "2026-01-02 03:04:05"):
        assert word in text


def test_control_characters_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert plain("a\x1b[2Jb\nc") == "a [2Jb c"
    print_error("the user's own\x1b[2J\nmessage \ud800")
    assert capsys.readouterr().err == "error: the user's own [2J\nmessage  \n"
    screen = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    screen.print(progress_view(dataclasses.replace(RUNNING, error="no\x1b[2J")))
    with live(screen) as (on_progress, on_event):
        on_progress(RUNNING)
        on_event(Event("2026-01-02T03:04:05+00:00", "run_failed", "no\x1b[2J", {}))
    assert "\x1b[2J" not in screen.file.getvalue()  # type: ignore[attr-defined]


def test_an_error_with_brackets_is_shown_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_toy(tmp_path / "toy", trainer=f"{__name__}:bracketed", configurations=1)
    assert main(["results", str(tmp_path / "toy"), "--columns", "status,error"]) == 0
    assert "failed  RuntimeError: cannot read [/data/mnist] [bold]" in capsys.readouterr().out
    assert main(["list", str(tmp_path)]) == 0


def bracketed(*_: object, **__: object) -> None:
    raise RuntimeError("cannot read [/data/mnist] [bold]")
