"""Cutting: kept clips in a seeded random order into shards, by copying bytes out of slices.

The order is that of sha256 over seed and key: the same clips give the same shards, whoever writes them and when.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

from pipelines.curation.layout import shards_path, slices_path
from pipelines.curation.records import Measures, Sample
from pipelines.curation.shards import Placed, write_shard
from pipelines.storage import joined, read_ranges

_ABOUT = ("key", "uri", "caption", "start_s", "end_s", "crop", "num_frames", "fps", "size_px")
_SOURCE = ("codec", "source_width", "source_height", "source_fps", "source_duration_s", "source_bytes")
_SCORES = (*Measures.__annotations__, "align_score")
_COLUMNS = (*_ABOUT, *_SOURCE, *_SCORES, "manifest_json", "slice", "slice_offset", "slice_bytes")
_PLACED = pa.schema(
    [
        *[(name, pa.string()) for name in ("key", "shard")],
        *[(name, pa.int64()) for name in ("offset", "bytes", "txt_offset", "txt_bytes", "json_offset", "json_bytes")],
    ]
)


class ShardJob(NamedTuple):
    """One shard to write."""

    number: int
    rows: pa.Table
    """Of its samples, in their order."""


def shard_jobs(database: duckdb.DuckDBPyConnection, shuffle_seed: int, samples_per_shard: int) -> Iterator[ShardJob]:
    """What is kept of the table `judged`, in its order, shard by shard."""
    query = f"select {', '.join(_COLUMNS)} from judged where verdict = 'kept' order by sha256($seed || ':' || key)"
    reader: pa.RecordBatchReader = database.cursor().sql(query, params={"seed": str(shuffle_seed)}).to_arrow_reader()
    held, index = reader.schema.empty_table(), 0
    for batch in reader:
        held = pa.concat_tables([held, pa.Table.from_batches([batch])])
        while len(held) >= samples_per_shard:
            yield ShardJob(index, held.slice(0, samples_per_shard).combine_chunks())
            held, index = held.slice(samples_per_shard), index + 1
    if len(held):
        yield ShardJob(index, held.combine_chunks())


def do_job(job: ShardJob, dataset_root: str) -> list[Placed]:
    """Copy a shard's samples out of their slices and write it; says where they lie."""
    rows = job.rows.to_pylist()
    mp4s = read_ranges(
        [joined(slices_path(dataset_root), row["slice"]) for row in rows],
        [row["slice_offset"] for row in rows],
        [row["slice_offset"] + row["slice_bytes"] for row in rows],
    )
    samples = [Sample(row["key"], mp4, row["caption"], _facts(row)) for row, mp4 in zip(rows, mp4s, strict=True)]
    return write_shard(shards_path(dataset_root), job.number, samples)


def record_places(database: duckdb.DuckDBPyConnection, shards: Iterable[list[Placed]]) -> None:
    """Collect in the table `placed` where samples lie."""
    database.register("chunk", _PLACED.empty_table())
    database.execute("create table placed as from chunk")
    for shard in shards:
        rows = [(place.key, place.shard, *place.mp4, *place.txt, *place.json) for place in shard]
        columns = [pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), _PLACED, strict=True)]
        database.register("chunk", pa.table(columns, schema=_PLACED))
        database.execute("insert into placed from chunk")
    database.unregister("chunk")


def _facts(row: Mapping[str, Any]) -> dict[str, object]:
    return {
        **{name: row[name] for name in _ABOUT},
        "source": {name.removeprefix("source_"): row[name] for name in _SOURCE},
        "scores": {name: row[name] for name in _SCORES},
        "manifest": json.loads(row["manifest_json"]),
    }
