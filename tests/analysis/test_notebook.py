"""What a notebook shows of a study: it stays small, names are escaped, and what cannot be read is a sentence."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis import Study, load_study
from tests.analysis.synthetic import Truth, write_study

MOST_BYTES = 200_000
ROOT = Path(__file__).parents[2]


class Page(HTMLParser):
    """The elements and the text of a page; fails for one that is not closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.elements.append(tag)
        if tag not in ("rect", "path", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        self.elements.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return "|".join(self.words)


def shown(study: Study) -> Page:
    html = study._repr_html_()
    assert len(html.encode()) < MOST_BYTES
    return Page(html)


def replaced(directory: Path, **columns: list[str]) -> Path:
    """The study with other values in columns of its runs table."""
    table = pq.read_table(directory / "runs.parquet")
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    pq.write_table(table, directory / "runs.parquet")
    return directory


def test_the_table_says_what_the_study_is(study: Study) -> None:
    text = shown(study).text
    best = study.best().iloc[0]
    for words in (
        "synthetic",
        "models|mlp-64, mlp-128",
        "arms|initial, online, rerun, grid",
        "runs|294 completed",
        "boxes|log10_l2 from −5.5 to −2.5, input_noise_std from 0 to 0.8",
        "tables|published",
        f"best T2 loss|{best['t2_loss']:.4g}, with test loss {best['test_loss']:.4g}: {best['arm']} of {best['model']}",
        f"place|{study.location[:50]}",
    ):
        assert words in text


def test_the_scatter_has_every_start_and_end_of_a_small_study(study: Study) -> None:
    page = shown(study)
    assert page.elements.count("svg") == 2
    assert page.elements.count("circle") == 2 * 2 * 24


def test_text_and_lines_have_the_colour_of_the_page(study: Study) -> None:
    html = study._repr_html_()
    assert set(re.findall(r'(?:stroke|fill)="([^"]+)"', html)) == {"none", "currentColor", "#3d8fd1"}
    assert set(re.findall(r"[^-]color: ([a-z#]+)", html)) == {"inherit"}
    assert "background" not in html


def test_one_hyperparameter_is_drawn_with_starts_above_ends(tmp_path: Path) -> None:
    truth = Truth(optimum={"mlp-64": (0.6,)}, curvature=(1.0,))
    directory = write_study(
        tmp_path / "s", truth=truth, models=("mlp-64",), box={"input_noise_std": (0.0, 0.8)}, grid=(5,)
    )
    page = shown(load_study(directory))
    assert page.elements.count("circle") == 2 * 24
    assert "start above, end below" in page.text


def test_studies_without_online_runs_have_no_scatter(tmp_path: Path) -> None:
    page = shown(load_study(write_study(tmp_path / "s", arms=("initial",))))
    assert "svg" not in page.elements
    assert "Hollow" not in page.text


def test_names_are_escaped(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script><b>'
    directory = write_study(tmp_path / "s", models=("mlp-64",), name=evil)
    count = pq.read_metadata(directory / "runs.parquet").num_rows
    arms = pq.read_table(directory / "runs.parquet")["arm"].to_pylist()
    replaced(directory, model=[evil] * count, arm=[evil if arm == "grid" else arm for arm in arms])
    page = shown(load_study(directory))
    assert not {"script", "b"} & set(page.elements)
    assert page.text.count("<script>alert") >= 3


def test_column_names_are_escaped_too(tmp_path: Path) -> None:
    directory = write_study(tmp_path / "s", models=("mlp-64",))
    table = pq.read_table(directory / "runs.parquet")
    names = [name.replace("log10_l2", '<i>"x"</i>') for name in table.column_names]
    pq.write_table(table.rename_columns(names), directory / "runs.parquet")
    page = shown(load_study(directory))
    assert "i" not in page.elements
    assert page.elements.count("circle") == 2 * 24
    assert '<i>"x"</i> from' in page.text


def test_many_long_names_stay_small(tmp_path: Path) -> None:
    directory = write_study(tmp_path / "s", models=("mlp-64",), configurations=400)
    count = pq.read_metadata(directory / "runs.parquet").num_rows
    replaced(directory, model=[f"{i % 300}-{'&' * 900}" for i in range(count)])
    page = shown(load_study(directory))
    assert "and 292 more" in page.text
    assert "4 of 300 models are drawn" in page.text


def test_unfinished_studies_say_so(tmp_path: Path) -> None:
    study = load_study(write_study(tmp_path / "s", shards=2))
    assert "tables|not published yet: the runs committed so far" in shown(study).text
    assert "runs|294 completed" in shown(study).text
    assert repr(study) == f"<Study 'synthetic' at {tmp_path / 's'}: 294 runs, not yet published>"


def test_a_study_without_a_run_is_a_sentence(study_dir: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(study_dir, tmp_path / "s")
    pq.write_table(pq.read_table(directory / "runs.parquet").slice(0, 0), directory / "runs.parquet")
    study = load_study(directory)
    assert study._repr_html_() == "<p><strong>synthetic</strong>: no run has been committed yet</p>"
    assert repr(study) == f"<Study 'synthetic' at {directory}: 0 runs, published>"


def test_a_study_that_cannot_be_read_any_more_is_a_sentence(study_dir: Path, tmp_path: Path) -> None:
    directory = shutil.copytree(study_dir, tmp_path / "s")
    study = load_study(directory)
    shutil.rmtree(directory)
    page = shown(study)
    assert page.elements == ["p", "strong"]
    assert "runs.parquet" in page.text
    assert repr(study).startswith(f"<Study 'synthetic' at {directory}: ")
    assert "\n" not in repr(study)


def destroyed(directory: Path, *columns: str) -> Path:
    """The study with the pages of some columns of its runs table overwritten."""
    path = directory / "runs.parquet"
    content, groups = bytearray(path.read_bytes()), pq.read_metadata(path)
    for g in range(groups.num_row_groups):
        for c in range(groups.num_columns):
            column = groups.row_group(g).column(c)
            if column.path_in_schema in columns:
                begin = min(o for o in (column.dictionary_page_offset, column.data_page_offset) if o)
                content[begin : begin + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(content)
    return directory


def test_only_the_columns_that_are_shown_are_read(study_dir: Path, tmp_path: Path) -> None:
    whole = shown(load_study(shutil.copytree(study_dir, tmp_path / "s"))).elements
    study = load_study(destroyed(tmp_path / "s", "seed", "dataset", "error", "steps", "train_time_s", "attempt"))
    assert shown(study).elements == whole


def test_damage_is_a_sentence(study_dir: Path, tmp_path: Path) -> None:
    study = load_study(destroyed(shutil.copytree(study_dir, tmp_path / "s"), "t2_loss"))
    assert shown(study).elements == ["p", "strong"]


GLANCE = """
import resource, sys
from analysis import load_study
study = load_study(sys.argv[1])
study.sql("SELECT count(*) FROM runs")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
html = study._repr_html_()
best = study.best(n=10)
print(len(html.encode()), len(best), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
def test_a_million_runs_take_little_memory(tmp_path: Path) -> None:
    """As a frame they take over 500 MB."""
    directory = write_study(
        tmp_path / "s", models=("mlp-64",), configurations=334_000, arms=("initial", "online", "rerun"), points=1
    )
    assert pq.read_metadata(directory / "runs.parquet").num_rows > 1_000_000
    done = subprocess.run(
        [sys.executable, "-c", GLANCE, str(directory)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    size, best, megabytes = map(int, done.stdout.split())
    assert size < MOST_BYTES
    assert best == 10
    assert megabytes < 250
