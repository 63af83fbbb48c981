import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from service.cli.app import main
from tests.analysis.test_imports import BLOCK
from tests.service.toy_studies import run_toy

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("studies") / "toy"
    run_toy(out)
    return out


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["export", *words]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    return captured.err


def test_the_runs_asked_for_are_written(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "csv"
    words = ["--arm", "online,rerun", "--model", "mlp-8", "--query", "config_index > 0"]
    assert main(["export", str(study), "--to", "csv", "--out", str(out), *words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer == {"to": "csv", "out": str(out), "runs": 4, "opened_by": f"pandas.read_csv('{out}/runs.csv')"}
    runs = pd.read_csv(out / "runs.csv")
    assert set(zip(runs["model"], runs["arm"], runs["config_index"], strict=True)) == {
        ("mlp-8", arm, index) for arm in ("online", "rerun") for index in (1, 2)
    }


def test_it_says_what_opens_the_export(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "csv"
    assert main(["export", str(study), "--to", "csv", "--out", str(out)]) == 0
    assert capsys.readouterr().out == f"34 runs: {out}\nopen it:  pandas.read_csv('{out}/runs.csv')\n"


def test_bad_input_makes_nothing(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(study), "--out", str(tmp_path / "out"), "--to"]
    assert "did you mean csv?" in refused(capsys, *words, "cvs")
    assert "--model mlp-9: must be among mlp-16, mlp-8" in refused(capsys, *words, "csv", "--model", "mlp-9")
    assert "--arm best: must be among" in refused(capsys, *words, "csv", "--arm", "best")
    assert "--query 'loss < 1':" in refused(capsys, *words, "csv", "--query", "loss < 1")
    assert "no run was chosen" in refused(capsys, *words, "csv", "--query", "config_index > 99")
    assert "is there already" in refused(capsys, str(study), "--to", "csv", "--out", str(study))
    assert "holds no study" in refused(capsys, str(tmp_path / "none"), *words[1:], "csv")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_an_export_that_fails(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = shutil.copytree(study, tmp_path / "toy")  # of which the runs are sound, and written first
    content = bytearray((damaged / "trajectories.parquet").read_bytes())
    content[len(content) // 3] ^= 4
    (damaged / "trajectories.parquet").write_bytes(content)
    message = refused(capsys, str(damaged), "--to", "csv", "--out", str(tmp_path / "new" / "out"))
    assert f"{damaged}/trajectories.parquet: is damaged" in message
    assert list(tmp_path.iterdir()) == [damaged]


@pytest.mark.parametrize(
    ("tool", "absent", "extra"),
    [
        ("optuna", "optuna", "optuna"),
        ("mlflow", "mlflow", "mlflow"),
        ("mlflow", "sqlalchemy", "mlflow"),
        ("tensorboard", "tensorboard", "tensorboard"),
        ("wandb-offline", "wandb", "wandb"),
    ],
)
def test_a_missing_package_is_one_message_that_says_how_to_install_it(
    study: Path, tmp_path: Path, tool: str, absent: str, extra: str
) -> None:
    words = ["export", str(study), "--to", tool, "--out", str(tmp_path / "out")]
    program = BLOCK.format(absent=(absent,)) + f"from service.cli.app import main; sys.exit(main({words!r}))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == f"error: --to {tool}: needs {absent}; install it by: pip install 't1t2-study[{extra}]'\n"
    assert list(tmp_path.iterdir()) == []
