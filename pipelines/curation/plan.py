"""The plan: what a manifest asks for that the catalog does not have yet. Nothing is decoded.

An anti-join in DuckDB over columns of the catalog that are read as a stream: neither the manifest nor the catalog is
ever whole in memory. What becomes of each row is its fate:

    new, changed, retried    to be decoded: not known; other bytes or other scoring; failed and may succeed now
    rejudged                 stored scores suffice: other thresholds, columns, captions; a copy that may take a place
    taken_down               on the takedown list
    gone                     no longer in the manifest
    unchanged                nothing to do; stays_removed is the same for a clip that was taken down before, and
                             unreachable for one whose new caption needs pixels that cannot be seen now

A source that was seen before and cannot be seen now is no changed one: its clip stays as it is.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from pipelines.ahead import ahead, one_thread
from pipelines.curation.baseline import OTHER_CAPTIONS, WRONG_CAPTION, collect_other_captions
from pipelines.curation.catalog import Catalog, register_rows
from pipelines.curation.config import RefreshConfig
from pipelines.curation.etags import Etags
from pipelines.curation.manifest import RejectedRow, read_manifest
from pipelines.curation.source import Unseen, etag
from pipelines.curation.takedown import load_takedown, read_takedown, unmatched_lines
from pipelines.curation.workbench import count

_BATCHES_AHEAD = 2
_TABLES = """
create table manifest (position bigint, row_id varchar, uri varchar, etag varchar, caption varchar, start_s double,
    end_s double, manifest_json varchar, mark bigint);
"""
_MARK = "(md5_number_lower(concat_ws(chr(31), {etag}, caption, manifest_json)) >> 1)::bigint"
_INSERT = f"insert into manifest select *, {_MARK.format(etag='etag')} from chunk"
_TELL_EQUAL_ROWS_APART = """
create table repeated as select row_id from manifest group by row_id having count(*) > 1;
update manifest set row_id = left(sha256(manifest.row_id || '#' || copies.occurrence), 32)
from (select position, row_number() over (partition by row_id order by position) as occurrence
      from manifest semi join repeated using (row_id)) copies
where manifest.position = copies.position and copies.occurrence > 1;
"""
_NARROW = "mark, verdict, attempts, is_transient, timeout_s, max_memory_bytes, scoring_hash, config_hash"
_KNOWN = f"""
create table known as
select row_id, {_NARROW} from catalog_rows semi join manifest using (row_id);
"""
# Columns that are read of every row of the catalog are few and narrow; the others only of rows that matter.
_UNSEEN = f"""
create table unseen as
select row_id, etag from catalog_rows semi join (select row_id from manifest where etag = '') using (row_id)
where verdict <> 'removed' and etag <> '';
update manifest set etag = unseen.etag, mark = {_MARK.format(etag="unseen.etag")}
from unseen where manifest.row_id = unseen.row_id;
"""
_NONE_UNSEEN = "create table unseen (row_id varchar, etag varchar)"
# More time or memory than a clip had when it failed is a reason of its own to try it again.
_MAY_SUCCEED = """
(is_transient and (attempts < getvariable('max_attempts')
    or coalesce(verdict = 'timeout' and timeout_s < getvariable('timeout_s'), false)
    or coalesce(verdict = 'crashed' and max_memory_bytes < getvariable('max_memory_bytes'), false)))
"""
# Where rows stay that the manifest does not name, they and those that it names are found by one reading.
_KNOWN_AND_OTHERS = f"""
create table reached as
select row_id, {_NARROW} from catalog_rows
where row_id in (select row_id from manifest union all from listed)
    or config_hash <> getvariable('config_hash') or {_MAY_SUCCEED};
create table known as from reached semi join manifest using (row_id);
"""
_FATES = f"""
create table fates as
select manifest.row_id, manifest.position,
    case when listed.row_id is not null then if(known.verdict = 'removed', 'stays_removed', 'taken_down')
         when known.row_id is null then 'new'
         when known.verdict = 'removed' or known.scoring_hash <> getvariable('scoring_hash') then 'changed'
         when {_MAY_SUCCEED} and manifest.etag <> '' and unseen.row_id is null then 'retried'
         when known.mark = manifest.mark and known.config_hash = getvariable('config_hash') then 'unchanged'
         when known.mark = manifest.mark then 'rejudged'
         else 'differs' end as fate
