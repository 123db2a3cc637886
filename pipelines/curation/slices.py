"""Slices: a fixed number of planned clips, decoded and scored together by one task and written aside as two files.

    <folder>/plan.parquet         the clips to do; row group i is slice i
    <folder>/00000.mp4s           encoded frames of every decodable clip of slice 0, one after another
    <folder>/00000.parquet        its `ScoredClip` rows; written last: a slice is done when this file is there

The folder is named by the plan, so a run that was cut off finds the slices it had done.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.curation.records import ClipRecord, ScoredClip
from pipelines.curation.scoring import Scored
from pipelines.storage import write_whole

PLAN_SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),
        ("uri", pa.string()),
        ("etag", pa.string()),
        ("caption", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("manifest_json", pa.string()),
    ]
)
SCORED_SCHEMA = pa.schema(
    [
        *PLAN_SCHEMA,
        ("key", pa.string()),
        ("verdict", pa.string()),
        ("reason", pa.string()),
        ("codec", pa.string()),
        ("source_width", pa.int32()),
        ("source_height", pa.int32()),
        ("source_fps", pa.float64()),
        ("source_duration_s", pa.float64()),
        ("source_bytes", pa.int64()),
        ("crop", pa.list_(pa.int32())),
        ("brightness", pa.float64()),
        ("motion", pa.float64()),
        ("cut", pa.float64()),
        ("bars", pa.float64()),
        ("sharpness", pa.float64()),
        ("align_score", pa.float64()),
        ("blob_offset", pa.int64()),
        ("blob_bytes", pa.int64()),
    ]
)


def write_plan(folder: Path, clips: pa.Table, clips_per_slice: int) -> int:
    """Write the clips to do; returns the number of slices."""
    sink = pa.BufferOutputStream()
    pq.write_table(clips.select(PLAN_SCHEMA.names).cast(PLAN_SCHEMA), sink, row_group_size=clips_per_slice)
    write_whole(folder / "plan.parquet", sink.getvalue().to_pybytes())
    return -(-len(clips) // clips_per_slice)


def process_slice(folder: Path, index: int, score: Callable[[ClipRecord], Scored]) -> int:
    """Do one slice, unless it is done already; returns the number of clips decoded by this call."""
    if _rows_file(folder, index).exists():
        return 0
    with pq.ParquetFile(folder / "plan.parquet") as plan:
        records = cast(list[ClipRecord], plan.read_row_group(index).to_pylist())
    _write_slice(folder, index, [score(record) for record in records])
    return len(records)


def read_slices(folder: Path, num_slices: int) -> pa.Table:
    """All scored rows of a plan, in its order, with the column `slice`."""
    tables: list[pa.Table] = []
    for index in range(num_slices):
        table = pq.read_table(_rows_file(folder, index), schema=SCORED_SCHEMA)
        tables.append(table.append_column("slice", pa.array([index] * len(table), pa.int32())))
    return pa.concat_tables(tables)


def read_blob(folder: Path, row: dict[str, Any]) -> bytes:
    """The encoded frames of one scored row."""
    with _blob_file(folder, row["slice"]).open("rb") as file:
        file.seek(row["blob_offset"])
        return file.read(row["blob_bytes"])


def _write_slice(folder: Path, index: int, scored: Sequence[Scored]) -> None:
    write_whole(_blob_file(folder, index), b"".join(row.mp4 for row in scored))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(_placed(scored)), schema=SCORED_SCHEMA), sink)
    write_whole(_rows_file(folder, index), sink.getvalue().to_pybytes())


def _placed(scored: Sequence[Scored]) -> Iterator[ScoredClip]:
    offset = 0
    for clip, mp4, _ in scored:
        if mp4:
            placed = clip.copy()
            placed["blob_offset"], placed["blob_bytes"] = offset, len(mp4)
            yield placed
            offset += len(mp4)
        else:
            yield clip


def _blob_file(folder: Path, index: int) -> Path:
    return folder / f"{index:05d}.mp4s"


def _rows_file(folder: Path, index: int) -> Path:
    return folder / f"{index:05d}.parquet"
