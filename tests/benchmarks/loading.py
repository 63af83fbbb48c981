"""What checking the checksums costs when a study is loaded: ``make bench-loading``.

Two studies hold the same table of runs. One was written as the service writes it, the other as it did before there were
checksums, so that nothing is checked. Files are in the page cache: from a slower storage, reading costs more, and the
share of the check is smaller.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from analysis import load_study
from service.ledger.checksums import ChecksummedWriter
from service.ledger.publish import WINDOW_ROWS
from service.ledger.schema import runs_schema
from service.ledger.shards import COMPRESSION, FILE_KEY
from tests.benchmarks.measure import interleaved, machine, quotients, spread, write

CHECKED, UNCHECKED = "with checksums", "without"
READS: dict[str, list[str] | None] = {"all columns": None, "three columns": ["arm", "model", "t2_loss"]}
TARGET = 1.05  # times as long as without


def runs_table(count: int) -> pa.Table:
    """Rows of random numbers, with the columns of a study of two hyperparameters."""
    rng = np.random.default_rng(0)
    schema = runs_schema(["log10_l2", "input_noise_std"])
    texts = {"arm": "online", "model": "mlp 100", "dataset": "digits", "status": "completed", "error": None}
    columns = []
    for field in schema:
        if field.name == "run_id":
            columns.append(pa.array([rng.bytes(10).hex() for _ in range(count)]))
        elif field.name in texts:
            columns.append(pa.array([texts[field.name]] * count, pa.string()))
        elif field.type == pa.float64():
            columns.append(pa.array(rng.normal(size=count)))
        else:
            columns.append(pa.array(rng.integers(0, 1_000_000, count), field.type))
    return pa.table(columns, schema=schema)


def make_studies(root: Path, count: int) -> dict[str, Path]:
    """The same table twice: with checksums and without."""
    rows = runs_table(count)
    places = {CHECKED: root / "checked", UNCHECKED: root / "unchecked"}
    for place in places.values():
        place.mkdir()
    schema = rows.schema.with_metadata({**rows.schema.metadata, FILE_KEY: b"runs.parquet"})
    with (
        pa.OSFile(str(places[CHECKED] / "runs.parquet"), "wb") as sink,
        ChecksummedWriter(sink, schema, COMPRESSION) as checked,
        pq.ParquetWriter(places[UNCHECKED] / "runs.parquet", rows.schema, compression=COMPRESSION) as unchecked,
    ):
        for start in range(0, count, WINDOW_ROWS):
            checked.write(rows.slice(start, WINDOW_ROWS))
            unchecked.write_table(rows.slice(start, WINDOW_ROWS))
    return places


def seconds(place: Path, columns: list[str] | None) -> float:
    """How long it takes to load the runs."""
    start = time.perf_counter()
    assert len(load_study(place, columns=columns).runs)
    return time.perf_counter() - start


def measure(count: int, repeats: int) -> dict[str, Any]:
    """The report: seconds of each kind of reading, and their ratio."""
    report: dict[str, Any] = {"machine": machine(), "runs": count, "target": TARGET}
    with tempfile.TemporaryDirectory() as root:
        places = make_studies(Path(root), count)
        report["bytes"] = (places[CHECKED] / "runs.parquet").stat().st_size
        for name, columns in READS.items():
            for place in places.values():
                seconds(place, columns)  # not counted
            times = interleaved({arm: partial(seconds, place, columns) for arm, place in places.items()}, repeats)
            ratio = spread(quotients(times[CHECKED], times[UNCHECKED]))
            report[name] = {**{arm: spread(values) for arm, values in times.items()}, "ratio": ratio}
            print(
                f"{name:<15} {report[name][UNCHECKED]['median']:.3f} s without, "
                f"{report[name][CHECKED]['median']:.3f} s with checksums, ratio {ratio['median']:.3f} (target {TARGET})"
            )
    return report


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks/loading.json"))
    options = parser.parse_args(arguments)
    write(options.out, measure(options.runs, options.repeats))


if __name__ == "__main__":
    main()
