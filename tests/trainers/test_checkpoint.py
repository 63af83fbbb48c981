"""Checkpoints: a training that goes on from one is the uninterrupted one, and a file is whole or refused."""

from __future__ import annotations

import io
import os
import pickle
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.trainers.problems import small_config, small_problem
from tests.trainers.runs import TUNED, after, bits, checkpoints, points, run
from trainers import Checkpoint, ConfigError, Member, Problem, TrainConfig
from trainers.checkpoint import dumps, load, loads, save
from trainers.records import Record

ROOT = Path(__file__).parents[2]
MEMBERS = [Member(5, TUNED), Member(6, {"log10_l2": -5.0, "input_noise_std": 0.7})]


def problem_of(estimator: str, inner: str, outer: dict[str, object] | None = None) -> tuple[Problem, TrainConfig]:
    """26 steps in epochs of 3 batches, with outer steps, points and checkpoints out of step with one another."""
    config = small_config(
        inner={"steps": 26, "optimiser": inner, "learning_rate": 0.05, "schedule": "cosine"},
        outer={"estimator": estimator, "every": 4, "batch_size": 5, "schedule": "linear"} | (outer or {}),
        record_every=3,
    )
    return small_problem(config), config


@pytest.mark.parametrize("optimiser", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("estimator", ["t1t2", "t1t2_at_theta", "t1t2_lagged", "seed_literal", "neumann", "forward"])
def test_a_training_goes_on_bit_for_bit_from_whatever_step(estimator: str, optimiser: str) -> None:
    problem, config = problem_of(estimator, optimiser)
    whole = run(problem, config, MEMBERS, checkpoint_every=1)
    saved = checkpoints(whole)
    assert [c.step for c in saved] == list(range(1, 26))
    for checkpoint in saved[::3] + saved[-2:]:
        fresh = small_problem(config)
        rest = run(fresh, config, MEMBERS, checkpoint_every=1, resume=loads(dumps(checkpoint)))
        assert bits(rest) == bits(after(whole, checkpoint.step))


@pytest.mark.parametrize(
    "outer",
    [
        {"warmup_steps": 9},
        {"optimiser": "sgd"},
        {"tangent_batch": 3},
        {"tangent_every": 2},
        {"memory": 1.0},
        {"batch_size": 0},
        {"antithetic": True},
        {"averaging": 0.9},
        {"averaging": 0.9, "tangent_every": 2},
    ],
)
def test_whatever_the_outer_steps_are(outer: dict[str, object]) -> None:
    problem, config = problem_of("forward", "momentum", outer)
    whole = run(problem, config, MEMBERS, checkpoint_every=5)
    for checkpoint in checkpoints(whole):
        assert bits(run(problem, config, MEMBERS, True, 5, checkpoint)) == bits(after(whole, checkpoint.step))


@pytest.mark.parametrize("online", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fixed_arms_and_float32_go_on_too(online: bool, dtype: Literal["float32", "float64"]) -> None:
    problem, config = problem_of("forward", "adam")
    config = replace(config, dtype=dtype)
    problem = small_problem(config)
    whole = run(problem, config, MEMBERS, online, checkpoint_every=11)
    for checkpoint in checkpoints(whole):
        assert bits(run(problem, config, MEMBERS, online, 11, checkpoint)) == bits(after(whole, checkpoint.step))


@given(stops=st.lists(st.integers(1, 25), min_size=1, max_size=4, unique=True).map(sorted))
@settings(max_examples=6)
def test_a_training_may_be_stopped_and_continued_any_number_of_times(stops: list[int]) -> None:
    problem, config = problem_of("forward", "adam")
    whole = run(problem, config, MEMBERS)
    seen: list[Record] = []
    resume = None
    for stop in stops:
        records = run(problem, config, MEMBERS, checkpoint_every=1, resume=resume)
        resume = next(c for c in checkpoints(records) if c.step == stop)
        seen += [p for p in points(records) if p.step <= stop]
    seen += run(problem, config, MEMBERS, resume=resume)
    assert bits(seen) == bits(whole)


def test_resuming_leaves_the_checkpoint_as_it_was() -> None:
    problem, config = problem_of("forward", "adam")
    (saved,) = checkpoints(run(problem, config, MEMBERS, checkpoint_every=20))
    before = bits([saved])
    run(problem, config, MEMBERS, resume=saved)
    assert bits([saved]) == before


TENSORS = st.dictionaries(
    st.text(st.characters(codec="ascii", categories=["L", "N", "P"]), min_size=1, max_size=8),
    st.lists(st.floats(width=32), max_size=6).map(torch.tensor),
    max_size=4,
)


@given(tensors=TENSORS, step=st.integers(0, 10**12), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_bytes_hold_step_and_tensors_exactly(tensors: dict[str, Tensor], step: int, dtype: torch.dtype) -> None:
    checkpoint = Checkpoint(step, {name: t.to(dtype) for name, t in tensors.items()})
    assert bits([loads(dumps(checkpoint))]) == bits([checkpoint])


@pytest.fixture(scope="module")
def saved() -> Checkpoint:
    problem, config = problem_of("forward", "adam")
    return checkpoints(run(problem, config, MEMBERS, checkpoint_every=20))[0]


@given(part=st.floats(0, 1, exclude_max=True))
def test_truncated_bytes_are_refused(part: float) -> None:
    whole = dumps(Checkpoint(3, {"theta": torch.zeros(2, 7), "h": torch.zeros(2, 3, dtype=torch.float64)}))
    length = int(part * len(whole))
    with pytest.raises(ConfigError, match=f"checkpoint of {length} bytes: must be a whole one"):
        loads(whole[:length])


@given(content=st.binary(max_size=200))
def test_any_other_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(ConfigError, match="checkpoint of"):
        loads(content)


class Trap:
    """An object whose unpickling would show."""

    sprung = False

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return setattr, (Trap, "sprung", True)


def test_pickles_are_refused_unopened() -> None:
    file = io.BytesIO()
    torch.save({"theta": Trap()}, file)
    for content in (pickle.dumps(Trap()), file.getvalue()):
        with pytest.raises(ConfigError, match="must be a whole one"):
            loads(content)
    assert not Trap.sprung
    pickle.loads(pickle.dumps(Trap()))
    assert Trap.sprung  # the trap does work


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {},
        {"format": "pt"},
        {"version": "1"},
        {"step": "3"},
        {"version": "1", "step": "three"},
        {"version": "99", "step": "3"},
    ],
)
def test_safetensors_of_something_else_are_refused(metadata: dict[str, str] | None) -> None:
    with pytest.raises(ConfigError, match="checkpoint"):
        loads(safetensors.torch.save({"theta": torch.zeros(2)}, metadata))


@pytest.mark.parametrize("step", [-1, 27])
def test_a_step_that_the_training_does_not_have_is_refused(saved: Checkpoint, step: int) -> None:
    problem, config = problem_of("forward", "adam")
    with pytest.raises(ConfigError, match=f"checkpoint at step {step}"):
        run(problem, config, MEMBERS, resume=replace(saved, step=step))


def test_files_hold_what_was_saved_last(saved: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "pack 1.safetensors"
    save(saved, path)
    assert bits([load(path)]) == bits([saved])
    save(replace(saved, step=21), path)
    assert load(path).step == 21
    assert list(tmp_path.iterdir()) == [path]
    torch.testing.assert_close(safetensors.torch.load_file(path)["theta"], saved.tensors["theta"], rtol=0, atol=0)


def test_a_write_that_fails_leaves_the_old_file_and_no_other(saved: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    save(saved, path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))  # as a full disk would
    try:
        with pytest.raises(OSError, match="File too large"):
            save(replace(saved, step=99), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert bits([load(path)]) == bits([saved])
    assert list(tmp_path.iterdir()) == [path]


def test_a_rename_that_fails_leaves_no_temporary_file(saved: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        save(saved, path)
    assert list(tmp_path.iterdir()) == [path]


KILLED_WHILE_WRITING = """
import resource, signal, sys
from pathlib import Path
from trainers.checkpoint import load, save
path = Path(sys.argv[1])
checkpoint = load(path)
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
print("writing", flush=True)
save(checkpoint, path)
"""


def test_a_process_killed_in_the_middle_of_a_write_leaves_the_old_file(saved: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    save(saved, path)
    died = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_WRITING, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert died.stdout == "writing\n"
    assert died.returncode == -signal.SIGXFSZ
    assert len(list(tmp_path.iterdir())) == 2  # what it had begun to write is under another name
    assert bits([load(path)]) == bits([saved])
