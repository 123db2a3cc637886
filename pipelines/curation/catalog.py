"""The catalog: a Delta Lake table at `<dataset>/catalog`, one row an input clip; its version is the data set's version.

A sample of a kept row is read by its place: `bytes` from `offset` in `<dataset>/shards/<shard>` are its mp4.
"""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from pipelines.curation.records import VERDICTS
from pipelines.curation.slices import PLAN_SCHEMA, SCORED_SCHEMA

_SLICE_ONLY = ("blob_offset", "blob_bytes", "crop")
SCHEMA = pa.schema(
    [
        *PLAN_SCHEMA,
        *[field for field in SCORED_SCHEMA if field.name not in (*PLAN_SCHEMA.names, *_SLICE_ONLY)],
        ("num_frames", pa.int32()),
        ("fps", pa.float64()),
        ("size_px", pa.int32()),
        ("shard", pa.string()),
        ("offset", pa.int64()),
        ("bytes", pa.int64()),
        ("txt_offset", pa.int64()),
        ("txt_bytes", pa.int64()),
        ("json_offset", pa.int64()),
        ("json_bytes", pa.int64()),
        ("refresh_id", pa.string()),
        ("config_hash", pa.string()),
    ]
)
"""`num_frames`, `fps`, `size_px` are the sample's; `source_*` the source's; places are null where no sample is kept."""


class CatalogError(ValueError):
    """A catalog, or a version of it, that is not there."""


class VerdictSumError(RuntimeError):
    """The verdicts do not add up to the clips of the manifest; nothing was committed."""


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

    def rows(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows, one an input clip that is or was in the manifest, in no particular order."""
        return self._table.to_pyarrow_table(columns=list(columns) if columns is not None else None)

    def kept(self) -> pa.Table:
        """The rows of samples that may be read, sorted by key."""
        rows = self.rows()
        return rows.filter(pc.equal(rows["verdict"], "kept")).sort_by("key")

    def verdicts(self) -> dict[str, int]:
        """Rows by verdict, in the order of the closed list; verdicts that nothing has are left out."""
        return count_verdicts(self.rows(["verdict"]))


def catalog_path(dataset_root: str | Path) -> str:
    """Where a data set's table lies."""
    return str(Path(dataset_root) / "catalog")


def open_if_there(dataset_root: str | Path) -> Catalog | None:
    """The newest version, or None before the first refresh."""
    return Catalog.open(dataset_root) if DeltaTable.is_deltatable(catalog_path(dataset_root)) else None


def commit(dataset_root: str | Path, catalog: Catalog | None, upserts: pa.Table, num_clips: int) -> Catalog:
    """Add or replace rows, by `row_id`, in one atomic commit.

    Args:
        dataset_root: The data set.
        catalog: The version that the rows were planned against; None: the table is made.
        upserts: Rows of `SCHEMA`.
        num_clips: Clips in the manifest: what the verdicts but `removed` must add up to.

    Raises:
        VerdictSumError: They do not; nothing is committed.
    """
    _check_sum(catalog, upserts, num_clips)
    if catalog is None:
        Path(dataset_root).mkdir(parents=True, exist_ok=True)
        write_deltalake(catalog_path(dataset_root), upserts.cast(SCHEMA), mode="error")
        return Catalog.open(dataset_root)
    table = DeltaTable(catalog_path(dataset_root), version=catalog.version)
    merge = table.merge(
        upserts.cast(SCHEMA), predicate="old.row_id = new.row_id", source_alias="new", target_alias="old"
    )
    merge.when_matched_update_all().when_not_matched_insert_all().execute()
    return Catalog.open(dataset_root)


def count_verdicts(rows: pa.Table) -> dict[str, int]:
    """Rows by verdict, in the order of the closed list."""
    counted: Mapping[Any, int] = {
        entry["values"]: entry["counts"] for entry in pc.value_counts(rows["verdict"]).to_pylist()
    }
    return {verdict: counted[verdict] for verdict in VERDICTS if verdict in counted}


def _check_sum(catalog: Catalog | None, upserts: pa.Table, num_clips: int) -> None:
    names = ["row_id", "verdict"]
    after = upserts.select(names)
    if catalog is not None:
        before = catalog.rows(names)
        untouched = pc.invert(pc.is_in(before["row_id"], value_set=upserts["row_id"].combine_chunks()))
        after = pa.concat_tables([before.filter(untouched), after.cast(before.schema)])
    counts = count_verdicts(after)
    if sum(counts.values()) != len(after):
        unknown = set(after["verdict"].to_pylist()) - set(VERDICTS)
        raise VerdictSumError(f"verdicts outside the closed list: {unknown}")
    if len(pc.unique(after["row_id"])) != len(after):
        raise VerdictSumError(f"{len(after)} rows, {len(pc.unique(after['row_id']))} of them different")
    total = sum(count for verdict, count in counts.items() if verdict != "removed")
    if total != num_clips:
        raise VerdictSumError(f"{num_clips} clips in the manifest, {total} verdicts: {counts}")
