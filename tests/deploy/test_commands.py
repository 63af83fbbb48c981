"""Every command line in deploy/ and in the documents is one that the programs know."""

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer

from service.cli.app import app

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("*/README.md"))]
MANIFESTS = sorted(
    path
    for path in (ROOT / "deploy").rglob("*")
    if path.is_file() and path.suffix not in (".md", ".toml", ".ipynb") and "studies" not in path.parts
)
SOURCES = [*MANIFESTS, *(path for path in DOCUMENTS if path.exists())]
END_OF_COMMAND = re.compile(r"\|.*|&.*|;.*|2?>.*|<.*|\S+;")
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands_of(path: Path) -> str:
    """What is there to be typed or run: a manifest or script whole, the fenced code of a document."""
    text = path.read_text()
    return "\n".join(FENCE.findall(text)) if path.suffix == ".md" else text


def mentions_of(path: Path) -> str:
    """Code within a document's sentences and tables, where a command may lack what it needs."""
    return "\n".join(re.findall(r"`([^`\n]+)`", FENCE.sub("", path.read_text()))) if path.suffix == ".md" else ""


def calls(text: str, program: str) -> Iterator[list[str]]:
    """The arguments of each call of ``program``."""
    for line in text.replace("\\\n", " ").splitlines():
        uncommented = re.sub(r"^\s*#+!?\s?", "", line)  # usage in a manifest's head comment
        found = re.search(rf"(?:^|[\s`(]){program} (?=[a-z.]|--)(.*)$", uncommented)
        if not found:
            continue
        words = shlex.split(found[1], comments=True, posix=True)
        end = next((i for i, word in enumerate(words) if END_OF_COMMAND.fullmatch(word)), len(words))
        yield [word for word in words[:end] if not re.fullmatch(r"\.\.\.|…", word)]


def cases(read: Callable[[Path], str]) -> list[object]:
    found = {
        f"{path.relative_to(ROOT)}: t1t2 {' '.join(words)}": words
        for path in SOURCES
        for words in calls(read(path), "t1t2")
    }
    return [pytest.param(words, id=name) for name, words in found.items()]


def complaint(words: list[str]) -> str | None:
    """What the program says against a command line; None where it would run it. Nothing is run."""
    if not words or words[0] in ("--help", "--version"):
        return None
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    if words[0] not in commands:
        return f"No such command {words[0]!r}"
    if "--help" in words:
        return None
    try:
        commands[words[0]].make_context(words[0], words[1:])
    except Exception as error:
        if not hasattr(error, "format_message"):  # every usage error has one; anything else is an error of the program
            raise
        return str(error.format_message())
    return None


@pytest.mark.parametrize("words", cases(commands_of))
def test_command_line_would_run(words: list[str]) -> None:
    assert complaint(words) is None


@pytest.mark.parametrize("words", cases(mentions_of))
def test_mentioned_command_and_options_are_known(words: list[str]) -> None:
    assert re.match("Missing (argument|option|parameter)", complaint(words) or "Missing argument")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("runn x.toml", "No such command 'runn'"),
        ("run --out y", "Missing argument"),
        ("run x.toml --outt y", "No such option"),
        ("extend x --configurations n", "valid integer"),
        ("submit x.toml --storage y", "Missing option"),
    ],
)
def test_wrong_command_line_is_found_out(line: str, expected: str) -> None:
    assert expected in (complaint(line.split()) or "no complaint")


def test_manifests_call_the_program() -> None:
    calling = {path.name for path in MANIFESTS if list(calls(commands_of(path), "t1t2"))}
    assert calling == {"Dockerfile", "compose.yaml", "cluster.yaml", "raycluster.yaml", "rayjob.yaml", "t1t2.sbatch"}


def test_make_targets_in_the_documents_exist() -> None:
    targets = set(re.findall(r"^([.a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in SOURCES:
        for words in calls(f"{commands_of(path)}\n{mentions_of(path)}", "make"):
            assert words[0] in targets, f"{path.relative_to(ROOT)}: make {words[0]}"
