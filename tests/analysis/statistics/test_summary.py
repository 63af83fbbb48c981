from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis.statistics.overhead import Overhead
from analysis.statistics.summary import Summary, summarise
from analysis.study import load_study
from tests.analysis.synthetic import Truth, write_study


@pytest.fixture(scope="module")
def plain(summary: Summary) -> dict[str, Any]:
    return summary.to_dict()


def parts(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """Every leaf of a summary with its path."""
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in parts(inner, f"{path}/{key}")]
    if isinstance(value, list):
        return [leaf for k, inner in enumerate(value) for leaf in parts(inner, f"{path}/{k}")]
    return [(path, value)]


def reasons(summary: dict[str, Any]) -> dict[str, str]:
    return {
        path.removesuffix("/not_computable"): value
        for path, value in parts(summary)
        if path.endswith("/not_computable")
    }


def test_a_full_study_has_every_part(plain: dict[str, Any]) -> None:
    assert reasons(plain) == {}
    assert set(plain) == {"version", "study", "definitions", "counts", "models", "overhead", "model_sizes", "baselines"}
    model = plain["models"]["mlp-64"]
    assert set(model["region"]) == {"t2_loss", "test_loss", "test_error", "t2_error"}
    assert model["region"]["t2_loss"]["shares"]["end"]["value"] > 0.5
    assert [row["outcome"] for row in model["improvement"]["rerun"]["split"]] == [
        "good→good",
        "bad→good",
        "bad→bad",
        "good→bad",
    ]
    assert model["diagonal"]["online_rerun"]["test_loss"]["n"] == 24
    assert sum(row["runs"] for row in plain["counts"]) == 294
    for text in plain["definitions"].values():
        assert text.endswith(".")


def test_the_summary_is_json_and_does_not_depend_on_the_order_of_the_rows(
    plain: dict[str, Any], study_dir: Path, tmp_path: Path
) -> None:
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    (tmp_path / "baselines").mkdir()
    for table in ("runs", "trajectories", "baselines/runs"):
        frame = pd.read_parquet(study_dir / f"{table}.parquet")
        # The first row stays, so that the models keep their order, which is that of their appearance.
        shuffled = pd.concat([frame.iloc[:1], frame.iloc[1:].sample(frac=1, random_state=0)])
        shuffled.to_parquet(tmp_path / f"{table}.parquet", index=False)
    for name in ("study.json", "baselines/study.json"):
        (tmp_path / name).write_text((study_dir / name).read_text())
    assert json.dumps(summarise(load_study(tmp_path)).to_dict()) == json.dumps(plain)


def test_another_seed_moves_the_intervals_and_not_the_values(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "s", models=("mlp-64",), arms=("initial", "online")))
    first, second = (summarise(study, seed=seed).overhead_of("mlp-64") for seed in (0, 1))
    assert isinstance(first, Overhead)
    assert isinstance(second, Overhead)
    assert first.ratio.value == second.ratio.value
    assert first.ratio.low != second.ratio.low


def test_verdicts_do_not_read_the_test_set(plain: dict[str, Any], study_dir: Path, tmp_path: Path) -> None:
    frame = pd.read_parquet(study_dir / "runs.parquet")
    frame["test_loss"] = frame["test_loss"].to_numpy()[::-1]
    frame["test_error"] = 0.5
    frame.to_parquet(tmp_path / "runs.parquet")
    (tmp_path / "trajectories.parquet").write_bytes((study_dir / "trajectories.parquet").read_bytes())
    spoilt = summarise(load_study(tmp_path)).to_dict()
    for model in ("mlp-64", "mlp-128"):
        for part in ("contraction", "clamped", "distance", "improvement", "region_stability"):
            assert spoilt["models"][model][part] == plain["models"][model][part], part
        assert spoilt["models"][model]["region"]["t2_loss"] == plain["models"][model]["region"]["t2_loss"]
    assert spoilt["model_sizes"] == plain["model_sizes"]


