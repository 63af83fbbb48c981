"""What is built from this checkout: wheel, sdist and editable install hold every file, and work away from it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("service", "trainers", "analysis")

SPEC = """
name = "tiny"
seed = 1
configurations = 2
arms = ["initial", "online", "rerun", "grid"]
record_every = 10

[data]
name = "digits"
t1_size = 300
t2_size = 300
test_size = 300

[[models]]
name = "mlp"
hidden = [8]

[inner]
steps = 20
batch_size = 50

[grid]
points = { log10_l2 = 3, input_noise_std = 3 }
replicates = 2

[execution]
actors = 2
"""


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints, run as from another terminal: nothing of this checkout is on its path."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(command, cwd=cwd, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def files_below(folder: Path) -> dict[str, bytes]:
    """The packages' files and what they hold."""
    paths = (path for package in PACKAGES for path in (folder / package).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if "__pycache__" not in path.parts}


def files_in(wheel: Path) -> dict[str, bytes]:
    """The same of a wheel, its metadata apart."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if ".dist-info/" not in name}


def wheel_of(source: Path) -> Path:
    """The wheel that pip builds from a folder of sources."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    run(*pip, "--wheel-dir", source / "dist", source, cwd=source)
    (built,) = (source / "dist").glob("*.whl")
    return built


def environment_in(folder: Path) -> Path:
    """The interpreter of a new environment, to which this one lends its packages but not the checkout.

    Python reads .pth files of an environment's own site-packages alone, so the one that stands for the checkout here,
    which is installed editable, has no effect there.
    """
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"])
    return folder / "bin" / "python"


def install(python: Path, *what: str | Path) -> None:
    """Let pip install into that environment what this project builds, and nothing else."""
    pip: list[str | Path] = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
    ]
    run(*pip, "--ignore-installed", "--no-build-isolation", *what, cwd=python.parent)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources: setuptools leaves build/ beside them, and takes from there what is gone."""
    folder = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, folder)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    return wheel_of(source)


def test_wheel_holds_every_file_of_the_packages_and_nothing_else(source: Path, wheel: Path) -> None:
    assert files_in(wheel) == files_below(source)
    assert {Path(name).suffix for name in files_in(wheel)} >= {".py", ".typed", ".j2", ".css", ".js"}


def test_sdist_builds_the_same_wheel(source: Path, wheel: Path, tmp_path: Path) -> None:
    build = f"import setuptools.build_meta; setuptools.build_meta.build_sdist({str(tmp_path)!r})"
    run(sys.executable, "-c", build, cwd=source)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    (unpacked,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert files_in(wheel_of(unpacked)) == files_in(wheel)


def test_editable_install_is_the_folder_of_its_sources(source: Path, tmp_path: Path) -> None:
    python = environment_in(tmp_path / "environment")
    install(python, "--editable", source)
    code = "import service, trainers, analysis; print(service.__file__, trainers.__file__, analysis.__file__)"
    assert run(python, "-c", code, cwd=tmp_path).split() == [str(source / name / "__init__.py") for name in PACKAGES]
    assert "Usage" in run(python.with_name("t1t2"), "--help", cwd=tmp_path)


@pytest.mark.slow
def test_installed_wheel_checks_the_machine_runs_a_study_and_reports_it_from_another_folder(
    wheel: Path, tmp_path: Path
) -> None:
    python = environment_in(tmp_path / "environment")
    install(python, wheel)
    t1t2 = python.with_name("t1t2")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "tiny.toml").write_text(SPEC)

    where = run(python, "-c", "import service; print(service.__file__)", cwd=elsewhere)
    assert Path(where.strip()).is_relative_to(tmp_path / "environment")
    checks = json.loads(run(t1t2, "doctor", "--json", cwd=elsewhere))
    assert checks
    run(t1t2, "run", "tiny.toml", cwd=elsewhere)
    status = json.loads(run(t1t2, "status", "studies/tiny", "--json", cwd=elsewhere))
    assert status["state"] == "completed"
    run(t1t2, "report", "studies/tiny", cwd=elsewhere)
    report = (elsewhere / "studies" / "tiny" / "report.html").read_text(encoding="utf-8")
    assert "</html>" in report
    assert "<style>" in report
