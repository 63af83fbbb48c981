"""The columns of the tables, and which versions of them can be read."""

from __future__ import annotations

import pyarrow as pa
import pytest

from service.errors import NewerSchemaError
from service.ledger.schema import SCHEMA_VERSION, TABLES, check_version, conformed, schemas

NAMES = ["log10_l2", "input_noise_std"]


def test_every_field_says_what_it_is() -> None:
    found = schemas(NAMES)
    assert tuple(found) == TABLES
    for table, schema in found.items():
        assert schema.metadata == {b"schema_version": str(SCHEMA_VERSION).encode(), b"table": table.encode()}
        assert all(field.metadata[b"description"] for field in schema)
        assert len(set(schema.names)) == len(schema.names)


def test_hyperparameters_have_columns_in_their_order() -> None:
    found = schemas(NAMES)
    ends = [f"{name}_{end}" for name in NAMES for end in ("initial", "final")]
    assert [name for name in found["runs"].names if name.endswith(("_initial", "_final"))] == ends
    columns = found["trajectories"].names
    assert columns[6:10] == [*NAMES, *(f"hypergradient_{name}" for name in NAMES)]


@pytest.mark.parametrize("kind", [pa.Table, pa.RecordBatch])
def test_rows_from_before_a_column_have_null_in_it(kind: type[pa.Table] | type[pa.RecordBatch]) -> None:
    schema = schemas(NAMES)["runs"]
    kept = pa.schema([field for field in schema if field.name != "steps"], metadata={"schema_version": "0"})
    rows = kind.from_pylist([{"run_id": "a", "seed": 7}, {"run_id": "b"}], schema=kept)
    found = conformed(rows, schema)
    assert isinstance(found, kind)
    assert found.schema.equals(schema, check_metadata=True)
    assert [row["steps"] for row in found.to_pylist()] == [None, None]
    assert found.select(kept.names).to_pylist() == rows.to_pylist()
    assert conformed(found, schema).equals(found)


@pytest.mark.parametrize("metadata", [None, {}, {"schema_version": "0"}, {"schema_version": str(SCHEMA_VERSION)}])
def test_versions_that_can_be_read(metadata: dict[str, str] | None) -> None:
    check_version(pa.schema([], metadata=metadata), "runs.parquet")


def test_a_newer_version_is_refused() -> None:
    newer = pa.schema([], metadata={"schema_version": str(SCHEMA_VERSION + 1)})
    with pytest.raises(
        NewerSchemaError, match=rf"^runs.parquet: written in schema version {SCHEMA_VERSION + 1}, .*upgrade"
    ):
        check_version(newer, "runs.parquet")
