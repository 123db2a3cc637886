"""The vacuum: removes what no version names that is younger than the retention.

A version counts from the day on which the next one replaced it: who pinned it yesterday can still read it. The newest
version stays for ever. The caller holds the data set's lease.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from deltalake import DeltaTable

from pipelines.curation.catalog import Catalog
from pipelines.curation.layout import catalog_path, oldest_path, refreshes_path, shards_path, slices_path, version_path
from pipelines.storage import (
    StoredFile,
    exists,
    list_files,
    read_bytes,
    remove_empty_folders,
    remove_files,
    write_whole,
)


class Vacuumed(NamedTuple):
    """What a vacuum removed."""

    oldest_version: int
    """That can still be opened."""
    num_files: int
    num_bytes: int


def vacuum(dataset_root: str, retention: timedelta, now: datetime) -> Vacuumed:
    """Remove versions that were replaced before `now - retention`, and files that none of the others names.

    Files that no version ever named (a run was cut off) go when they are older than the retention.
    """
    edge = now - retention
    newest = Catalog.open(dataset_root)
    live = _live_versions(newest.table, edge)
    oldest = max(live[0], _oldest(dataset_root))
    versions = [Catalog.open(dataset_root, version) for version in live if version >= oldest]
    named = set[str]()
    for version in versions:
        named |= _named(version, dataset_root)
    unnamed = [file for file in _removable(dataset_root) if not _is_named(file.path, named) and file.changed <= edge]
    if oldest:
        # First of all: nobody opens a version whose files are about to go.
        write_whole(oldest_path(dataset_root), str(oldest).encode())
    remove_files(file.path for file in unnamed)
    remove_files(version_path(dataset_root, version) for version in range(oldest))
    remove_empty_folders(slices_path(dataset_root))
    return Vacuumed(oldest, len(unnamed), sum(file.num_bytes for file in unnamed))


def _live_versions(table: DeltaTable, edge: datetime) -> list[int]:
    """Versions that are the newest or were replaced after `edge`, oldest first."""
    committed = {
        int(entry["version"]): datetime.fromisoformat(entry["committed_at"])
        for entry in table.history()
        if "committed_at" in entry
    }
    newest = table.version()
    return sorted(v for v in {*committed, newest} if v == newest or v + 1 not in committed or committed[v + 1] > edge)


def _oldest(dataset_root: str) -> int:
    path = oldest_path(dataset_root)
    return int(read_bytes(path)) if exists(path) else 0


def _named(catalog: Catalog, dataset_root: str) -> set[str]:
    """Shards, slices and the catalog's own files that a version needs, as paths."""
    places = catalog.dataset()
    columns = {"shard": shards_path(dataset_root), "slice": slices_path(dataset_root)}
    named = {path.removeprefix("file://") for path in catalog.table.file_uris()}
    for batch in places.to_batches(columns=list(columns)):
        for column, root in columns.items():
            named |= {f"{root}/{name}" for name in batch.column(column).unique().to_pylist() if name is not None}
    return named


def _removable(dataset_root: str) -> Iterator[StoredFile]:
    """Files that a version may name, and what a killed process left half done."""
    for root in (shards_path(dataset_root), slices_path(dataset_root)):
        yield from list_files(root)
    log = f"{catalog_path(dataset_root)}/_delta_log/"
    yield from (file for file in list_files(catalog_path(dataset_root)) if not file.path.startswith(log))
    yield from (file for file in list_files(refreshes_path(dataset_root)) if file.path.endswith(".partial"))


def _is_named(path: str, named: set[str]) -> bool:
    """A slice's rows stay as long as its frames do."""
    is_rows = path.endswith(".parquet") and f"{path.removesuffix('.parquet')}.mp4s" in named
    return path in named or is_rows
