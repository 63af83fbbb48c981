"""One JSON file of a study is damaged: whatever reads the study gives what it gave before, or names that file."""

from __future__ import annotations

import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest

from service import Event, StudyError, StudySpec, StudyStatus, request, resume_study
from service.cli.app import main
from service.driver import driver
from service.executors.serial import SerialExecutor
from service.storage.checked_json import dumps_checked, loads_checked
from tests.service.damage import (
    DAMAGES,
    ERROR,
    LOOKS,
    OTHER,
    SAME,
    Looks,
    copied,
    counterpart,
    files,
    flipped,
    kind,
    structural,
)
from tests.service.studies import assert_same_results, run_serially, toy_spec

FLIPS = 300  # of each kind of file in the slow test
QUICK = [name for name in LOOKS if name not in ("trajectories", "attempts")]  # which ask a database
KINDS = ["study.json", "progress.json", "lease.json", "events", "control"]


def make(out: Path, spec: StudySpec, *, stopped: bool) -> Path:
    """A finished or a stopped study with the lease of a driver that was killed, and two requests that wait."""
    finished = 0
    lease = b""

    def stop(event: Event) -> None:
        nonlocal finished
        if event.kind != "runs_finished":
            return
        finished += 1
        if stopped and finished == 12:
            signal.raise_signal(signal.SIGINT)

    def keep(status: StudyStatus) -> None:
        nonlocal lease
        path = out / "lease.json"
        lease = path.read_bytes() if path.exists() else lease

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "TICK_S", 0.0)
        status = run_serially(spec, out, on_event=stop, on_progress=keep)
    assert status.state == ("interrupted" if stopped else "completed")
    dead = loads_checked(lease, "lease.json") | {"process_started": "1"}  # its process is no more
    (out / "lease.json").write_bytes(dumps_checked(dead))
    request(str(out), "retry")
    request(str(out), "extend", configurations=spec.configurations)
    return out


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("studies")
    return {
        "finished": make(root / "finished" / "toy", toy_spec(), stopped=False),
        "stopped": make(root / "stopped" / "toy", toy_spec(), stopped=True),
        "other": make(root / "other" / "toy", toy_spec(seed=6, configurations=2, name="other"), stopped=False),
    }


@pytest.mark.parametrize("which", ["finished", "stopped"])
def test_structural_damage(studies: dict[str, Path], tmp_path: Path, which: str) -> None:
    study = studies[which]
    looks = Looks(Path(shutil.copytree(study, tmp_path / "sound" / "toy")), QUICK)
    assert {kind(path) for path in files(study)} == set(KINDS)
    tally = Counter[str]()
    for path, damage, content in structural(study, studies["other"]):
        found = looks.verdicts(copied(study, tmp_path / "damaged", path, content), path)
        assert not [name for name in found if found[name].startswith(OTHER)], (path, damage.name, found)
        tally.update(found.values())
        if kind(path) in ("progress.json", "events", "control", "lease.json"):
            assert found["runs"] == SAME, (path, damage.name)
        if kind(path) in ("study.json", "progress.json"):
            assert found["status"] == ERROR, (path, damage.name, "the damage is told")
    assert tally[SAME] >= tally[ERROR] > 70


@pytest.mark.parametrize("which", ["finished", "stopped"])
@pytest.mark.parametrize("of_kind", KINDS)
def test_flipped_bits(studies: dict[str, Path], tmp_path: Path, which: str, of_kind: str) -> None:
    assert flips(studies[which], tmp_path, of_kind, 6)[OTHER] == 0


@pytest.mark.slow
@pytest.mark.parametrize("which", ["finished", "stopped"])
@pytest.mark.parametrize("of_kind", KINDS)
def test_many_flipped_bits(studies: dict[str, Path], tmp_path: Path, which: str, of_kind: str) -> None:
    tally = flips(studies[which], tmp_path, of_kind, FLIPS)
    print(f"{which} {of_kind}: {dict(tally)}")
    assert tally[OTHER] == 0


