"""``t1t2 doctor``: does everything that a study needs work here, and if not, how is it repaired?

Each check is a function that returns one :class:`Check`; none raises. What may hang or kill the process (Ray, torch)
runs in a process of its own with a time limit.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

OLDEST_PYTHON = (3, 11)
ENOUGH_DISK_GIB = 2.0
PACKAGES = ("service", "trainers", "analysis")
PROBE_LIMIT_S = 120.0


@dataclass(frozen=True)
class Check:
    """What was looked at, whether it works, what was found, and what to do if it does not work."""

    name: str
    status: Literal["ok", "warning", "failed"]
    found: str
    repair: str = ""


def check_python() -> Check:
    """Is this Python new enough?"""
    found = f"Python {platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        return Check("python", "failed", found, f"install Python {wanted} or newer and make the environment again")
    return Check("python", "ok", found)


def check_packages() -> Check:
    """Are the distribution's own requirements installed, in versions that it accepts?"""
    owners = importlib.metadata.packages_distributions()
    owner = {name for package in PACKAGES for name in owners.get(package, [])}
    if len(owner) != 1:
        found = "; ".join(f"{package} is of {' and '.join(owners.get(package, ['nothing']))}" for package in PACKAGES)
        return Check("packages", "failed", found, "uninstall the other distribution, then `make .venv`")
    distribution = owner.pop()
    wrong = list(_unmet(distribution))
    if wrong:
        return Check("packages", "failed", "; ".join(wrong), "pip install -c constraints.txt -e . (or `make .venv`)")
    named = ("torch", "ray", "pandas", "pyarrow", "pydantic")
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in named)
    return Check("packages", "ok", f"{distribution} {importlib.metadata.version(distribution)}; {versions}")


def _unmet(distribution: str) -> Iterator[str]:
    from packaging.requirements import Requirement

    for line in importlib.metadata.requires(distribution) or []:
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield f"{requirement.name} is not installed"
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            yield f"{requirement.name} is {version}, wanted {requirement.specifier}"


TORCH_PROBE = """
import json, torch
x = torch.ones(4, 4, requires_grad=True)
(x @ x).sum().backward()
devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
for i in range(len(devices)):
    torch.ones(1, device=f"cuda:{i}").add_(1).item()
print(json.dumps({"version": torch.__version__, "built_for": torch.version.cuda, "devices": devices,
                  "threads": torch.get_num_threads()}))
"""


def check_torch() -> Check:
    """Does torch compute, and does it see the GPUs that the machine has?"""
    answer = probe(TORCH_PROBE)
    if isinstance(answer, str):
        repair = "pip install -c constraints.txt torch (the CPU build where there is no GPU)"
        return Check("torch", "failed", answer, repair)
    devices = answer["devices"]
    seen = ", ".join(devices) if devices else "no GPU"
    found = f"torch {answer['version']}, {answer['threads']} threads, {seen}"
    if not devices and shutil.which("nvidia-smi"):
        repair = "install a CUDA build of torch" if answer["built_for"] is None else "check the driver: nvidia-smi"
        return Check("torch", "warning", f"{found}, although nvidia-smi is here", repair)
    return Check("torch", "ok", found)


RAY_PROBE = """
import json, os, ray
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
         object_store_memory=80_000_000, _temp_dir=os.environ["T1T2_RAY_TEMP"])
@ray.remote(num_cpus=0)
class Actor:
    def ping(self):
        return os.getpid()
pid = ray.get(Actor.remote().ping.remote(), timeout=60)
print(json.dumps({"version": ray.__version__, "other_process": pid != os.getpid()}))
ray.shutdown()
"""


