import json
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.cli.app import app, main
from service.storage.checked_json import loads_checked
from tests.service.toy_studies import run_toy

ROOT = Path(__file__).parents[3]
TABLE = [line for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("| `t1t2 ")]
COMMANDS = re.findall(
    r"^  ([a-z]+)  ", CliRunner().invoke(app, ["--help"]).output.partition("Commands:")[2], re.MULTILINE
)


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """Run a command that must refuse its input; its message."""
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert "Traceback" not in captured.err
    return captured.err


def test_the_commands_are_those_of_the_readme_in_its_order() -> None:
    assert [line.split()[2].strip("`") for line in TABLE] == COMMANDS
    assert len(COMMANDS) == 19


@pytest.mark.parametrize("command", COMMANDS)
def test_each_help_has_an_example_that_the_program_understands(command: str) -> None:
    text = CliRunner().invoke(app, [command, "--help"]).output
    example = re.search(r"\n\n  Example:\n    (t1t2 .*)\n", text)
    assert example, text
    for part in example[1].split(" && "):
        words = part.split()
        assert words[0] == "t1t2"
        known = set(re.findall(r"--[a-z-]+", CliRunner().invoke(app, [words[1], "--help"]).output))
        assert {word for word in words[2:] if word.startswith("--")} <= known


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_prints_json_for_machines(command: str) -> None:
    assert "--json" in CliRunner().invoke(app, [command, "--help"]).output


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"t1t2 {version('t1t2-study')}\n"


@pytest.mark.parametrize(
    "words",
    [
        ["reslts"],
        ["run"],
        ["status"],
        ["status", "a", "b"],
        ["run", "x.toml", "--actors", "0"],
        ["extend", "x"],
        ["extend", "x", "--configurations", "many"],
        ["submit", "x.toml", "--storage", "y"],
        ["results", "x", "--nonsense"],
    ],
)
def test_a_wrong_command_line_is_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert "Error: " in capsys.readouterr().err


LONG = "A" * 10_000
SPEC = str(ROOT / "deploy/studies/quickstart.toml")


@pytest.mark.parametrize(
    "words",
    [
        ["run", LONG],
        ["status", LONG],
        ["status", f"nowhere://{LONG}"],
        ["list", LONG],
        ["serve", "--host", LONG],
        ["fetch", LONG],
        ["submit", SPEC, "--storage", "studies", "--address", f"ray://{LONG}"],
    ],
    ids=lambda words: words[0],
)
def test_a_message_does_not_repeat_a_long_value(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert len(error) < 500


@pytest.mark.parametrize("words", [[LONG], ["status", "x", LONG], ["status", f"--{LONG}"], ["list", f"--port={LONG}"]])
def test_a_wrong_command_line_is_not_repeated_whole(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "Error: " in error
    assert len(error) < 500


def test_help_loads_nothing_that_is_slow() -> None:
    program = """
import sys
from service.cli.app import main
assert main(["--help"]) == 0
slow = {"ray", "torch", "pandas", "pyarrow", "numpy", "pydantic", "rich", "jinja2", "analysis"}
print(sorted(sys.modules.keys() & slow))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_status_loads_neither_ray_nor_torch_nor_pandas(tmp_path: Path) -> None:
    run_toy(tmp_path / "toy", configurations=1)
    program = f"""
import sys
from service.cli.app import main
assert main(["status", {str(tmp_path / "toy")!r}]) == 0
print(sorted(sys.modules.keys() & {{"ray", "torch", "pandas", "analysis", "matplotlib", "scipy", "duckdb"}}))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "command",
    [
        ["status"],
        ["resume"],
        ["results"],
        ["report"],
        ["watch"],
        ["pause"],
        ["cancel"],
        ["retry"],
        ["extend", "--configurations", "5"],
    ],
)
def test_studies_that_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    assert "holds no study" in fails(capsys, *command, str(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "study.json").write_text("{")
    assert "study.json: is damaged" in fails(capsys, *command, str(tmp_path / "damaged"))
    run_toy(tmp_path / "newer", configurations=1)
    manifest = tmp_path / "newer" / "study.json"
    content = loads_checked(manifest.read_bytes(), manifest.name)
    manifest.write_text(json.dumps({**content, "schema_version": 999}))
    assert "999" in fails(capsys, *command, str(tmp_path / "newer"))
    manifest.write_text(json.dumps({key: value for key, value in content.items() if key != "planned"}))
    assert "lacks planned" in fails(capsys, *command, str(tmp_path / "newer"))


def test_main_returns_what_the_shell_gets() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "service.cli", "status", "/no/such/study"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == "error: /no/such/study: holds no study (no study.json); give the directory or URI of one\n"
