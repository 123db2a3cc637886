"""The catalog: a Delta Lake table at `<dataset>/catalog`, one row an input clip; its version is the data set's version.

A sample of a kept row is read by its place: `bytes` from `offset` in `<dataset>/shards/<shard>` are its mp4. The same
mp4 is `slice_bytes` from `slice_offset` in `<dataset>/slices/<slice>`, for every clip that could be decoded.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from pipelines.curation.layout import catalog_path, oldest_path
from pipelines.curation.records import VERDICTS
from pipelines.curation.slices import FOUND_SCHEMA, PLAN_SCHEMA
from pipelines.storage import exists, read_bytes

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
        ("timeout_s", pa.float64()),
        ("max_memory_bytes", pa.int64()),
        ("mark", pa.int64()),
        ("refresh_id", pa.string()),
        ("scoring_hash", pa.string()),
        ("config_hash", pa.string()),
    ]
)
"""`num_frames`, `fps`, `size_px` are the sample's; `source_*` the source's; places are null where nothing is stored.

`duplicate_of` is the key of the clip that is kept instead; `attempts` counts refreshes that tried the clip and
`is_transient` says that the next one may; `timeout_s` and `max_memory_bytes` are the limits that a clip which is
`timeout` or `crashed` had, else null; `mark` changes with etag, caption and the manifest's other columns.
"""
PLACE = ("shard", "offset", "bytes", "txt_offset", "txt_bytes", "json_offset", "json_bytes")
"""Where a sample lies."""

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
            for entry in pc.value_counts(batch.column("verdict")).to_pylist():
                counts[entry["values"]] += entry["counts"]
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
    there = catalog.dataset().schema.names
    missing = [name for name in SCHEMA.names if name not in there]
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


def oldest_version(dataset_root: str | Path) -> int:
    """The oldest version that no vacuum has taken away."""
    path = oldest_path(dataset_root)
    return int(read_bytes(path)) if exists(path) else 0


def _check_not_vacuumed(dataset_root: str | Path, version: int) -> None:
    oldest = oldest_version(dataset_root)
    if version < oldest:
        raise CatalogError(
            f"dataset {dataset_root}: version {version} was vacuumed; the oldest that is left is {oldest}"
        )
