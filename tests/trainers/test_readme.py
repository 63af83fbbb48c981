"""The README's examples run, and its table of files is complete."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args

import pytest

from tests.trainers.runs import bits, points, results, run
from trainers.config import EstimatorName

PACKAGE = Path(__file__).parents[2] / "trainers"
README = (PACKAGE / "README.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_the_examples_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    namespace: dict[str, Any] = {}
    for code in EXAMPLES:
        if named := re.match(r"# (\w+\.py)\n", code):
            (tmp_path / named.group(1)).write_text(code)
        else:
            exec(compile(code, "trainers/README.md", "exec"), namespace)
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed] == [
        "step 0",
        "step 200",
        "step 400",
        "step 600",
        "member 0",
        "member 1",
    ]
    assert float(printed[3].split()[-1]) < 0.5 * float(printed[0].split()[-1])
    whole = run(namespace["problem"], namespace["config"], namespace["members"])
    assert bits(namespace["rest"]) == bits([*(p for p in points(whole) if p.step > 250), *results(whole)])
    assert namespace["result_own"].status == "completed"
    assert namespace["result_own"].final.keys() == {"input_noise_std", "jitter", "sparse_output"}
    assert namespace["result_own"].final != namespace["start"]


def test_every_estimator_is_in_a_table() -> None:
    tables = "\n".join(line for line in README.splitlines() if line.startswith("|"))
    assert set(re.findall(r"^\| `(\w+)` \|", tables, re.MULTILINE)) >= set(get_args(EstimatorName))
