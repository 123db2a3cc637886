"""The catalog: a Delta Lake table at `<dataset>/catalog`, one row an input clip; its version is the data set's version.

A sample of a kept row is read by its place: `bytes` from `offset` in `<dataset>/shards/<shard>` are its mp4. The same
mp4 is `slice_bytes` from `slice_offset` in `<dataset>/slices/<slice>`, for every clip that could be decoded.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, WriterProperties, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from pipelines.curation.layout import catalog_path, oldest_path
from pipelines.curation.records import VERDICTS
from pipelines.curation.slices import FOUND_SCHEMA, PLAN_SCHEMA
from pipelines.storage import exists, is_remote, read_bytes

SCHEMA = pa.schema(
    [
        *PLAN_SCHEMA,
        *FOUND_SCHEMA,
        ("duplicate_of", pa.string()),
        ("num_frames", pa.int32()),
        ("fps", pa.float64()),
        ("size_px", pa.int32()),
        ("slice", pa.string()),
        ("slice_offset", pa.int64()),
        ("slice_bytes", pa.int64()),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("bytes", pa.int64()),
        ("txt_offset", pa.int64()),
        ("txt_bytes", pa.int64()),
        ("json_offset", pa.int64()),
        ("json_bytes", pa.int64()),
        ("attempts", pa.int32()),
        ("is_transient", pa.bool_()),
        ("mark", pa.int64()),
        ("refresh_id", pa.string()),
        ("scoring_hash", pa.string()),
        ("config_hash", pa.string()),
    ]
)
"""`num_frames`, `fps`, `size_px` are the sample's; `source_*` the source's; places are null where nothing is stored.

