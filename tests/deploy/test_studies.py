"""The published studies: their figures follow from the tables beside them, and their specs are valid."""

from __future__ import annotations

import itertools
import json
import math
import runpy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import load_study, summarise
from service.spec.study_spec import load_spec

STUDIES = Path(__file__).parents[2] / "deploy" / "studies"
PUBLISHED = sorted(path.parent for path in STUDIES.glob("**/summary.json"))


def differences(found: Any, wanted: Any, where: str = "") -> list[str]:
    """Where two JSON values differ by more than another machine's linear algebra may: one part in a thousand."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        keys = sorted(found.keys() | wanted.keys())
        return [d for k in keys for d in differences(found.get(k), wanted.get(k), f"{where}.{k}")]
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        pairs = enumerate(zip(found, wanted, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{where}[{i}]")]
    if isinstance(found, float) or isinstance(wanted, float):
        close = None not in (found, wanted) and math.isclose(found, wanted, rel_tol=1e-3, abs_tol=1e-4)
        return [] if close else [f"{where}: {found} is not {wanted}"]
    return [] if found == wanted else [f"{where}: {found!r} is not {wanted!r}"]


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda path: path.name)
def test_summary_follows_from_the_tables(published: Path) -> None:
    [wanted] = json.loads((published / "summary.json").read_text())["studies"]
    found = json.loads(json.dumps(summarise(load_study(published)).to_dict()))
    assert differences(found, wanted) == []


@pytest.mark.parametrize("spec", sorted(STUDIES.glob("**/*.toml")), ids=lambda path: path.stem)
def test_published_specs_are_valid(spec: Path) -> None:
    load_spec(spec)


def test_there_is_a_published_study() -> None:
    assert PUBLISHED


def test_the_search_is_of_valid_studies_and_its_table_has_them_all() -> None:
    search = runpy.run_path(str(STUDIES / "search" / "search.py"))
    pairs = [(problem, s) for problem in search["PROBLEMS"] for s in search["settings"](problem)]
    specs = [search["spec"](problem, setting) for problem, setting in pairs]
    specs += [search["spec"](problem, None) for problem in search["PROBLEMS"]]
    assert len({spec.name for spec in specs}) == len(specs)
    tuned = [spec.hyperparameters for spec in specs]
    assert None not in [box for both in tuned for box in (both.log10_l2, both.input_noise_std)], "both are tuned"
    first = [spec.to_dict() for spec in specs[: len(search["SETTINGS"])]]
    settings = [whole["outer"] | whole["hyperparameters"] for whole in first]
    assert all(a != b for a, b in itertools.combinations(settings, 2)), "each setting changes something"
    table = pd.read_csv(STUDIES / "search" / "search.csv")
    assert list(zip(table["problem"], table["setting"], strict=True)) == pairs
    assert (table["n"] == search["STARTS"]).all()
