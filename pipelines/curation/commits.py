"""Commits: rows are added to the catalog or replaced, all at once or not at all, and only where the verdicts add up."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError

from pipelines.curation.catalog import SCHEMA, Catalog, register_rows
from pipelines.curation.layout import catalog_path
from pipelines.curation.records import VERDICTS
from pipelines.curation.workbench import count
from pipelines.storage import is_remote

_MERGED_SHARE = 0.05  # of the rows; more than that is cheaper to write anew than to merge
_BATCH_ROWS = 20_000
# Else every hundredth commit forgets versions of more than 30 days; here it is the vacuum that says which may go.
_TABLE = {"delta.enableExpiredLogCleanup": "false"}
_COLUMNS = ", ".join(f'"{name}"' for name in SCHEMA.names)


class VerdictSumError(RuntimeError):
    """The verdicts do not add up to the clips of the manifest; nothing was committed."""


class CommitConflictError(RuntimeError):
    """Somebody else committed a version meanwhile; nothing was committed."""


def commit(
    database: duckdb.DuckDBPyConnection,
    dataset_root: str | Path,
    catalog: Catalog | None,
    num_clips: int,
    about: Mapping[str, str] | None = None,
) -> Catalog:
    """Add or replace the rows of the relation `upserts`, by `row_id`, in one atomic commit.

    Args:
        database: Where `upserts` is, with the columns of `SCHEMA`.
        dataset_root: The data set.
        catalog: The version that the rows were planned against; None: the table is made.
        num_clips: What the verdicts but `removed` must add up to.
        about: Stored with the commit.

    Raises:
        VerdictSumError: They do not; nothing is committed.
        CommitConflictError: The newest version is not `catalog` any more; nothing is committed.
    """
    num_replaced = _check_sum(database, catalog, num_clips)
    properties = CommitProperties(custom_metadata=dict(about or {}), max_commit_retries=0)
    try:
        if catalog is None:
            if not is_remote(dataset_root):
                Path(dataset_root).mkdir(parents=True, exist_ok=True)
            _make(catalog_path(dataset_root), _stream(database, "from upserts"), properties)
        else:
            # A table of its own: a commit would move the version of the catalog that the caller has pinned.
            table = DeltaTable(catalog_path(dataset_root), version=catalog.version)
            _change(database, table, num_replaced, properties)
    except CommitFailedError as error:
        planned = "no version" if catalog is None else f"version {catalog.version}"
        raise CommitConflictError(
            f"dataset {dataset_root}: {planned} was planned against, and the next one could not be committed: somebody "
            f"else may have been faster; nothing was committed ({error})"
        ) from error
    return Catalog.open(dataset_root)


def _change(
    database: duckdb.DuckDBPyConnection, table: DeltaTable, num_replaced: int, properties: CommitProperties
) -> None:
    """New rows are appended; a few replaced ones are merged; many are written anew with all others, as a stream."""
    num_rows = count(database, "catalog_rows")
    if not num_replaced:
        _write(table, "append", _stream(database, "from upserts"), properties)
    elif num_replaced <= _MERGED_SHARE * num_rows:
        merge = table.merge(
            _stream(database, "from upserts"),
            predicate="old.row_id = new.row_id",
            source_alias="new",
            target_alias="old",
            commit_properties=properties,
        )
        merge.when_matched_update_all().when_not_matched_insert_all().execute()
    else:
        rest = "from catalog_rows anti join upserts using (row_id)"
        _write(table, "overwrite", _stream(database, f"{rest} union all {_select('from upserts')}"), properties)


def _make(path: str, rows: pa.RecordBatchReader, properties: CommitProperties) -> None:
    write_deltalake(
        path,
        rows,
        mode="error",
        configuration=_TABLE,
        commit_properties=properties,
        writer_properties=WriterProperties(compression="ZSTD"),
    )


def _write(table: DeltaTable, mode: Any, rows: pa.RecordBatchReader, properties: CommitProperties) -> None:
    write_deltalake(
        table,
        rows,
        mode=mode,
        commit_properties=properties,
        writer_properties=WriterProperties(compression="ZSTD"),
    )


def _select(rest: str) -> str:
    return f"select {_COLUMNS} {rest}"


def _stream(database: duckdb.DuckDBPyConnection, rest: str) -> pa.RecordBatchReader:
    """Rows of `SCHEMA`, exactly, as a stream."""
    batches = database.sql(_select(rest)).to_arrow_reader(_BATCH_ROWS)
    exact = (batch for rows in batches for batch in pa.Table.from_batches([rows]).cast(SCHEMA).to_batches())
    return pa.RecordBatchReader.from_batches(SCHEMA, exact)


def _check_sum(database: duckdb.DuckDBPyConnection, catalog: Catalog | None, num_clips: int) -> int:
    """Check that the verdicts will add up; returns how many rows are replaced."""
    num_upserts, num_different = database.sql("select count(*), count(distinct row_id) from upserts").fetchall()[0]
    if num_upserts != num_different:
        raise VerdictSumError(f"{num_upserts} rows, {num_different} of them different")
    counts, num_replaced = _counted(database, "upserts"), 0
    unknown = set(counts) - set(VERDICTS)
    if unknown:
        raise VerdictSumError(f"verdicts outside the closed list: {unknown}")
    if catalog is not None:
        register_rows(database, catalog)
        replaced = _counted(database, "catalog_rows semi join upserts using (row_id)")
        for verdict, count in _counted(database, "catalog_rows").items():
            counts[verdict] = counts.get(verdict, 0) + count - replaced.get(verdict, 0)
        num_replaced = sum(replaced.values())
    total = sum(count for verdict, count in counts.items() if verdict != "removed")
    if total != num_clips:
        raise VerdictSumError(f"{num_clips} clips in the manifest, {total} verdicts: {counts}")
    return num_replaced


def _counted(database: duckdb.DuckDBPyConnection, relation: str) -> dict[str, int]:
    return dict(database.sql(f"select verdict, count(*) from {relation} group by verdict").fetchall())
