import json

import pytest
import typer

from service.cli.submit import print_submission
from service.client.submission import Submission

NEW = Submission(
    name="toy", uri="s3://bucket/toy", new_study=True, new_driver=True, submission_id="t1t2-toy-1", state="running"
)
ATTACHED = Submission(name="toy", uri="s3://bucket/toy", submission_id=None, state="completed")


def test_a_submission_says_what_is_new_and_how_to_look_at_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_submission(NEW, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "submitted: toy, state running, job t1t2-toy-1",
        "storage: s3://bucket/toy",
        "look:    t1t2 watch s3://bucket/toy",
    ]
    print_submission(ATTACHED, as_json=False)
    assert capsys.readouterr().out.startswith("attached: toy, state completed, job –\n")
    print_submission(ATTACHED, as_json=True)
    assert json.loads(capsys.readouterr().out) == {
        "name": "toy",
        "uri": "s3://bucket/toy",
        "new_study": False,
        "new_driver": False,
        "submission_id": None,
        "state": "completed",
    }


def test_a_study_that_has_failed_is_exit_code_1() -> None:
    with pytest.raises(typer.Exit) as ended:
        print_submission(Submission(name="toy", uri="toy", submission_id=None, state="failed"), as_json=True)
    assert ended.value.exit_code == 1
