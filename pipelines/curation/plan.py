"""The plan: what a manifest asks for that the catalog does not have yet. An anti-join in DuckDB; nothing is decoded."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from pipelines.curation.catalog import SCHEMA, Catalog
from pipelines.curation.source import etag

_THREADS = 16
_CATALOG_COLUMNS = ("row_id", "uri", "etag", "caption", "manifest_json", "config_hash", "verdict", "key")

_QUERY = """
create temp table old as select * from catalog_rows;
create temp table joined as
select manifest.*,
    case when old.row_id is null then 'new'
         when old.verdict = 'removed'
           or old.etag <> manifest.etag
           or old.caption <> manifest.caption
           or old.manifest_json <> manifest.manifest_json
           or old.config_hash <> (select hash from recipe) then 'changed'
         else 'unchanged' end as fate
from manifest left join old using (row_id);
create temp table gone as
select * from old where verdict <> 'removed' and row_id not in (select row_id from manifest);
-- Copies of a clip that is no longer kept as it was: one of them may take its place.
create temp table freed as
select key from old where verdict = 'kept'
    and (row_id in (select row_id from gone) or row_id in (select row_id from joined where fate = 'changed'));
update joined set fate = 'changed' where fate = 'unchanged' and row_id in
    (select row_id from old where verdict = 'duplicate' and key in (select key from freed));
"""
_KEPT = """
select old.key, old.uri from old join joined using (row_id)
where old.verdict = 'kept' and joined.fate = 'unchanged'
"""


@dataclass(frozen=True)
class Plan:
    """What a refresh has to do."""

    clips: pa.Table
    """Clips to process, in the order of the manifest, with their etags."""
    removed_ids: tuple[str, ...]
    """`row_id` of catalog rows whose clip is gone from the manifest."""
    kept_keys: dict[str, str]
    """Keys of kept clips that are not touched, each with its address."""
    num_clips: int
    num_new: int
    num_changed: int

    @property
    def num_unchanged(self) -> int:
        """Clips of the manifest that need nothing."""
        return self.num_clips - self.num_new - self.num_changed

    @property
    def is_empty(self) -> bool:
        """Whether the data set is up to date."""
        return not len(self.clips) and not self.removed_ids

    def digest(self, config_hash: str) -> str:
        """16 hex digits that name this work: the same clips by the same recipe give the same name."""
        digest = hashlib.blake2b(config_hash.encode(), digest_size=8)
        for column in ("row_id", "etag", "caption", "manifest_json"):
            for value in self.clips[column].to_pylist():
                digest.update(f"{len(value)}:{value}".encode())
        return digest.hexdigest()


def make_plan(manifest: pa.Table, catalog: Catalog | None, config_hash: str) -> Plan:
    """Compare a manifest (`MANIFEST_SCHEMA`) with the catalog.

    A clip is changed when its source's size or time of change, its caption, another of its columns, or the recipe is
    another one than the catalog's row says; so is a clip that was removed and is back.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        etags = list(pool.map(etag, manifest["uri"].to_pylist()))
    known = SCHEMA.empty_table() if catalog is None else catalog.rows(_CATALOG_COLUMNS)
    with duckdb.connect() as database:
        database.register("manifest", manifest.append_column("etag", pa.array(etags, pa.string())))
        database.register("catalog_rows", known.select(list(_CATALOG_COLUMNS)))
        database.execute("create temp table recipe as select $config_hash as hash", {"config_hash": config_hash})
        database.execute(_QUERY)
        clips = database.sql("select * from joined where fate <> 'unchanged' order by position").to_arrow_table()
        gone = database.sql("select row_id from gone order by row_id").fetchall()
        kept = database.sql(_KEPT).fetchall()
    fates = clips["fate"].to_pylist()
    return Plan(
        clips=clips,
        removed_ids=tuple(row_id for (row_id,) in gone),
        kept_keys=dict(kept),
        num_clips=len(manifest),
        num_new=fates.count("new"),
        num_changed=fates.count("changed"),
    )
