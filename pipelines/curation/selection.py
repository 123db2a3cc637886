"""Selection: thresholds turn scores into verdicts, and of equal clips one is kept. No decoding, no pixels.

Precedence of verdicts, first match wins:

1. `removed`: the clip's key is on the takedown list;
2. what ended decoding: `too_large` (bytes), `unreadable`, `no_video`, `too_large` (pixels, duration), `too_small`,
   `too_short` or `corrupt` (the file ends before the clip does), `low_fps`, `corrupt` (a damaged frame);
3. what the picture is: `too_dark`, `still`, `cut`, `letterboxed`, `blurry`;
4. what the caption is: `caption_missing`, `caption_invalid`;
5. how they fit: `misaligned`;
6. `duplicate`: the same bytes and span as a clip that is kept, or the same picture encoded anew or rescaled. An earlier
   kept clip stays, then the order of the manifest decides. A copy of a clip that was rejected for another reason bears
   that reason too. A duplicate always names a clip that is kept.

All of it goes through tables of the refresh's DuckDB database, batch by batch: memory grows with the near copies that
are found, not with the clips.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.curation.captions import judge_caption
from pipelines.curation.catalog import PLACE, SCHEMA, sql_columns
from pipelines.curation.config import AlignConfig, Recipe
from pipelines.curation.copies import mark_near_copies
from pipelines.curation.filters import RULES, judge
from pipelines.curation.records import Measures, Rejection
from pipelines.curation.slices import FOUND_SCHEMA, IS_TRANSIENT
from pipelines.curation.workbench import count

TAKEN_DOWN = "on the takedown list"
_BATCH_ROWS = 10_000
_JUDGED_BY = ("row_id", "caption", *Measures.__annotations__, "align_score")
_REJECTIONS = pa.schema([("row_id", pa.string()), ("verdict", pa.string()), ("reason", pa.string())])

_SCORED_ROWS = """
from scored join manifest using (row_id) join fates using (row_id) left join known using (row_id)
"""
_STORED_ROWS = """
from catalog_rows old join (select row_id from fates where fate = 'rejudged') using (row_id)
left join manifest using (row_id)
"""
_JUDGED = """
create table judged as
select touched.* replace (coalesce(touched.verdict, rejections.verdict, 'kept') as verdict,
    if(touched.verdict is null, coalesce(rejections.reason, ''), touched.reason) as reason)
from touched left join rejections using (row_id);
update judged set verdict = 'removed', reason = '{taken_down}' where key in (from takedown);
"""
_DUPLICATES = """
create table owners as
select key, min(uri) as uri from catalog_rows
where verdict = 'kept' and key in (select key from judged where verdict = 'kept')
    and row_id not in (select row_id from judged) and row_id not in (from touched_before)
group by key;
create table equal_clips as
select row_id, key, first_value(uri) over clip as first_uri, row_number() over clip as number
from judged where verdict = 'kept' and key in
    (select key from judged where verdict = 'kept' group by key having count(*) > 1 union all select key from owners)
window clip as (partition by key order by position nulls last, row_id);
update judged set verdict = 'duplicate', duplicate_of = copies.key,
    reason = 'same bytes and span as ' || copies.owner_uri
from (select row_id, equal_clips.key, coalesce(owners.uri, first_uri) as owner_uri
      from equal_clips left join owners using (key) where owners.key is not null or number > 1) copies
