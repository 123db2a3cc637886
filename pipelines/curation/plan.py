"""The plan: what a manifest asks for that the catalog does not have yet. Nothing is decoded.

An anti-join in DuckDB over columns of the catalog that are read as a stream: neither the manifest nor the catalog is
ever whole in memory. What becomes of each row is its fate:

    new, changed, retried    to be decoded: not known; other bytes or other scoring; failed and may succeed now
    rejudged                 stored scores suffice: other thresholds, columns, captions; a copy that may take a place
    taken_down               on the takedown list
    gone                     no longer in the manifest
    unchanged                nothing to do; stays_removed is the same for a clip that was taken down before

"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from pipelines.curation.catalog import Catalog, register_rows
from pipelines.curation.config import RefreshConfig
from pipelines.curation.manifest import MANIFEST_SCHEMA, RejectedRow, read_manifest
from pipelines.curation.source import etag
from pipelines.curation.takedown import read_takedown
from pipelines.curation.workbench import count

_THREADS = 16

_TABLES = """
create table manifest (position bigint, row_id varchar, uri varchar, etag varchar, caption varchar, start_s double,
    end_s double, manifest_json varchar, mark bigint);
create table takedown (name varchar);
"""
_INSERT = """
insert into manifest
select *, (md5_number_lower(concat_ws(chr(31), etag, caption, manifest_json)) >> 1)::bigint from chunk
"""
_TELL_EQUAL_ROWS_APART = """
create table repeated as select row_id from manifest group by row_id having count(*) > 1;
update manifest set row_id = left(sha256(manifest.row_id || '#' || copies.occurrence), 32)
from (select position, row_number() over (partition by row_id order by position) as occurrence
      from manifest semi join repeated using (row_id)) copies
where manifest.position = copies.position and copies.occurrence > 1;
"""
_KNOWN = """
create table known as
select row_id, mark, verdict, attempts, is_transient, scoring_hash, config_hash
from catalog_rows semi join manifest using (row_id);
"""
# Columns that are read of every row of the catalog are few and narrow; the others only of rows that matter.
_LISTED = """
create table listed as
select row_id from catalog_rows where uri in (from takedown) or key in (from takedown)
union select row_id from manifest where uri in (from takedown);
"""
_NONE_LISTED = "create table listed (row_id varchar)"
_FATES = """
create table fates as
select manifest.row_id, manifest.position,
    case when listed.row_id is not null then if(known.verdict = 'removed', 'stays_removed', 'taken_down')
         when known.row_id is null then 'new'
         when known.verdict = 'removed' or known.scoring_hash <> getvariable('scoring_hash') then 'changed'
         when known.is_transient and known.attempts < getvariable('max_attempts') and manifest.etag <> '' then 'retried'
         when known.mark = manifest.mark and known.config_hash = getvariable('config_hash') then 'unchanged'
         when known.mark = manifest.mark then 'rejudged'
         else 'differs' end as fate
from manifest left join known using (row_id) left join listed using (row_id);
"""
_LOOK_CLOSER = """
update fates set fate = if(details.etag <> manifest.etag or (getvariable('is_aligned')
    and details.caption <> manifest.caption and details.slice is not null), 'changed', 'rejudged')
from manifest, (select row_id, etag, caption, slice from catalog_rows
                semi join (select row_id from fates where fate = 'differs') using (row_id)) details
where fates.fate = 'differs' and fates.row_id = manifest.row_id and fates.row_id = details.row_id;
"""
_GONE = (
    "create table gone as select row_id from catalog_rows anti join manifest using (row_id) where verdict <> 'removed'"
)
_NONE_GONE = "create table gone (row_id varchar)"
# Rows that the manifest does not name and that stay: what is due for them is due as if it named them still.
_OUTSIDE = """
create table outside as
select row_id,
    case when row_id in (from listed) then 'taken_down'
         when scoring_hash <> getvariable('scoring_hash') then 'changed'
         when is_transient and attempts < getvariable('max_attempts') then 'retried'
         else 'rejudged' end as fate
