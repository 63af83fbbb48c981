"""Searches beside a study, from the first to the tables: run here, by real Tuners and by T1-T2."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import load_study
from service import AnotherStudyError, StudyError, run_study
from service.tune.baselines.methods import METHODS
from service.tune.baselines.run import run_baselines
from service.tune.baselines.search import Search, run_search
from service.tune.training import Training
from tests.service.tune.baselines.settings import COSTS, FIXED, ONE_STEP_COST, STEPS, give_costs, small_spec

ROOT = Path(__file__).parents[4]
ARMS = {*METHODS, "rerun", "t1t2-rerun"}
TUNED = ("online", "t1t2")  # they need neither Ray nor Optuna


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Two repetitions of each method, with a budget of four trainings."""
    study = tmp_path_factory.mktemp("all")
    with pytest.MonkeyPatch.context() as patch:
        give_costs(patch)
        run_baselines(small_spec(), str(study), repetitions=2, trainings=4, processes=2)
    return load_study(str(study / "baselines")).runs


def searches(runs: pd.DataFrame, *arms: str) -> list[pd.DataFrame]:
    kept = runs[runs["arm"].isin(arms)] if arms else runs
    return [search for _, search in kept.groupby(["arm", "replicate"], sort=False)]


def settled(runs: pd.DataFrame) -> pd.DataFrame:
    """All but what a clock says."""
    return runs.drop(columns=["train_time_s", "spent_s"])


@pytest.mark.slow
def test_every_method_is_run_as_often(everything: pd.DataFrame) -> None:
    assert {arm: set(rows["replicate"]) for arm, rows in everything.groupby("arm")} == {arm: {0, 1} for arm in ARMS}
    assert set(everything["status"]) == {"completed", "stopped"}
    assert everything["run_id"].is_unique
    assert everything.loc[everything["status"] == "completed", ["t2_loss", "test_loss"]].notna().all(axis=None)
    assert everything.loc[everything["status"] == "stopped", "test_loss"].isna().all()


@pytest.mark.slow
def test_no_search_spends_more_than_it_may(everything: pd.DataFrame) -> None:
    budget = 4 * FIXED
    for search in searches(everything, "random", "tpe"):
        assert list(search["compute"]) == [FIXED] * 4
        assert list(search["spent"]) == [FIXED * count for count in (1, 2, 3, 4)]
    for search in searches(everything, "asha", "hyperband", "tpe-asha"):
        assert search["compute"].sum() == search["spent"].max()
        assert budget <= search["spent"].max() <= budget + 10 + COSTS.evaluation  # one point more at most
        assert (search["steps"] < STEPS).any()  # some were stopped early, before the end of the budget
    for size in (4, 8, 16):
        for search in searches(everything, f"pbt-{size}"):
            assert list(search["compute"]) == [STEPS + 20 * COSTS.evaluation] * size
            assert set(search["status"]) == {"completed"}
    for arm, cost in (("online", COSTS.online), ("t1t2", ONE_STEP_COST)):
        for search in searches(everything, arm):
            each = STEPS * cost + COSTS.evaluation
            assert len(search) == int(budget / each)
            assert list(search["spent"]) == pytest.approx([each * (k + 1) for k in range(len(search))])


@pytest.mark.slow
def test_all_methods_begin_at_the_same_starts_and_repetitions_at_others(everything: pd.DataFrame) -> None:
    firsts = everything[(everything["config_index"] == 0) & everything["arm"].isin(list(METHODS))]
    starts = firsts[["replicate", "seed", "log10_l2_initial", "input_noise_std_initial"]].drop_duplicates()
    assert list(starts["replicate"]) == [0, 1]
    assert starts["seed"].is_unique


@pytest.mark.slow
def test_populations_exploit(everything: pd.DataFrame) -> None:
    for search in searches(everything, "pbt-8"):
        moved = search["input_noise_std_initial"] != search["input_noise_std_final"]
        assert moved.any()
        assert search["input_noise_std_final"].between(0.0, 0.8).all()
        assert search["log10_l2_final"].between(-5.5, -2.5).all()


def test_the_reruns_are_fixed_trainings_with_the_final_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_costs(monkeypatch)
    found = run_baselines(small_spec(), str(tmp_path), methods=TUNED, repetitions=2, trainings=4)
    assert (found.searches, found.ran, found.failed) == (4, 4, 0)
    study = load_study(found.uri)
    for method, rerun in (("online", "rerun"), ("t1t2", "t1t2-rerun")):
        for first, again in zip(searches(study.runs, method), searches(study.runs, rerun), strict=True):
            assert list(first["seed"]) == list(again["seed"])
            assert list(first["log10_l2_final"]) == list(again["log10_l2_initial"]) == list(again["log10_l2_final"])
            assert list(again["compute"]) == [FIXED] * len(again)
            assert list(again["spent"]) == pytest.approx([a + FIXED * (k + 1) for k, a in enumerate(first["spent"])])
    assert study.info["provenance"]["versions"]["torch"]
    assert study.info["baselines"]["costs"] == {"mlp-8": vars(COSTS) | {"t1t2": ONE_STEP_COST}}
    assert list(study.trajectories["step"]) == [STEPS] * len(study.runs)  # T1-T2 needs no look at T2 on its way


