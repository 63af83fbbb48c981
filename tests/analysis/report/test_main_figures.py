from __future__ import annotations

from pathlib import Path

from analysis import load_study, main_figures, summarise
from tests.analysis.synthetic import write_study


def test_the_summary_has_the_main_figures(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "study", models=("mlp-64",), configurations=10, points=2))
    summary = summarise(study)
    statistics = summary.to_dict()
    rows = {label.strip(): values for label, *values in main_figures(summary)}
    for column, model in enumerate(["mlp-64"]):
        found = statistics["models"][model]
        end = found["region"]["t2_loss"]["shares"]["end"]
        assert rows["optimal region, share of the box"][column] == f"{found['region']['t2_loss']['volume']:.1%}"
        assert rows["online runs that end in it"][column] == (
            f"{end['value']:.0%} [{end['low']:.0%}, {end['high']:.0%}] of 10"
        )
        spread = next(line for line in found["contraction"] if line["along"] == "log10_l2")
        assert rows["spread of log10_l2, end / start"][column].startswith(f"{spread['std_ratio']:.2f} [")
        difference = found["diagonal"]["online_rerun"]["test_loss"]["mean_difference"]
        assert rows["test loss, rerun − online"][column].startswith(f"{difference['value']:+.4f} [")
        overhead = next(line for line in statistics["overhead"] if line["model"] == model)
        assert rows["time, online / initial"][column].startswith(f"{overhead['ratio']:.2f} [")
    shares = [rows[f"initial → rerun, {outcome}"][0] for outcome in ("good→good", "bad→good", "bad→bad", "good→bad")]
    assert sum(int(text.split("%")[0]) for text in shares) in (99, 100, 101)
    assert list(rows) == [
        "optimal region, share of the box",
        "online runs that start in it",
        "online runs that end in it",
        "spread of log10_l2, end / start",
        "spread of input_noise_std, end / start",
        "initial → rerun, good→good",
        "initial → rerun, bad→good",
        "initial → rerun, bad→bad",
        "initial → rerun, good→bad",
        "test loss, rerun − online",
        "time, online / initial",
    ]


def test_what_a_study_does_not_allow_is_a_dash(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "study", arms=("initial", "online"), models=("mlp-64",)))
    rows = {label.strip(): values for label, *values in main_figures(summarise(study))}
    assert rows["optimal region, share of the box"] == ["–"]
    assert rows["test loss, rerun − online"] == ["–"]
    assert rows["time, online / initial"] != ["–"]
    assert {len(values) for values in rows.values()} == {1}


def test_an_interval_that_is_not_known_is_a_dash(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "study", configurations=1, models=("mlp-64",)))
    rows = {label.strip(): values for label, *values in main_figures(summarise(study))}
    assert rows["time, online / initial"] == ["–"]
    assert "nan" not in str(rows)