def check_ray() -> Check:
    """Does a local Ray start, with token authentication, and run an actor?"""
    from service.client.ray_jobs import auth_token

    try:
        token = auth_token()
    except ValueError as error:
        return Check("ray", "failed", str(error), "correct or unset RAY_AUTH_TOKEN_PATH")
    # Unix socket paths end at 107 bytes: a short directory, whatever TMPDIR is.
    with tempfile.TemporaryDirectory(prefix="t1t2-", dir="/tmp" if os.path.isdir("/tmp") else None) as temp:
        used = token or secrets.token_hex(20)
        answer = probe(RAY_PROBE, T1T2_RAY_TEMP=temp, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=used)
    if isinstance(answer, str):
        return Check("ray", "failed", answer, "pip install -c constraints.txt 'ray[default]'; free memory and /dev/shm")
    where = "your token" if token else "a token made for the check"
    return Check("ray", "ok", f"Ray {answer['version']} started, authenticated by {where}, and ran an actor")


def check_disk(out: Path) -> Check:
    """Can studies be written below ``out``, and is there room?"""
    existing = next(place for place in [out.absolute(), *out.absolute().parents] if place.exists())
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"t1t2")
    except OSError as error:
        repair = "choose another directory: t1t2 run SPEC --out DIR"
        return Check("disk", "failed", f"{existing}: {error.strerror}", repair)
    free_gib = shutil.disk_usage(existing).free / 2**30
    found = f"{existing} is writable, {free_gib:.1f} GiB free"
    if free_gib < ENOUGH_DISK_GIB:
        return Check("disk", "warning", found, f"free {ENOUGH_DISK_GIB:.0f} GiB, or choose another place with --out")
    return Check("disk", "ok", found)


DATA_PROBE = """
import json, sys
from trainers.config import ConfigError, DataConfig
from trainers.data.split import load_split
try:
    split = load_split(DataConfig(**json.loads(sys.argv[1])))
except ConfigError as error:
    sys.exit(str(error))
print(json.dumps({"sizes": [len(split.t1_y), len(split.t2_y), len(split.test_y)], "classes": split.classes}))
"""


def check_data(name: str, data: dict[str, object]) -> Check:
    """Can this data set be read and split? ``data`` holds the settings of :class:`trainers.config.DataConfig`."""
    answer = probe(DATA_PROBE, json.dumps(data))
    if isinstance(answer, str):
        repair = "set data.root to a directory that holds the files, or choose data.name = 'digits'"
        return Check(name, "failed", answer, repair)
    t1, t2, test = answer["sizes"]
    return Check(name, "ok", f"{data['name']}: {t1} T1 + {t2} T2 + {test} test examples of {answer['classes']} classes")


TRAINING_PROBE = """
import json
from trainers import Member, Result, TrainConfig, load_problem, train
from trainers.config import InnerConfig
config = TrainConfig(inner=InnerConfig(steps=20))
member = Member(seed=1, hyperparameters={"log10_l2": -4.0, "input_noise_std": 0.3})
result = [r for r in train(load_problem(config), config, [member], online=True) if isinstance(r, Result)][0]
print(json.dumps({"status": result.status, "t2_loss": result.t2_loss, "moved": result.final != result.initial}))
"""


def check_training() -> Check:
    """Does a tiny online training run, and do its hyperparameters move?"""
    answer = probe(TRAINING_PROBE)
    repair = "run the tests (`make test`) and report what they say"
    if isinstance(answer, str):
        return Check("training", "failed", answer, repair)
    found = f"20 online steps on digits: {answer['status']}, T2 loss {answer['t2_loss']:.3f}"
    good = answer["status"] == "completed" and answer["moved"]
    return Check("training", "ok", found) if good else Check("training", "failed", found, repair)


def probe(program: str, *arguments: str, **environment: str) -> dict[str, Any] | str:
    """Run a program that prints one JSON object last; its answer, or why there is none in one line."""
    command = [sys.executable, "-c", program, *arguments]
    try:
        done = subprocess.run(
            command, check=False, env=os.environ | environment, capture_output=True, text=True, timeout=PROBE_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {PROBE_LIMIT_S:.0f} s"
    if done.returncode != 0:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        return lines[-1].strip() if lines else f"ended with code {done.returncode}"
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def examine(out: Path) -> Iterator[Check]:
    """All checks, one after the other, as they are done."""
    checks: list[Callable[[], Check]] = [check_python, check_packages, check_torch, check_ray, lambda: check_disk(out)]
    for check in checks:
        yield check()
    yield check_data("data", {"name": "digits"})
    yield check_training()