def test_what_is_done_is_not_run_again_and_more_is_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_costs(monkeypatch)
    spec, place = small_spec(), str(tmp_path)
    run_baselines(spec, place, methods=["online"], repetitions=2, trainings=4)
    before = load_study(f"{place}/baselines").runs
    assert run_baselines(spec, place, methods=["online"], repetitions=2, trainings=4).ran == 0
    assert settled(load_study(f"{place}/baselines").runs).equals(settled(before))
    assert run_baselines(spec, place, methods=TUNED, repetitions=3, trainings=4).ran == 4
    after = load_study(f"{place}/baselines").runs
    kept = after[after["run_id"].isin(before["run_id"])].reset_index(drop=True)
    assert kept.equals(before)  # times included
    assert len(searches(after, "online", "t1t2")) == 6
    whole = tmp_path / "at once"
    run_baselines(spec, str(whole), methods=TUNED, repetitions=3, trainings=4)
    assert settled(load_study(f"{whole}/baselines").runs).equals(settled(after))


COMMAND = """
import sys
import pytest
from tests.service.tune.baselines.settings import give_costs
from service.cli.app import main
give_costs(pytest.MonkeyPatch())
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_command_that_is_cut_off_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    """Wherever it is cut off, the tables are in the end those of a command that was left alone."""
    spec = tmp_path / "spec.toml"
    spec.write_text(
        'name = "small"\nseed = 3\ndata = { name = "digits", t1_size = 200, t2_size = 100, test_size = 100 }\n'
        "models = [{ hidden = [8] }]\ninner = { steps = 200, batch_size = 50 }\nouter = { batch_size = 50 }\n"
    )
    methods = "asha,pbt-4,online"
    words = ["baselines", str(spec), "--repetitions=2", "--trainings=4", f"--methods={methods}", "--out"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", COMMAND, *words]
    cut = tmp_path / "cut"
    with subprocess.Popen([*command, str(cut)], env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("2 of 6"):
                process.send_signal(number)
                break
        errors = process.stderr.read()
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL), errors
    assert ("Go on with:" in errors) == (number == signal.SIGINT)
    for place in (cut, tmp_path / "whole"):
        again = subprocess.run([*command, str(place)], env=environment, capture_output=True, text=True, check=False)
        assert again.returncode == 0, again.stderr
    found, wanted = (load_study(str(place / "baselines")).runs for place in (cut, tmp_path / "whole"))
    assert settled(found).equals(settled(wanted))


def test_they_lie_beside_a_study_and_leave_it_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_costs(monkeypatch)
    spec = small_spec(configurations=1, arms=["initial"])
    run_baselines(spec, str(tmp_path), methods=["online"], repetitions=2, trainings=2)  # whichever comes first
    run_study(spec, tmp_path)
    before = load_study(str(tmp_path)).runs
    run_baselines(spec, str(tmp_path), methods=["online"], repetitions=3, trainings=2)
    study = load_study(str(tmp_path))
    assert study.runs.equals(before)
    assert study.baselines is not None
    assert set(study.baselines.runs["arm"]) == {"online", "rerun"}
    with pytest.raises(StudyError, match="holds the baselines of a study"):
        run_study(spec, tmp_path / "baselines")


def test_other_baselines_and_other_studies_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_costs(monkeypatch)
    run_baselines(small_spec(), str(tmp_path), methods=["online"], repetitions=2, trainings=2)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")}
    with pytest.raises(AnotherStudyError, match="holds other baselines") as caught:
        run_baselines(small_spec(), str(tmp_path), methods=["online"], repetitions=2, trainings=3)
    assert "trainings: 3 here, 2 there" in str(caught.value)
    with pytest.raises(AnotherStudyError, match="spec: "):
        run_baselines(small_spec(seed=4), str(tmp_path), methods=["online"], repetitions=2, trainings=2)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")} == before

    run_study(small_spec(configurations=1, arms=["initial"], seed=9), tmp_path / "other")
    with pytest.raises(AnotherStudyError, match="of another spec"):
        run_baselines(small_spec(), str(tmp_path / "other"), methods=["online"], repetitions=2, trainings=2)
    assert not (tmp_path / "other" / "baselines").exists()


def test_a_training_that_raises_has_failed_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    advance = Training.advance

    def brittle(self: Training) -> dict[str, Any]:
        if self.member.hyperparameters["input_noise_std"] > 0.4:
            raise RuntimeError("too strong")
        return advance(self)

    monkeypatch.setattr(Training, "advance", brittle)
    search = Search(spec=small_spec(), model="mlp-8", method="online", repetition=0, trainings=12, costs=COSTS)
    trials = run_search(search)
    failed = [trial for trial in trials if trial.status == "failed"]
    assert 0 < len(failed) < len(trials)
    for trial in failed:
        assert (trial.error, trial.compute, trial.reports) == ("RuntimeError: too strong", 0.0, [])
    assert all(trial.status == "completed" for trial in trials if trial not in failed)


def test_a_study_in_the_place_of_baselines_is_refused(tmp_path: Path) -> None:
    run_study(small_spec(configurations=1, arms=["initial"]), tmp_path / "baselines")
    before = load_study(str(tmp_path / "baselines")).runs
    with pytest.raises(StudyError, match="baselines: holds a study, and no baselines"):
        run_baselines(small_spec(), str(tmp_path), methods=["online"], repetitions=2, trainings=2)
    assert load_study(str(tmp_path / "baselines")).runs.equals(before)


def test_a_row_says_what_it_has_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give_costs(monkeypatch)
    found = run_baselines(small_spec(), str(tmp_path), methods=["online"], repetitions=2, trainings=5)
    runs = load_study(found.uri).runs
    for search in searches(runs):
        assert (search["spent_s"] > 0).all()
        assert all(a < b for a, b in pairwise(search["spent_s"]))
    progress = json.loads((tmp_path / "baselines" / "progress.json").read_text())["status"]
    assert (progress["state"], progress["completed"]) == ("completed", len(runs))