from manifest left join known using (row_id) left join listed using (row_id)
left join unseen using (row_id);
"""
_LOOK_CLOSER = """
update fates set fate = case when details.etag <> manifest.etag then 'changed'
    when not getvariable('is_aligned') or details.caption = manifest.caption or details.slice is null then 'rejudged'
    when details.row_id in (select row_id from unseen) then 'unreachable' else 'changed' end
from manifest, (select row_id, etag, caption, slice from catalog_rows
                semi join (select row_id from fates where fate = 'differs') using (row_id)) details
where fates.fate = 'differs' and fates.row_id = manifest.row_id and fates.row_id = details.row_id;
"""
_GONE = (
    "create table gone as select row_id from catalog_rows anti join manifest using (row_id) where verdict <> 'removed'"
)
_NONE_GONE = "create table gone (row_id varchar)"
# Rows that the manifest does not name and that stay: what is due for them is due as if it named them still.
_OUTSIDE = f"""
create table outside as
select row_id,
    case when row_id in (from listed) then 'taken_down'
         when scoring_hash <> getvariable('scoring_hash') then 'changed'
         when {_MAY_SUCCEED} then 'retried'
         else 'rejudged' end as fate
from reached anti join manifest using (row_id)
where verdict <> 'removed' and (config_hash <> getvariable('config_hash')
    or {_MAY_SUCCEED} or row_id in (from listed));
"""
_TAKE_IN = """
insert into fates select row_id, null, fate from outside;
create table outside_due as select row_id from outside where fate in ('changed', 'retried');
insert into manifest select null, row_id, uri, etag, caption, start_s, end_s, manifest_json, mark
from catalog_rows semi join outside_due using (row_id);
insert into known from reached semi join outside_due using (row_id);
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


class SourcesUnseenError(RuntimeError):
    """So many sources cannot be seen that their store is taken for away; nothing was changed."""


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
    num_unchanged: int
    """Clips of the manifest that need nothing."""
    num_unreachable: int
    """Sources that were seen before and cannot be seen now: nothing of theirs is taken for changed."""
    unmatched_takedowns: tuple[str, ...]
    """Lines of the takedown list that name nothing which is or was there."""
    num_expected: int
    """Verdicts but `removed` that the catalog must add up to afterwards."""

    @property
    def num_due(self) -> int:
        """Clips to decode."""
        return self.num_new + self.num_changed + self.num_retried

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
        database: An empty `workbench`; gets the tables `manifest`, `fates`, `gone`, `takedown` and `listed`, and the
            views `catalog_rows` and `to_decode`.
        config: What, and how.
        catalog: The newest version; None before the first refresh.
        rejected: See `read_manifest`.

    Raises:
        ManifestError: The manifest cannot be used.
        TakedownError: The takedown list cannot be used.
        SourcesUnseenError: More sources cannot be seen than the configuration allows.
    """
    database.execute("begin")
    database.execute(_TABLES)
    _load(database, read_manifest(config.manifest, rejected))
    num_clips = count(database, "manifest")
    register_rows(database, catalog)
    load_takedown(database, read_takedown(config.takedown, config.manifest))
    _ask(database, config)
    keeps_rows = config.missing_rows == "keep"
    database.execute(_KNOWN_AND_OTHERS if keeps_rows else _KNOWN)
    database.execute(_UNSEEN if count(database, "manifest where etag = ''") else _NONE_UNSEEN)
    _check_seen(database, config)
    database.execute(_FATES)
    if count(database, "fates where fate = 'differs'"):
        database.execute(_LOOK_CLOSER)
    database.execute(_NONE_GONE if keeps_rows else _GONE)
    num_outside = _take_in_outside(database) if keeps_rows else 0
    database.execute(_TO_DECODE)
    database.execute(_TOUCHED_BEFORE)
    if count(database, "touched_before") and (num_outside or count(database, "fates where fate = 'unchanged'")):
        database.execute(_FREED)
    database.execute("commit")
    return _counted(database, num_clips, num_outside)


def due(database: duckdb.DuckDBPyConnection) -> Iterator[pa.RecordBatch]:
    """Clips to decode that have no scored row yet, in the order of the manifest."""
    collect_other_captions(database)
    query = f"""
    select row_id, uri, etag, manifest.caption, start_s, end_s, manifest_json, {WRONG_CAPTION} as wrong_caption
    from manifest semi join to_decode using (row_id) anti join scored using (row_id) {OTHER_CAPTIONS}
    order by position nulls last, row_id
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
    database.execute("drop table reached")
    return num_live - num_named - count(database, "outside where fate = 'taken_down'")


