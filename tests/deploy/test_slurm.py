"""The Slurm script: by shellcheck, by Ray's own parsers, and run on a cluster of one node inside a PID namespace."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ray.scripts import scripts as ray_cli
from ray.scripts import symmetric_run

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "slurm" / "t1t2.sbatch"
BIN = Path(sys.executable).parent

# `ray stop`, with which `ray symmetric-run` ends, ends every Ray of the user: it must see none but the test's own.
NAMESPACE = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]

# What Slurm would do on one node: run the command.
SRUN = '#!/usr/bin/env bash\nwhile [[ ${1:-} == --* ]]; do shift; done\nexec "$@"\n'
SCONTROL = "#!/usr/bin/env bash\nhostname\n"
# In place of Ray where only the command line is looked at: writes it down, and runs what follows the "--".
RECORDER = """#!/usr/bin/env bash
printf '%s\\n' "$@" >"$RECORD.$1"
env | grep -E '^(RAY_|.*_METRIC_PORT)' >"$RECORD.environment"
while [[ ${1:---} != -- ]]; do shift; done
if [[ $# -gt 0 ]]; then shift; "$@"; fi
"""
T1T2 = '#!/usr/bin/env bash\nprintf \'%s\\n\' "$RAY_ADDRESS" "$@" >"$RECORD.t1t2"\nexit 7\n'


def run_script(
    tmp_path: Path, programs: dict[str, str], *words: str, prefix: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the script as Slurm's job 1234567 on this one node, with ``programs`` in front of all others."""
    (tmp_path / "home").mkdir()
    (tmp_path / "env" / "bin").mkdir(parents=True)
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, **programs}.items():
        path = tmp_path / "env" / "bin" / name
        path.write_text(text)
        path.chmod(0o755)
    environment = {
        "HOME": str(tmp_path / "home"),
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "RECORD": str(tmp_path / "record"),
        "SLURM_JOB_ID": "1234567",
        "SLURM_JOB_NODELIST": "n1",
        "SLURM_JOB_NUM_NODES": "1",
        "SLURM_CPUS_PER_TASK": "1",
        "SLURM_SUBMIT_DIR": str(ROOT),
        "T1T2_VENV": str(tmp_path / "env"),
        **environment,
    }
    return subprocess.run(
        [*prefix, "bash", str(SCRIPT), *words],
        env=environment,
        cwd=ROOT,
        text=True,
        timeout=240,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )


def recorded(tmp_path: Path, name: str) -> list[str]:
    return (tmp_path / f"record.{name}").read_text().splitlines()


def test_script_passes_shellcheck() -> None:
    found = subprocess.run([BIN / "shellcheck", SCRIPT], text=True, capture_output=True, check=False)
    assert found.returncode == 0, found.stdout


def test_script_says_what_it_needs(tmp_path: Path) -> None:
    done = run_script(tmp_path, {})
    assert done.returncode != 0
    assert "usage: sbatch deploy/slurm/t1t2.sbatch SPEC.toml STUDY" in done.stdout


def test_study_runs_on_the_head_alone_and_its_exit_code_is_the_jobs(tmp_path: Path) -> None:
    done = run_script(tmp_path, {"ray": RECORDER, "t1t2": T1T2}, "spec.toml", "a study")
    assert done.returncode == 7, done.stdout
    address, *words = recorded(tmp_path, "t1t2")
    assert words == ["run", "spec.toml", "--out", "a study"]
    host, port = address.rsplit(":", 1)
    socket.inet_pton(socket.AF_INET, host)
    assert 10000 <= int(port) < 32768


def test_options_are_those_that_ray_knows_on_head_and_workers(tmp_path: Path) -> None:
    run_script(tmp_path, {"ray": RECORDER, "t1t2": T1T2}, "spec.toml", "study", SLURM_GPUS_ON_NODE="2")
    command, *words = recorded(tmp_path, "symmetric-run")
    assert command == "symmetric-run"
    start = symmetric_run.curate_and_validate_ray_start_args(words[: words.index("--")])
    for kind in (["--head"], ["--address", "10.0.0.1:1"]):
        options = ray_cli.start.make_context("start", [*kind, *start]).params
        assert (options["num_cpus"], options["num_gpus"], options["disable_usage_stats"]) == (1, 2, True)


def test_ports_of_a_job_are_its_own(tmp_path: Path) -> None:
    blocks = []
    for job in (1234567, 1234568):
        (tmp_path / str(job)).mkdir()
        run_script(tmp_path / str(job), {"ray": RECORDER, "t1t2": T1T2}, "spec.toml", "study", SLURM_JOB_ID=str(job))
        words = recorded(tmp_path / str(job), "symmetric-run")
        environment = dict(line.split("=", 1) for line in recorded(tmp_path / str(job), "environment"))
        options = dict(word[2:].split("=", 1) for word in words if "-port=" in word)
        first, last = int(options.pop("min-worker-port")), int(options.pop("max-worker-port"))
        ports = [int(port) for port in options.values()]
        ports += [int(recorded(tmp_path / str(job), "t1t2")[0].rsplit(":", 1)[1])]
        ports += [int(environment[name]) for name in ("AUTOSCALER_METRIC_PORT", "DASHBOARD_METRIC_PORT")]
        assert len(set(ports)) == len(ports) == 11
        assert not set(ports) & set(range(first, last + 1))
        blocks.append({*ports, *range(first, last + 1)})
        assert max(blocks[-1]) < 32768  # where Linux starts to give ports to outgoing connections
    assert not blocks[0] & blocks[1]


def test_temporary_directory_is_short_and_the_token_is_asked_for(tmp_path: Path) -> None:
    run_script(tmp_path, {"ray": RECORDER, "t1t2": T1T2}, "spec.toml", "study")
    environment = dict(line.split("=", 1) for line in recorded(tmp_path, "environment"))
    session = "/ray/session_2026-11-23_08-46-57_939086_1234567/sockets/plasma_store"
    assert len(environment["RAY_TMPDIR"] + session) < 107
    assert environment["RAY_AUTH_MODE"] == "token"
    assert recorded(tmp_path, "get-auth-token") == ["get-auth-token", "--generate"]
    assert not Path(environment["RAY_TMPDIR"]).exists()


def namespaces_can_be_made() -> bool:
    return shutil.which("unshare") is not None and subprocess.run([*NAMESPACE, "true"], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(
    not namespaces_can_be_made(),
    reason="no PID namespace can be made here, and `ray stop` would end other clusters of this user",
)
def test_study_runs_to_its_end_on_a_real_cluster(tmp_path: Path) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text(
        'name = "slurm"\nseed = 1\nconfigurations = 1\narms = ["initial", "online", "rerun"]\n'
        '[data]\nname = "digits"\n[[models]]\nhidden = [8]\n[inner]\nsteps = 20\n[execution]\nactors = 1\n'
    )
    programs = {name: f'#!/usr/bin/env bash\nexec "{BIN / name}" "$@"\n' for name in ("ray", "t1t2")}
    done = run_script(tmp_path, programs, str(spec), str(tmp_path / "study"), prefix=tuple(NAMESPACE))
    assert done.returncode == 0, "\n".join(line for line in done.stdout.splitlines() if "scripts.py" not in line)
    import pandas as pd

    runs = pd.read_parquet(tmp_path / "study" / "runs.parquet")
    assert runs.groupby("arm").size().to_dict() == {"initial": 1, "online": 1, "rerun": 1}
    assert set(runs["status"]) == {"completed"}
    assert (tmp_path / "home" / ".ray" / "auth_token").stat().st_mode & 0o077 == 0
