"""The manifest of a run: one row per request and variant, a view of the records."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from diffedit.types import Variant

OF_SAMPLES = ("sample", "score", "mask")  # columns of the best of several
TYPES = {  # of the columns that each manifest has
    "id": pa.string(),
    "variant": pa.string(),
    "strength": pa.float64(),
    "seed": pa.int64(),
    "status": pa.string(),
    "level": pa.int64(),
    "evaluations": pa.int64(),
    "shared_evaluations": pa.int64(),
    "seconds": pa.float64(),
    "file": pa.string(),
    "sha256": pa.string(),
    "error": pa.string(),
}
PACKED = ("place", "record")  # columns of a packed shard that are none of a manifest


def build_manifest(records: Sequence[Mapping[str, Any]], variants: Sequence[Variant], seed: int | None) -> pd.DataFrame:
    """One row per request and variant, in the order of the records; a failed request has its rows, with the reason.

    `evaluations` served this edit alone; `shared_evaluations` (mask, encoding) served all edits of the request once.
    `seconds` is the request's share of the wall time, the same in each of its rows. Metadata whose names are those of
    other columns are left out, and a column of nothing.
    """
    rows = []
    for record in records:
        taken = {*TYPES, *PACKED, *OF_SAMPLES}
        shared = {key: value for key, value in record["metadata"].items() if key not in taken}
        shared |= {"id": record["id"], "seed": seed, "status": record["status"], "error": record["error"]}
        shared |= {key: record[key] for key in ("shared_evaluations", "seconds")}
        edits = record["edits"] or [{"variant": str(variant)} for variant in variants]
        rows += [shared | edit | {"strength": Variant.parse(edit["variant"]).strength} for edit in edits]
    more = sorted({key for row in rows for key, value in row.items() if value is not None} - set(TYPES))
    table = pd.DataFrame(rows, columns=[*TYPES, *more])
    for name in more:
        if table[name].map(name_kind).nunique() > 1:  # a column of a table has one type
            table[name] = table[name].map(lambda value: None if pd.isna(value) else str(value))
    return set_types(table)


def set_types(table: pd.DataFrame) -> pd.DataFrame:
    """A manifest with the types that its numbers have, also where some are not there."""
    return table.astype({"level": "Int64", "evaluations": "Int64", "strength": float})


def name_kind(value: Any) -> str | None:
    """What a value of a column is; None where there is none."""
    if value is None or value != value:
        return None
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def to_arrow(table: pd.DataFrame) -> pa.Table:
    """A manifest with the types that its columns have also where they are empty."""
    arrow = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    for place, name in enumerate(arrow.column_names):
        if name in TYPES:
            arrow = arrow.set_column(place, name, arrow[name].cast(TYPES[name]))
    return arrow


def merge_manifest(shards: Sequence[Path], loose: pd.DataFrame, asked: Collection[str]) -> pd.DataFrame:
    """The manifest of packed shards and of records that are not packed yet, sorted by id: one query over all files.

    Args:
        shards: files of `diffedit.runs.shards`.
        loose: the manifest of the records beside them; of an id that is in both, these count.
        asked: ids of the requests that are asked for now; what the shards hold of others is left out.

    Raises:
        OSError: a file is no whole one; the message names it.
    """
    import duckdb

    files = ", ".join("'" + str(path).replace("'", "''") + "'" for path in shards)
    # A folder of a run may be called steps=20, which is no column.
    packed = f"read_parquet([{files}], union_by_name=true, hive_partitioning=false)"
    if not shards:
        return loose.sort_values("id", kind="stable", ignore_index=True)
    try:
        with duckdb.connect(config={"threads": 1}) as database:
            database.register("loose", to_arrow(loose))
            database.register("asked", pa.table({"id": pa.array(asked, pa.string())}))
            table = database.sql(
                f"""
                SELECT * EXCLUDE (place, record) FROM (
                    SELECT * FROM {packed} SEMI JOIN asked USING (id) WHERE id NOT IN (SELECT id FROM loose)
                    UNION ALL BY NAME
                    SELECT *, row_number() OVER () AS place, NULL AS record FROM loose
                ) ORDER BY id, place
                """
            ).to_arrow_table()
    except duckdb.Error as error:
        raise OSError(f"{shards[0].parent}: the manifest could not be made of its shards: {error}") from error
    more = sorted(set(table.column_names) - set(TYPES))
    return set_types(table.select([*TYPES, *more]).to_pandas())
