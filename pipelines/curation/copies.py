"""Near duplicates in a refresh's database: kept rows of `judged` against each other and against what else is kept.

What was kept before stays; among new rows the order of the manifest decides. Pairs that are found, and what is looked
at of the clips in them, are in memory; all else goes through the database, batch by batch.
"""

from collections.abc import Iterator
from itertools import chain

import duckdb
import numpy as np
import pyarrow as pa

from pipelines.curation.near_duplicates import FINGERPRINT_BYTES, NUM_KEYS, Ordered, Shot, near_pairs, resolve

_BATCH_ROWS = 10_000
_COPIES = pa.schema([("number", pa.int64()), ("original", pa.int64()), ("levels", pa.float64())])

_NEAR_ROWS = """
create table new_rows as
select row_id, uri, key, fingerprint, near_keys, near_rank, start_s, fps, num_frames, position from judged
where verdict = 'kept' and fingerprint is not null;
create table near_rows as
with kept_before as (
    select row_id, near_keys from catalog_rows
    where verdict = 'kept' and fingerprint is not null and row_id not in (select row_id from judged)
        and row_id not in (from touched_before)
), may_be_near as (
    select row_id from (select row_id, unnest(near_keys) as near_key from kept_before)
    where near_key in (select unnest(near_keys) from new_rows)
), old_rows as (
    select row_id, uri, key, fingerprint, near_keys, near_rank, start_s, fps, num_frames, null as position,
        true as is_old from catalog_rows
    semi join may_be_near using (row_id)
), all_rows as (from old_rows union all select *, false as is_old from new_rows)
select * exclude (start_s, fps, num_frames),
    (hash(uri) >> 1)::bigint as source, coalesce(start_s * fps / num_frames, 0)::double as moment,
    row_number() over (order by not is_old, position nulls last, row_id) as number from all_rows;
"""
_IN_ORDER = """
select number, near_keys[$which] as near_key, fingerprint, source, moment from near_rows
where near_keys[$which] in (select near_keys[$which] from near_rows group by near_keys[$which] having count(*) > 1)
order by near_key, near_rank, number
"""
_MARK = """
update judged set verdict = 'duplicate', duplicate_of = found.key, reason = found.reason
from (select copy.row_id, original.key, printf('near copy of %s, %.1f levels apart', original.uri, levels) as reason
      from copies join near_rows copy on copy.number = copies.number
      join near_rows original on original.number = copies.original where not copy.is_old) found
where judged.row_id = found.row_id
"""
# Clips of the same bytes as a near copy: each names the clip that is kept, so that they are looked at when it goes.
_SHORTEN = """
update judged set duplicate_of = nearer.duplicate_of, reason = nearer.reason
from (select key, duplicate_of, reason from judged where verdict = 'duplicate' and duplicate_of <> key) nearer
where judged.verdict = 'duplicate' and judged.duplicate_of = judged.key and judged.key = nearer.key
"""


def mark_near_copies(database: duckdb.DuckDBPyConnection, max_levels: float) -> None:
    """Give `duplicate` to rows of `judged` that show what an earlier kept row shows."""
    database.execute(_NEAR_ROWS)
    pairs = list(chain.from_iterable(near_pairs(_ordered(database, which), max_levels) for which in range(NUM_KEYS)))
    if pairs:
        numbers = pa.table({"number": np.unique(np.asarray(pairs)).astype(np.int64)})
        database.register("in_pairs", numbers)
        looked_at = "select number, fingerprint, source, moment from near_rows semi join in_pairs using (number)"
        shots = {number: Shot(*shot) for number, *shot in database.sql(looked_at).fetchall()}
        copies = resolve(pairs, shots, max_levels)
        database.register("copies", pa.Table.from_pylist([_row(*copy) for copy in copies], schema=_COPIES))
        database.execute(_MARK)
        database.execute(_SHORTEN)
        database.unregister("copies")
        database.unregister("in_pairs")
    database.execute("drop table near_rows; drop table new_rows")


def _ordered(database: duckdb.DuckDBPyConnection, which: int) -> Iterator[Ordered]:
    cursor = database.cursor()
    for batch in cursor.sql(_IN_ORDER, params={"which": which + 1}).to_arrow_reader(_BATCH_ROWS):
        table = pa.Table.from_batches([batch])
        levels = np.frombuffer(b"".join(table["fingerprint"].to_pylist()), np.uint8)
        numbers, keys, sources, moments = (
            table[name].to_numpy() for name in ("number", "near_key", "source", "moment")
        )
        yield Ordered(numbers, keys, levels.reshape(-1, FINGERPRINT_BYTES), sources, moments)


def _row(number: int, original: int, levels: float) -> dict[str, int | float]:
    return {"number": number, "original": original, "levels": levels}