def constant(directory: Path) -> None:
    """Constant hyperparameters, and a spec that does not say that they were meant to vary."""
    frame = pd.read_parquet(directory / "runs.parquet")
    for column in [c for c in map(str, frame) if c.endswith(("_initial", "_final"))]:
        frame[column] = 0.25
    frame.to_parquet(directory / "runs.parquet")
    (directory / "study.json").unlink()


CASES: dict[str, tuple[dict[str, Any], Callable[[Path], None] | None, dict[str, str]]] = {
    "no grid": (
        {"arms": ("initial", "online", "rerun")},
        None,
        {
            "/models/mlp-64/region/t2_loss": "no grid arm",
            "/models/mlp-64/improvement/rerun": "no threshold of good",
            "/models/mlp-64/distance": "no grid arm",
            "/model_sizes": "no model with a region",
        },
    ),
    "no rerun": (
        {"arms": ("initial", "online", "grid")},
        None,
        {
            "/models/mlp-64/diagonal/online_rerun/test_loss": "in the arm rerun",
            "/models/mlp-64/equal_compute/curve": "in the arm rerun",
            "/models/mlp-64/improvement/rerun/split": "in the arm rerun",
        },
    ),
    "no online": (
        {"arms": ("initial", "grid")},
        None,
        {
            "/overhead": "in the arm online",
            "/models/mlp-64/region/t2_loss/shares": "in the arm online",
            "/models/mlp-64/contraction": "in the arm online",
            "/models/mlp-64/distance": "in the arm online",
        },
    ),
    "grid alone": ({"arms": ("grid",)}, None, {"/overhead": "arms online and initial"}),
    "one configuration": (
        {"configurations": 1},
        None,
        {
            "/models/mlp-64/contraction": "a spread needs two",
            "/models/mlp-64/equal_compute/curve": "fewer than two",
            "/models/mlp-64/diagonal/online_rerun/t2_loss": "needs two",
        },
    ),
    "all diverged": (
        {"truth": Truth(diverged=1.0)},
        None,
        {
            "/overhead": "no completed run",
            "/models/mlp-64/region/t2_loss": "fewer than three cells",
            "/models/mlp-64/contraction": "no completed run",
        },
    ),
    "half diverged": ({"truth": Truth(diverged=0.5)}, None, {}),
    "constant hyperparameters": (
        {},
        constant,
        {
            "/models/mlp-64/region/t2_loss": "one cell: no hyperparameter varies",
            "/models/mlp-64/contraction": "no hyperparameter of model mlp-64 varies",
        },
    ),
    "one model": ({"models": ("mlp-64",)}, None, {"/model_sizes": "1 model with a region"}),
    "one replicate": ({"grid_replicates": 1}, None, {"/models/mlp-64/best_cell/online": "one replicate"}),
    "per layer": ({"layers": 3}, None, {}),
    "one hyperparameter": (
        {
            "box": {"log10_l2": (-5.5, -2.5)},
            "grid": (7,),
            "truth": Truth(optimum={"mlp-64": (0.6,), "mlp-128": (0.5,)}, curvature=(1.0,)),
        },
        None,
        {},
    ),
    "no trajectories": (
        {},
        lambda d: (d / "trajectories.parquet").unlink(),
        {"/models/mlp-64/distance": "no recorded steps"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_part_says_what_it_cannot_compute_and_the_rest_is_made(case: str, tmp_path: Path) -> None:
    options, spoil, expected = CASES[case]
    directory = write_study(tmp_path / "s", **{"configurations": 8, "models": ("mlp-64",), **options})
    if spoil:
        spoil(directory)
    summary = summarise(load_study(directory)).to_dict()
    json.dumps(summary, allow_nan=False)
    found = reasons(summary)
    for path, words in expected.items():
        assert words in found[path], (path, found)
    if not expected and case != "half diverged":
        assert list(found) == ["/model_sizes"]
    assert sum(row["runs"] for row in summary["counts"]) > 0