def flips(study: Path, place: Path, of_kind: str, count: int) -> Counter[str]:
    """Flip one bit ``count`` times; what the readings make of it together, the worst of them for each flip."""
    looks = Looks(Path(shutil.copytree(study, place / "sound" / "toy")), QUICK)
    tally = Counter[str]()
    candidates = [path for path in files(study) if kind(path) == of_kind]
    for seed in range(count):
        path = candidates[seed % len(candidates)]
        damaged = copied(study, place / "damaged", path, flipped((study / path).read_bytes(), seed))
        found = looks.verdicts(damaged, path)
        worst = OTHER if any(each.startswith(OTHER) for each in found.values()) else ERROR
        tally[worst if worst == OTHER or ERROR in found.values() else SAME] += 1
        if worst == OTHER:
            print(seed, path, found)
    return tally


COMMANDS = [
    ["status"],
    ["watch"],
    ["results", "--csv"],
    ["pause"],
    ["cancel"],
    ["retry"],
    ["extend", "--configurations", "3"],
]


@pytest.mark.parametrize("path", ["study.json", "progress.json", "lease.json", "events", "control"])
def test_no_command_ends_in_a_traceback(
    studies: dict[str, Path], tmp_path: Path, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    study = studies["finished"]
    (first, *_) = (each for each in files(study) if kind(each) == path)
    for damage in DAMAGES:
        content = damage.apply((study / first).read_bytes(), counterpart(studies["other"], first))
        damaged = copied(study, tmp_path, first, content)
        for words in [*COMMANDS, ["list"]]:
            place = damaged.parent if words == ["list"] else damaged
            code = main([words[0], str(place), *words[1:]])
            told = capsys.readouterr()
            assert code in (0, 2), (damage.name, words, told)
            assert code == 0 or f"{damaged}/{first}: is damaged" in told.err, (damage.name, words, told)
            assert "Traceback" not in told.err + told.out
            if path == "progress.json" and words in (["status"], ["watch"], ["list"]):
                assert "progress.json: is damaged" in told.out, (damage.name, words)


@pytest.mark.parametrize("path", KINDS)
@pytest.mark.parametrize("damage", ["emptied", "swapped"])
def test_a_damaged_study_is_gone_on_with(studies: dict[str, Path], tmp_path: Path, path: str, damage: str) -> None:
    study = studies["stopped"]
    (first, *_) = (each for each in files(study) if kind(each) == path)
    apply = next(each for each in DAMAGES if each.name == damage).apply
    content = apply((study / first).read_bytes(), counterpart(studies["other"], first))
    damaged = copied(study, tmp_path, first, content)
    if path == "study.json":
        with pytest.raises(StudyError, match=r"study.json: is damaged .* t1t2 run SPEC --out"):
            resume_study(str(damaged), executor=SerialExecutor())
    else:
        resume_study(str(damaged), executor=SerialExecutor())
        assert_same_results(damaged, studies["finished"])


@pytest.mark.parametrize("which", ["finished", "stopped"])
@pytest.mark.parametrize("damage", ["emptied", "swapped", "missing"])
def test_study_json_is_written_anew_from_the_spec_of_the_tables(
    studies: dict[str, Path], tmp_path: Path, which: str, damage: str
) -> None:
    study = studies[which]
    content = (studies["other"] / "study.json").read_bytes() if damage == "swapped" else b""
    damaged = copied(study, tmp_path, "study.json", content)
    if damage == "missing":
        (damaged / "study.json").unlink()
    before = {path: path.read_bytes() for path in damaged.glob("**/*") if path.is_file()}
    for wrong in (toy_spec(seed=6, name="other"), toy_spec(seed=7)):
        with pytest.raises(StudyError, match=r"the tables are not of this spec|holds no study, yet is not empty"):
            run_serially(wrong, damaged)
    assert before == {path: path.read_bytes() for path in damaged.glob("**/*") if path.is_file()}
    told: list[Event] = []
    status = run_serially(toy_spec(configurations=1), damaged, on_event=told.append)
    assert status.planned["online"] == 6, "as many configurations as are in the tables"
    assert [event.kind for event in told].count("study_json_rebuilt") == 1
    assert_same_results(damaged, studies["finished"])
