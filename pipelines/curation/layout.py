"""Where the parts of a data set lie below its root, a local folder or an address such as s3://bucket/folder.

    catalog/                the Delta table: what the data set is, version by version
    shards/*.tar            samples; a shard belongs to a version when a row of it names the shard
    slices/WORK/00000.mp4s  encoded frames of scored clips, kept so that other thresholds need no decoding
    versions/00000.txt      the shards of a version by name, for readers that know nothing of catalogs
    refreshes/              a record of each refresh
    lease/                  who refreshes or vacuums it just now

No other module names these places.
"""

from pathlib import Path

from pipelines.storage import joined

CATALOG, SHARDS, SLICES = "catalog", "shards", "slices"


def catalog_path(dataset_root: str | Path) -> str:
    """The Delta table."""
    return joined(dataset_root, CATALOG)


def shards_path(dataset_root: str | Path) -> str:
    """The folder of shards."""
    return joined(dataset_root, SHARDS)


def slices_path(dataset_root: str | Path) -> str:
    """The folder of slices."""
    return joined(dataset_root, SLICES)


def refreshes_path(dataset_root: str | Path) -> str:
    """The folder of records."""
    return joined(dataset_root, "refreshes")


def lease_path(dataset_root: str | Path) -> str:
    """The folder of the lease's files."""
    return joined(dataset_root, "lease")


def version_path(dataset_root: str | Path, version: int) -> str:
    """The list of a version's shards, one name a line."""
    return joined(dataset_root, "versions", f"{version:05d}.txt")


def oldest_path(dataset_root: str | Path) -> str:
    """The number of the oldest version that no vacuum has removed; no such file: all are there."""
    return joined(dataset_root, "versions", "oldest")


def erased_path(dataset_root: str | Path) -> str:
    """What the vacuum erased inside slices; no such file: nothing."""
    return joined(dataset_root, "versions", "erased.parquet")
