"""Submissions to a cluster that only records what it is asked; `test_study_client.py` has a real cluster."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service import AnotherStudyError, StudyError, StudySpec, read_status
from service.client.submission import Submission, create_study, discard_study, submit
from service.storage.files import open_storage
from tests.service.toy_studies import TOY, run_toy

SPEC = StudySpec.from_dict({**TOY, "configurations": 1})
LARGE = StudySpec.from_dict(TOY)


class Cluster:
    """What a submission needs of Ray's job client. A job that it accepts runs the study at once, to its end."""

    def __init__(self, uri: Path, refusal: str | None = None) -> None:
        self.uri, self.refusal = uri, refusal
        self.commands: list[str] = []

    def list_jobs(self) -> list[Any]:
        return []

    def get_job_info(self, submission_id: str) -> Any:
        return SimpleNamespace(status="SUCCEEDED")

    def submit_job(self, *, entrypoint: str, **options: Any) -> None:
        if self.refusal is not None:
            raise RuntimeError(self.refusal)
        self.commands.append(entrypoint)
        run_toy(self.uri, configurations=1)


def connected(monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> Cluster:
    monkeypatch.setattr("service.client.submission.connect", lambda address: cluster)
    return cluster


def test_a_new_study_gets_a_driver_and_one_that_has_ended_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = tmp_path / "toy"
    cluster = connected(monkeypatch, Cluster(uri))
    first = submit(SPEC, str(uri), "http://head:8265", actors=3)
    job_id = f"t1t2-toy-{SPEC.hash[:8]}-1"
    assert first == Submission(
        name="toy", uri=str(uri), new_study=True, new_driver=True, submission_id=job_id, state="completed"
    )
    assert cluster.commands == [f"python -m service.cli resume {uri} --actors 3"]
    again = submit(SPEC, str(uri), "http://head:8265")
    assert again == Submission(name="toy", uri=str(uri), submission_id=None, state="completed")
    assert len(cluster.commands) == 1


def test_more_configurations_extend_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_toy(tmp_path / "toy", configurations=1)
    cluster = connected(monkeypatch, Cluster(tmp_path / "toy"))
    extended = submit(StudySpec.from_dict({**TOY, "configurations": 2}), str(tmp_path / "toy"), "http://head:8265")
    assert (extended.new_study, extended.new_driver) == (False, True)
    assert read_status(str(tmp_path / "toy")).done["online"] == 4  # two configurations of two models
    assert len(cluster.commands) == 1


def test_a_job_that_is_refused_leaves_no_new_study_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connected(monkeypatch, Cluster(tmp_path / "root" / "toy", refusal="no room\nfor you"))
    with pytest.raises(StudyError, match=r"the cluster refuses the job 't1t2-toy-.*': no room$"):
        submit(SPEC, str(tmp_path / "root" / "toy"), "http://head:8265")
    assert not list(tmp_path.iterdir())


def test_a_study_is_created_once_and_waits_for_its_driver(tmp_path: Path) -> None:
    uri = str(tmp_path / "root" / "toy")
    assert create_study(LARGE, uri)
    assert not create_study(LARGE, uri)
    status = read_status(uri)
    assert (status.state, status.driven) == ("waiting", False)
    assert status.planned == {"initial": 6, "online": 6, "rerun": 6, "grid": 16}
    with pytest.raises(AnotherStudyError, match="seed: 8 here, 7 in the study"):
        create_study(StudySpec.from_dict({**TOY, "seed": 8}), uri)


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="file"):
        create_study(LARGE, str(tmp_path / "file" / "toy"))
    with pytest.raises(StudyError, match="/proc/toy: cannot be written"):
        create_study(LARGE, "/proc/toy")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_discarded_study_leaves_what_was_there_before(tmp_path: Path) -> None:
    uri = str(tmp_path / "new" / "root" / "toy")
    standing = open_storage(uri).nearest_directory()
    assert standing == tmp_path
    create_study(LARGE, uri)
    discard_study(uri, keep=standing)
    assert not list(tmp_path.iterdir())


def test_a_study_with_results_is_not_discarded(tmp_path: Path) -> None:
    run_toy(tmp_path / "toy", configurations=1)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StudyError, match="a study with results is not discarded"):
        discard_study(str(tmp_path / "toy"))
    assert sorted(tmp_path.rglob("*")) == before
