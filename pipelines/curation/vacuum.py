"""The vacuum: removes what no version names that is younger than the retention.

A version counts from the day on which the next one replaced it: who pinned it yesterday can still read it. The newest
version stays for ever. The caller holds the data set's lease.

What is left holds nothing of clips that no version names: inside slices their bytes are erased.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

import duckdb
import pyarrow as pa
from deltalake import DeltaTable

from pipelines.curation.catalog import Catalog, oldest_version
from pipelines.curation.erasure import erase_unnamed
from pipelines.curation.layout import CATALOG, SHARDS, SLICES, oldest_path, refreshes_path, slices_path, version_path
from pipelines.curation.workbench import workbench
from pipelines.storage import (
    StoredFile,
    joined,
    list_files,
    remove_empty_folders,
    remove_files,
    write_whole,
)

_PLACES = pa.schema(
    [("shard", pa.string()), ("slice", pa.string()), ("slice_offset", pa.int64()), ("slice_bytes", pa.int64())]
)


class VacuumError(RuntimeError):
    """The data set is not whole, so what may go cannot be told; nothing was removed."""


class Vacuumed(NamedTuple):
    """What a vacuum removed."""

    oldest_version: int
    """That can still be opened."""
    num_files: int
    num_bytes: int
    num_erased: int
    """Slices in which bytes that no version names were overwritten."""


def vacuum(dataset_root: str, retention: timedelta, now: datetime) -> Vacuumed:
    """Remove versions that were replaced before `now - retention`, and what none of the others names.

    Files that no version ever named (a run was cut off) go when they are older than the retention.

    Raises:
        VacuumError: A file that a version names is not there.
    """
    edge = now - retention
    newest = Catalog.open(dataset_root)
    live = _live_versions(newest.table, edge)
    oldest = max(live[0], oldest_version(dataset_root))
    with workbench() as database:
        named = _named(database, [Catalog.open(dataset_root, version) for version in live if version >= oldest])
        stored = _stored(dataset_root)
        missing = sorted(named - set(stored))
        if missing:
            raise VacuumError(
                f"dataset {dataset_root}: {len(missing)} files that versions {oldest} to {live[-1]} name are not "
                f"there, such as {missing[0]}; nothing was removed"
            )
        unnamed = [file for path, file in stored.items() if not _is_named(path, named) and file.changed <= edge]
        if oldest:
            # First of all: nobody opens a version whose files are about to go.
            write_whole(oldest_path(dataset_root), str(oldest).encode())
        remove_files(file.path for file in unnamed)
        remove_files(version_path(dataset_root, version) for version in range(oldest))
        remove_empty_folders(slices_path(dataset_root))
        slices = {path.removeprefix(f"{SLICES}/"): file.num_bytes for path, file in stored.items() if path in named}
        num_erased = erase_unnamed(database, dataset_root, slices)
    return Vacuumed(oldest, len(unnamed), sum(file.num_bytes for file in unnamed), num_erased)


def _live_versions(table: DeltaTable, edge: datetime) -> list[int]:
    """Versions that are the newest or were replaced after `edge`, oldest first."""
    committed = {
        int(entry["version"]): datetime.fromisoformat(entry["committed_at"])
        for entry in table.history()
        if "committed_at" in entry
    }
    newest = table.version()
    return sorted(v for v in {*committed, newest} if v == newest or v + 1 not in committed or committed[v + 1] > edge)


def _named(database: duckdb.DuckDBPyConnection, catalogs: Iterable[Catalog]) -> set[str]:
    """Shards, slices and the catalog's own files that versions need, as paths below the data set's root.

    The places that their rows name are in the table `places` then. Versions share most of their files.
    """
    database.register("chunk", _PLACES.empty_table())
    database.execute("create table places as from chunk")
    named, read = set[str](), set[str]()
    for catalog in catalogs:
        named |= {joined(CATALOG, uri.rsplit("/", 1)[-1]) for uri in catalog.table.file_uris()}
        rows = catalog.dataset()
        for fragment in rows.get_fragments():
            if fragment.path in read:
                continue
            read.add(fragment.path)
            for batch in fragment.to_batches(schema=rows.schema, columns=_PLACES.names):
                database.register("chunk", pa.table(batch).cast(_PLACES))
                database.execute("insert into places from chunk")
    database.unregister("chunk")
    for column, folder in (("shard", SHARDS), ("slice", SLICES)):
        values = database.sql(f"select distinct {column} from places where {column} is not null").fetchall()
        named |= {joined(folder, value) for (value,) in values}
    return named


def _stored(dataset_root: str) -> dict[str, StoredFile]:
    """Files that a version may name, and what a killed process left half done, by their paths below the root."""
    found: dict[str, StoredFile] = {}
    for folder in (SHARDS, SLICES, CATALOG):
        files = list_files(joined(dataset_root, folder))
        found |= {joined(folder, file.name): file for file in files if not file.name.startswith("_delta_log/")}
    records = list_files(refreshes_path(dataset_root))
    return found | {file.path: file for file in records if file.name.endswith(".partial")}


def _is_named(path: str, named: set[str]) -> bool:
    """A slice's rows stay as long as its frames do."""
    is_rows = path.endswith(".parquet") and f"{path.removesuffix('.parquet')}.mp4s" in named
    return path in named or is_rows