def _ask(database: duckdb.DuckDBPyConnection, config: RefreshConfig) -> None:
    """Tell the database what the queries above call by `getvariable`."""
    asked: dict[str, object] = {
        "scoring_hash": config.scoring_hash,
        "config_hash": config.config_hash,
        "max_attempts": config.max_attempts,
        "timeout_s": config.limits.timeout_s,
        "max_memory_bytes": config.limits.max_memory_bytes,
        "is_aligned": config.align.model is not None,
    }
    for name, value in asked.items():
        database.execute(f"set variable {name} = $value", {"value": value})


def _load(database: duckdb.DuckDBPyConnection, batches: Iterable[pa.RecordBatch]) -> None:
    """The manifest into its table; while DuckDB takes a batch in, the next one is read."""
    source = iter(batches)
    with Etags() as etags, one_thread() as reading:
        under_way = ahead((reading.submit(next, source, None) for _ in itertools.count()), _BATCHES_AHEAD)
        while (batch := next(under_way).result()) is not None:
            database.register("chunk", etags.filled(pa.Table.from_batches([batch])))
            database.execute(_INSERT)
    database.unregister("chunk")
    database.execute(_TELL_EQUAL_ROWS_APART)


def _check_seen(database: duckdb.DuckDBPyConnection, config: RefreshConfig) -> None:
    """A store that is away must not pass for one that was emptied."""
    num_unseen, num_known = count(database, "unseen"), count(database, "known where verdict <> 'removed'")
    if num_unseen <= config.max_unreachable_share * num_known:
        return
    ((uri,),) = database.sql("select uri from manifest semi join unseen using (row_id) limit 1").fetchall()
    told = etag(uri, ())
    raise SourcesUnseenError(
        f"manifest {config.manifest}: {num_unseen} of {num_known} known sources cannot be seen, such as {uri}"
        f"{': ' + told.reason if isinstance(told, Unseen) else ''}; is a disk not mounted, a store away? Nothing was "
        f"changed. max_unreachable_share: {config.max_unreachable_share:g} of them may be away; more can be given"
    )


def _counted(database: duckdb.DuckDBPyConnection, num_clips: int, num_outside: int) -> Plan:
    fates = dict(database.sql("select fate, count(*) from fates group by fate").fetchall())
    num_gone_down = count(database, "gone semi join listed using (row_id)")
    num_down = count(database, "fates where fate in ('taken_down', 'stays_removed') and position is not null")
    return Plan(
        num_clips=num_clips,
        num_new=fates.get("new", 0),
        num_changed=fates.get("changed", 0),
        num_retried=fates.get("retried", 0),
        num_rejudged=fates.get("rejudged", 0),
        num_taken_down=fates.get("taken_down", 0) + num_gone_down,
        num_removed=count(database, "gone") - num_gone_down,
        num_unchanged=count(
            database, "fates where fate in ('unchanged', 'unreachable', 'stays_removed') and position is not null"
        ),
        num_unreachable=count(database, "unseen"),
        unmatched_takedowns=tuple(unmatched_lines(database)) if count(database, "takedown") else (),
        num_expected=num_clips - num_down + num_outside,
    )
