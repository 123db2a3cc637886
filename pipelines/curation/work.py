"""Scores on their way from slices into a refresh's database, those of runs that were cut off among them."""

from collections.abc import Iterator, Sequence
from itertools import islice

import duckdb
import pyarrow as pa

from pipelines.curation.config import LimitsConfig
from pipelines.curation.slices import (
    FOUND_SCHEMA,
    IS_TRANSIENT,
    SCORED_SCHEMA,
    finished_slices,
    read_slices,
    unfinished_works,
)

_COLUMNS = ", ".join(("row_id", *FOUND_SCHEMA.names, "blob_offset", "blob_bytes", "slice"))
_BATCHES_AT_ONCE = 64
_EMPTY = pa.schema([*SCORED_SCHEMA, ("slice", pa.string())]).empty_table()

_WANTED = """
create table wanted as
select row_id, etag, caption from manifest semi join to_decode using (row_id)
"""
# What failed by chance is tried again rather than taken over.
_ADOPT = f"""
insert into scored select {_COLUMNS} from chunk
where exists (select 1 from wanted where wanted.row_id = chunk.row_id and wanted.etag = chunk.etag
              and (not $is_aligned or wanted.caption = chunk.caption))
    and scoring_hash = $scoring_hash and row_id not in (select row_id from scored)
    and not {IS_TRANSIENT.format(row="chunk")}
"""


_RECORD_LIMITS = """
update touched set timeout_s = $timeout_s, max_memory_bytes = $max_memory_bytes
where verdict in ('timeout', 'crashed') and row_id in (select row_id from scored)
"""


def make_scored(database: duckdb.DuckDBPyConnection) -> None:
    """Make the table `scored`, empty: what is known of clips that are due."""
    database.register("chunk", _EMPTY)
    database.execute(f"create table scored as select {_COLUMNS} from chunk")
    database.unregister("chunk")


def adopt(database: duckdb.DuckDBPyConnection, dataset_root: str, scoring_hash: str, *, is_aligned: bool) -> None:
    """Take over what earlier runs scored and did not commit, where it is what scoring would find now.

    Args:
        database: With the plan's tables and `scored`.
        dataset_root: The data set.
        scoring_hash: Of the scores that are asked for.
        is_aligned: Scores depend on the caption.
    """
    database.execute(_WANTED)
    for work in unfinished_works(dataset_root):
        for chunk in _chunks(dataset_root, work, finished_slices(dataset_root, work)):
            database.register("chunk", chunk)
            database.execute(_ADOPT, {"is_aligned": is_aligned, "scoring_hash": scoring_hash})
    database.execute("drop table wanted")


def add_scored(database: duckdb.DuckDBPyConnection, dataset_root: str, work: str, indices: Sequence[int]) -> None:
    """Take in the rows of finished slices."""
    for chunk in _chunks(dataset_root, work, indices):
        database.register("chunk", chunk)
        database.execute(f"insert into scored select {_COLUMNS} from chunk")
    database.unregister("chunk")


def record_limits(database: duckdb.DuckDBPyConnection, limits: LimitsConfig) -> None:
    """Say in `touched` which limits clips had that met one: with higher ones they are tried again."""
    database.execute(_RECORD_LIMITS, {"timeout_s": limits.timeout_s, "max_memory_bytes": limits.max_memory_bytes})


def _chunks(dataset_root: str, work: str, indices: Sequence[int]) -> Iterator[pa.Table]:
    batches = read_slices(dataset_root, work, indices)
    while held := list(islice(batches, _BATCHES_AT_ONCE)):
        yield pa.Table.from_batches(held)