from catalog_rows anti join manifest using (row_id)
where verdict <> 'removed' and (config_hash <> getvariable('config_hash')
    or (is_transient and attempts < getvariable('max_attempts')) or row_id in (from listed));
"""
_TAKE_IN = """
insert into fates select row_id, null, fate from outside;
create table outside_due as select row_id from outside where fate in ('changed', 'retried');
insert into manifest select null, row_id, uri, etag, caption, start_s, end_s, manifest_json, mark
from catalog_rows semi join outside_due using (row_id);
insert into known select row_id, mark, verdict, attempts, is_transient, scoring_hash, config_hash
from catalog_rows semi join outside_due using (row_id);
"""
# Copies of a clip that is no longer kept as it was: one of them may take its place.
_FREED = """
create table freed as
select key from catalog_rows where verdict = 'kept' and row_id in (from touched_before);
create table copies as
select row_id from catalog_rows where verdict = 'duplicate' and duplicate_of in (from freed);
update fates set fate = 'rejudged' where fate = 'unchanged' and row_id in (from copies);
insert into fates select row_id, null, 'rejudged' from copies
where row_id not in (select row_id from fates) and row_id not in (from gone);
"""
_TO_DECODE = "create view to_decode as select row_id from fates where fate in ('new', 'changed', 'retried')"
_TOUCHED_BEFORE = """
create view touched_before as
select row_id from fates where fate in ('changed', 'retried', 'rejudged', 'taken_down')
union all select row_id from gone
"""


@dataclass(frozen=True)
class Plan:
    """What a refresh has to do, in numbers; the rows are in the tables `manifest`, `fates` and `gone`."""

    num_clips: int
    """In the manifest."""
    num_new: int
    num_changed: int
    """Their sources or the way of scoring changed: they are decoded again."""
    num_retried: int
    num_rejudged: int
    """Judged anew from what is stored."""
    num_taken_down: int
    num_removed: int
    """No longer in the manifest."""
    num_expected: int
    """Verdicts but `removed` that the catalog must add up to afterwards."""

    @property
    def num_due(self) -> int:
        """Clips to decode."""
        return self.num_new + self.num_changed + self.num_retried

    @property
    def num_unchanged(self) -> int:
        """Clips of the manifest that need nothing, at least."""
        return max(0, self.num_clips - self.num_due - self.num_rejudged - self.num_taken_down)

    @property
    def is_empty(self) -> bool:
        """Whether the data set is up to date."""
        return not (self.num_due or self.num_rejudged or self.num_taken_down or self.num_removed)


def make_plan(
    database: duckdb.DuckDBPyConnection,
    config: RefreshConfig,
    catalog: Catalog | None,
    rejected: Callable[[RejectedRow], None] | None = None,
) -> Plan:
    """Compare the manifest with the catalog.

    Args:
        database: An empty `workbench`; gets the tables `manifest`, `fates`, `gone` and `takedown`, and the views
            `catalog_rows` and `to_decode`.
        config: What, and how.
        catalog: The newest version; None before the first refresh.
        rejected: See `read_manifest`.

    Raises:
        ManifestError: The manifest cannot be used.
        TakedownError: The takedown list cannot be used.
    """
    database.execute("begin")
    database.execute(_TABLES)
    _load(database, read_manifest(config.manifest, rejected), read_takedown(config.takedown))
    num_clips = count(database, "manifest")
    register_rows(database, catalog)
    _ask(database, config)
    database.execute(_KNOWN)
    database.execute(_LISTED if count(database, "takedown") else _NONE_LISTED)
    database.execute(_FATES)
    if count(database, "fates where fate = 'differs'"):
        database.execute(_LOOK_CLOSER)
    database.execute(_GONE if config.missing_rows == "remove" else _NONE_GONE)
    num_outside = _take_in_outside(database) if config.missing_rows == "keep" else 0
    database.execute(_TO_DECODE)
    database.execute(_TOUCHED_BEFORE)
    if count(database, "touched_before") and (num_outside or count(database, "fates where fate = 'unchanged'")):
        database.execute(_FREED)
    database.execute("commit")
    return _counted(database, num_clips, num_outside)


def due(database: duckdb.DuckDBPyConnection) -> Iterator[pa.RecordBatch]:
    """Clips to decode that have no scored row yet, in the order of the manifest."""
    query = """
    select row_id, uri, etag, caption, start_s, end_s, manifest_json from manifest semi join to_decode using (row_id)
    anti join scored using (row_id) order by position nulls last, row_id
    """
    yield from database.sql(query).to_arrow_reader()


def work_name(database: duckdb.DuckDBPyConnection, catalog: Catalog | None, config: RefreshConfig) -> str:
    """16 hex digits that name what `due` yields: the same clips, planned against the same version, scored alike."""
    query = """
    select bit_xor(md5_number_lower(concat_ws(chr(31), $plan, number, row_id, etag, caption)))
    from (select *, row_number() over (order by position nulls last, row_id) as number
          from manifest semi join to_decode using (row_id)
          anti join scored using (row_id))
    """
    version = "none" if catalog is None else catalog.version
    plan = f"{version} {config.scoring_hash} {config.clips_per_slice}"
    (digest,) = database.execute(query, {"plan": plan}).fetchall()[0]
    return f"{digest:016x}"


def _take_in_outside(database: duckdb.DuckDBPyConnection) -> int:
    """Add what is due of rows that the manifest does not name; how many of those stay in the data set."""
    num_live = count(database, "catalog_rows where verdict <> 'removed'")
    num_named = count(database, "known where verdict <> 'removed'")
    database.execute(_OUTSIDE)
    if count(database, "outside"):
        database.execute(_TAKE_IN)
    return num_live - num_named - count(database, "outside where fate = 'taken_down'")


def _ask(database: duckdb.DuckDBPyConnection, config: RefreshConfig) -> None:
    """Tell the database what the queries above call by `getvariable`."""
    asked: dict[str, object] = {
        "scoring_hash": config.scoring_hash,
        "config_hash": config.config_hash,
        "max_attempts": config.max_attempts,
        "is_aligned": config.align.model is not None,
    }
    for name, value in asked.items():
        database.execute(f"set variable {name} = $value", {"value": value})


def _load(database: duckdb.DuckDBPyConnection, batches: Iterable[pa.RecordBatch], takedown: Iterable[str]) -> None:
    with ThreadPoolExecutor(_THREADS) as pool:
        for batch in batches:
            database.register("chunk", _with_etags(pa.Table.from_batches([batch]), pool))
            database.execute(_INSERT)
    database.unregister("chunk")
    database.execute(_TELL_EQUAL_ROWS_APART)
    database.register("chunk", pa.table({"name": pa.array(list(takedown), pa.string())}))
    database.execute("insert into takedown from chunk")
    database.unregister("chunk")


def _with_etags(rows: pa.Table, pool: ThreadPoolExecutor) -> pa.Table:
    """Ask the stores of all sources whose etag the manifest does not tell."""
    if not rows["etag"].null_count:
        return rows
    given, uris = rows["etag"].to_pylist(), rows["uri"].to_pylist()
    asked = iter(pool.map(etag, [uri for uri, known in zip(uris, given, strict=True) if known is None]))
    etags = pa.array([next(asked) if known is None else known for known in given], pa.string())
    return rows.set_column(MANIFEST_SCHEMA.get_field_index("etag"), "etag", etags)


def _counted(database: duckdb.DuckDBPyConnection, num_clips: int, num_outside: int) -> Plan:
    fates = dict(database.sql("select fate, count(*) from fates group by fate").fetchall())
    num_down = count(database, "fates where fate in ('taken_down', 'stays_removed') and position is not null")
    return Plan(
        num_clips=num_clips,
        num_new=fates.get("new", 0),
        num_changed=fates.get("changed", 0),
        num_retried=fates.get("retried", 0),
        num_rejudged=fates.get("rejudged", 0),
        num_taken_down=fates.get("taken_down", 0),
        num_removed=count(database, "gone"),
        num_expected=num_clips - num_down + num_outside,
    )