where judged.row_id = copies.row_id;
"""
# Who shares a shard with a sample that is replaced or goes is put into a new shard with the new samples.
_SURVIVORS = """
create table affected as
select distinct shard from catalog_rows where shard is not null and row_id in (from touched_before);
insert into judged
select null as position, {columns} from catalog_rows old
where verdict = 'kept' and shard in (from affected) and row_id not in (from touched_before);
"""


def collect(database: duckdb.DuckDBPyConnection, about: Mapping[str, object]) -> None:
    """Make the table `touched`: rows of the catalog's columns that are to be judged, from new scores and stored ones.

    A verdict that is null is for the thresholds to give.

    Args:
        database: With `scored` and the plan's tables.
        about: Columns that all these rows share.
    """
    constants = {name: f"${name}" for name in about}
    scored = {
        **dict.fromkeys(("uri", "etag", "caption", "start_s", "end_s", "manifest_json", "mark"), "manifest"),
        **dict.fromkeys(FOUND_SCHEMA.names, "scored"),
    }
    from_scores = {
        **{name: f"{table}.{name}" for name, table in scored.items()},
        **{"row_id": "row_id", "is_transient": IS_TRANSIENT.format(row="scored")},
        **{"slice": "if(blob_bytes is null, null, slice)", "slice_offset": "blob_offset", "slice_bytes": "blob_bytes"},
        "attempts": "if(fate = 'retried', coalesce(known.attempts, 1) + 1, 1)",
        **constants,
    }
    by_manifest = ("etag", "caption", "manifest_json", "mark")
    from_store = {
        **{name: f'old."{name}"' for name in SCHEMA.names if name not in ("duplicate_of", *PLACE)},
        **{name: f"coalesce(manifest.{name}, old.{name})" for name in by_manifest},
        "row_id": "row_id",
        "verdict": "if(old.slice is null, old.verdict, null)",
        "reason": "if(old.slice is null, old.reason, '')",
        **constants,
    }
    database.execute(
        f"create table touched as select manifest.position, {sql_columns(from_scores)} {_SCORED_ROWS} "
        f"union all select manifest.position, {sql_columns(from_store)} {_STORED_ROWS}",
        dict(about),
    )


def select(database: duckdb.DuckDBPyConnection, recipe: Recipe) -> int:
    """Give every row of `touched` its verdict and reason, in the table `judged`.

    Rows that stay kept but share a shard with what goes are added to it.

    Returns:
        How many clips of `judged` the takedown list removes by their key.
    """
    database.register("found", _REJECTIONS.empty_table())
    database.execute("create table rejections as from found")
    for rejections in _rejections(database.cursor(), recipe):
        database.register("found", rejections)
        database.execute("insert into rejections from found")
    database.unregister("found")
    database.execute(_JUDGED.format(taken_down=TAKEN_DOWN))
    database.execute(_DUPLICATES)
    if recipe.filters.max_near_levels is not None:
        mark_near_copies(database, recipe.filters.max_near_levels)
    num_taken_down = count(database, "judged where verdict = 'removed'")
    stored = {name: f'old."{name}"' for name in SCHEMA.names if name not in PLACE}
    database.execute(_SURVIVORS.format(columns=sql_columns(stored)))
    return num_taken_down


def judge_rows(rows: pa.Table, recipe: Recipe) -> pa.Table:
    """What thresholds and rules of captions reject, as rows of `row_id`, `verdict`, `reason`.

    Args:
        rows: `row_id`, `caption`, the measures and `align_score` of clips that have frames.
        recipe: The thresholds.
    """
    is_suspect = _is_outside(rows, recipe)
    captions = rows["caption"].to_pylist()
    is_suspect |= np.asarray([judge_caption(caption, recipe.filters) is not None for caption in captions], bool)
    found: list[dict[str, str]] = []
    for row in rows.filter(pa.array(is_suspect)).to_pylist():
        rejection = _judge_row(row, recipe)
        if rejection is not None:
            found.append({"row_id": row["row_id"], "verdict": rejection.verdict, "reason": rejection.reason})
    return pa.Table.from_pylist(found, schema=_REJECTIONS)


def _rejections(cursor: duckdb.DuckDBPyConnection, recipe: Recipe) -> Iterator[pa.Table]:
    rows = cursor.sql(f"select {', '.join(_JUDGED_BY)} from touched where verdict is null")
    for batch in rows.to_arrow_reader(_BATCH_ROWS):
        yield judge_rows(pa.Table.from_batches([batch]), recipe)


def _is_outside(rows: pa.Table, recipe: Recipe) -> NDArray[np.bool_]:
    """Rows that lie on the wrong side of any threshold."""
    is_outside = np.zeros(len(rows), bool)
    for rule in RULES:
        threshold = getattr(recipe.filters, rule.threshold)
        if threshold is not None:
            values = rows[rule.measure].to_numpy()
            is_outside |= (values < threshold) if rule.is_minimum else (values > threshold)
    if recipe.align.min_score is not None:
        is_outside |= rows["align_score"].to_numpy().astype(float) < recipe.align.min_score
    return is_outside


def _judge_row(row: Mapping[str, Any], recipe: Recipe) -> Rejection | None:
    return (
        judge(row, recipe.filters)
        or judge_caption(row["caption"], recipe.filters)
        or _judge_alignment(row["align_score"], recipe.align)
    )


def _judge_alignment(score: float | None, align: AlignConfig) -> Rejection | None:
    if score is None or align.min_score is None or score >= align.min_score:
        return None
    return Rejection("misaligned", f"align_score {score:.3f}, at least {align.min_score}")