`duplicate_of` is the key of the clip that is kept instead; `attempts` counts refreshes that tried the clip and
`is_transient` says that the next one may; `mark` changes with etag, caption and the manifest's other columns.
"""
PLACE = ("shard", "offset", "bytes", "txt_offset", "txt_bytes", "json_offset", "json_bytes")
"""Where a sample lies."""

_MERGED_SHARE = 0.05  # of the rows; more than that is cheaper to write anew than to merge
_BATCH_ROWS = 20_000
_COLUMNS = ", ".join(f'"{name}"' for name in SCHEMA.names)
_SQL_TYPES: dict[pa.DataType, str] = {
    pa.string(): "varchar",
    pa.int64(): "bigint",
    pa.int32(): "integer",
    pa.float64(): "double",
    pa.bool_(): "boolean",
    pa.list_(pa.int32()): "integer[]",
    pa.list_(pa.int64()): "bigint[]",
    pa.binary(): "blob",
}


class CatalogError(ValueError):
    """A catalog, or a version of it, that is not there."""


class VerdictSumError(RuntimeError):
    """The verdicts do not add up to the clips of the manifest; nothing was committed."""


class CommitConflictError(RuntimeError):
    """Somebody else committed a version meanwhile; nothing was committed."""


class Catalog:
    """A version of a data set's catalog, pinned: later commits do not change what it answers."""

    def __init__(self, table: DeltaTable) -> None:
        self._table = table

    @classmethod
    def open(cls, dataset_root: str | Path, version: int | None = None) -> Self:
        """Open a version; the newest where `version` is None.

        Raises:
            CatalogError: There is no data set, or no such version of it.
        """
        try:
            table = DeltaTable(catalog_path(dataset_root))
        except TableNotFoundError as error:
            raise CatalogError(f"dataset {dataset_root}: no data set is there") from error
        newest = table.version()
        try:
            if version is not None and version != newest:
                _check_not_vacuumed(dataset_root, version)
                table.load_as_version(version)
        except DeltaError as error:
            raise CatalogError(
                f"dataset {dataset_root}: version {version} cannot be opened; the newest is {newest}, and old ones may "
                f"have been vacuumed"
            ) from error
        return cls(table)

    @property
    def version(self) -> int:
        """The version of the data set: 0 after the first refresh."""
        return self._table.version()

    @property
    def table(self) -> DeltaTable:
        """The Delta table at this version."""
        return self._table

    def dataset(self) -> ds.Dataset:
        """All rows, to be read as a stream: memory does not grow with their number."""
        return self._table.to_pyarrow_dataset()

    def rows(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows, one an input clip that is or was in the manifest, in no particular order."""
        return self.dataset().to_table(columns=list(columns) if columns is not None else None)

    def kept(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of samples that may be read, sorted by key; `columns` must hold `key` where they are given."""
        kept = pc.equal(pc.field("verdict"), "kept")
        return (
            self.dataset().to_table(columns=list(columns) if columns is not None else None, filter=kept).sort_by("key")
        )

    def verdicts(self) -> dict[str, int]:
        """Rows by verdict, in the order of the closed list; verdicts that nothing has are left out."""
        counts = Counter[str]()
        for batch in self.dataset().to_batches(columns=["verdict"]):
            counts.update(count_verdicts(pa.Table.from_batches([batch])))
        return {verdict: counts[verdict] for verdict in VERDICTS if verdict in counts}

    def shards(self) -> list[str]:
        """Names of the shards that belong to this version, sorted."""
        kept = pc.equal(pc.field("verdict"), "kept")
        names = set[str]()
        for batch in self.dataset().to_batches(columns=["shard"], filter=kept):
            names.update(batch.column("shard").unique().to_pylist())
        return sorted(names)


def sql_columns(expressions: Mapping[str, str]) -> str:
    """The columns of `SCHEMA` for a SELECT, in their order and types, each as its expression; null without one."""
    casts = (
        f'cast({expressions.get(field.name, "null")} as {_SQL_TYPES[field.type]}) as "{field.name}"' for field in SCHEMA
    )
    return ", ".join(casts)


def open_if_there(dataset_root: str | Path) -> Catalog | None:
    """The newest version, or None before the first refresh.

    Raises:
        CatalogError: The catalog lacks columns: an earlier version of this code made it.
    """
    if not DeltaTable.is_deltatable(catalog_path(dataset_root)):
        return None
    catalog = Catalog.open(dataset_root)
    missing = [name for name in SCHEMA.names if name not in catalog.dataset().schema.names]
    if missing:
        raise CatalogError(f"dataset {dataset_root}: catalog columns {missing} are missing; make a new data set")
    return catalog


def register_rows(database: duckdb.DuckDBPyConnection, catalog: Catalog | None) -> None:
    """Let `catalog_rows` name the rows of a version, none where there is no version, to be read as a stream.

    DuckDB reads local files itself, three times as fast as through Arrow.
    """
    database.execute("drop view if exists catalog_rows")
    if catalog is None:
        database.register("catalog_rows", SCHEMA.empty_table())
        return
    files = [path.removeprefix("file://") for path in catalog.table.file_uris()]
    if files and all(Path(path).is_file() for path in files):
        names = ", ".join("'" + path.replace("'", "''") + "'" for path in files)
        database.execute(f"create view catalog_rows as select * from read_parquet([{names}])")
    else:
        database.register("catalog_rows", catalog.dataset())


def count_verdicts(rows: pa.Table) -> dict[str, int]:
    """Rows by verdict, in the order of the closed list."""
    counted: Mapping[Any, int] = {
        entry["values"]: entry["counts"] for entry in pc.value_counts(rows["verdict"]).to_pylist()
    }
    return {verdict: counted[verdict] for verdict in VERDICTS if verdict in counted}


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
            _write(catalog_path(dataset_root), "error", _stream(database, "from upserts"), properties)
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
    num_rows = _one(database, "select count(*) from catalog_rows")
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


def _write(table: str | DeltaTable, mode: Any, rows: pa.RecordBatchReader, properties: CommitProperties) -> None:
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


def _one(database: duckdb.DuckDBPyConnection, query: str) -> int:
    return database.sql(query).fetchall()[0][0]


def _check_not_vacuumed(dataset_root: str | Path, version: int) -> None:
    path = oldest_path(dataset_root)
    oldest = int(read_bytes(path)) if exists(path) else 0
    if version < oldest:
        raise CatalogError(
            f"dataset {dataset_root}: version {version} was vacuumed; the oldest that is left is {oldest}"
        )
