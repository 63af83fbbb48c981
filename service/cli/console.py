"""What the commands share: arguments, exit codes, where they print, and how they name a study."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trainers.errors import LONGEST_LINE, shortened

if TYPE_CHECKING:
    from rich.console import Console

    from service.spec.study_spec import StudySpec

FAILED, BAD_INPUT, TAKEN_OVER, INTERRUPTED = 1, 2, 3, 130
STUDIES = "studies"  # the storage root where none is named

SpecArgument = Annotated[Path, typer.Argument(metavar="SPEC", help="The study's spec, a TOML file.")]
StudyArgument = Annotated[
    str, typer.Argument(metavar="STUDY", help="Study directory or URI, or a name below ./studies.")
]
StorageArgument = Annotated[str, typer.Argument(metavar="STORAGE", help="Storage root: a directory or a URI.")]
ActorsOption = Annotated[int | None, typer.Option(min=1, help="Ray actors at work; by default what the spec says.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


def example(line: str) -> str:
    """The end of a command's help; the backspace keeps the line whole."""
    return f"\b\nExample:\n  {line}"


def console(*, err: bool = False) -> Console:
    """A console on stdout (or stderr); wide where it is no terminal, so that tables in logs are whole."""
    from rich.console import Console

    stream = sys.stderr if err else sys.stdout
    return Console(file=stream, highlight=False, width=None if stream.isatty() else 220)


def print_json(value: Any) -> None:
    """``value`` as JSON on stdout; NaN and infinities, which JSON lacks, as null."""
    print(json.dumps(_finite(value), indent=2, default=str, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if hasattr(value, "item"):  # a NumPy scalar
        value = value.item()
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def find_users_modules() -> None:
    """Let the user's own trainers, models and data sets be found where the command is given, by Ray's workers too."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def study_at(text: str) -> str:
    """The directory or URI that the user means: as given, or the study of that name below ``studies``."""
    is_name = "/" not in text and "\\" not in text and text not in (".", "..")
    below = os.path.join(STUDIES, text)
    # Not Path.exists, which raises where a name is longer than the system allows.
    if is_name and not os.path.exists(f"{text}/study.json") and os.path.exists(f"{below}/study.json"):
        return below
    return text


def print_error(message: object) -> None:
    """Print a message on stderr."""
    print(f"error: {plain_lines(with_short_words(str(message)))}", file=sys.stderr)


def plain(text: str) -> str:
    """``text`` in one line, without characters that would steer a terminal or that it cannot be sent."""
    return "".join(character if character.isprintable() else " " for character in text)


def plain_lines(text: str) -> str:
    """The same in as many lines as it has."""
    return "\n".join(map(plain, text.split("\n")))


def print_doubts(spec: StudySpec) -> None:
    """Print on stderr what makes one wonder about a spec."""
    from service.spec.doubts import doubts_about

    for doubt in doubts_about(spec):
        print(f"warning: {doubt}", file=sys.stderr)


def with_short_words(text: str) -> str:
    """``text``, where words longer than any path are shortened: some libraries quote a bad value whole."""
    return re.sub(rf"\S{{{LONGEST_LINE},}}", lambda word: shortened(word[0]), text)
