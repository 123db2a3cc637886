"""Slices: a fixed number of planned clips, decoded and scored together by one task and stored as two files.

    slices/<work>/plan-00000.parquet   the clips to do, while they are not committed; a row group is a slice
    slices/<work>/00000.mp4s           encoded frames of every decodable clip of slice 0, one after another
    slices/<work>/00000.parquet        its `ScoredClip` rows; written last: a slice is done when this file is there
    slices/<work>/unaligned-00000.parquet   between decoding and alignment, where actors align

The work is named by its plan. Slices stay when their rows are committed: the catalog says where in them a clip lies, so
that another selection copies bytes. What a run that was cut off had scored is found by the plans that are still there.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, cast

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.curation.layout import slices_path
from pipelines.curation.records import ClipRecord, Measures, ScoredClip
from pipelines.curation.scoring import Scored
from pipelines.storage import (
    exists,
    filesystem,
    joined,
    list_files,
    list_names,
    patiently,
    read_bytes,
    remove_files,
    write_whole,
)

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
FOUND_SCHEMA = pa.schema(
    [
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
        *[(name, pa.float64()) for name in Measures.__annotations__],
        ("fingerprint", pa.binary()),
        ("near_keys", pa.list_(pa.int64())),
        ("near_rank", pa.float64()),
        ("align_score", pa.float64()),
        ("align_wrong_score", pa.float64()),
    ]
)
"""What scoring finds out about a clip."""
_WORK_SCHEMA = pa.schema([*PLAN_SCHEMA, ("wrong_caption", pa.string())])
SCORED_SCHEMA = pa.schema(
    [
        *PLAN_SCHEMA,
        *FOUND_SCHEMA,
        ("blob_offset", pa.int64()),
        ("blob_bytes", pa.int64()),
        ("scoring_hash", pa.string()),
    ]
)

_UNALIGNED_SCHEMA = pa.schema(
    [field for field in SCORED_SCHEMA if field.name != "scoring_hash"]
    + [pa.field("wrong_caption", pa.string()), pa.field("align_jpegs", pa.list_(pa.binary()))]
)
_SLICES_PER_PART = 256  # row groups in a file: a task reads its footer
_READING_THREADS = 16

IS_TRANSIENT = """
coalesce({row}.verdict in ('timeout', 'crashed') or ({row}.verdict = 'unreadable' and {row}.key is null), false)
"""
"""SQL: whether the scored row of that name failed by chance and may succeed when it is tried again."""

Score = Callable[[Sequence[ClipRecord]], Sequence[Scored]]
Align = Callable[[Sequence[Scored]], Sequence[Scored]]


class Slice(NamedTuple):
    """Which slice of which work."""

    dataset_root: str
    work: str
    number: int
    scoring_hash: str

    @property
    def rows_file(self) -> str:
        """Written last: the slice is done when it is there."""
        return _rows_file(self.dataset_root, self.work, self.number)

    @property
    def unaligned_file(self) -> str:
        """Scored rows and the frames that alignment looks at, while actors align."""
        return joined(slices_path(self.dataset_root), self.work, f"unaligned-{self.number:05d}.parquet")


def write_plan(dataset_root: str, work: str, clips: Iterable[pa.RecordBatch], clips_per_slice: int) -> int:
    """Write the clips to do, as a stream; returns the number of slices."""
    num_slices, part, held = 0, 0, list[pa.RecordBatch]()
    for batch in _rebatched(clips, clips_per_slice):
        held.append(batch)
        num_slices += 1
        if len(held) == _SLICES_PER_PART:
            _write_part(_plan_file(dataset_root, work, part), held)
            part, held = part + 1, []
    if held:
        _write_part(_plan_file(dataset_root, work, part), held)
    return num_slices


def process_slice(slice_: Slice, score: Score, align: Align) -> int:
    """Do one slice, unless it is done already; returns the number of clips decoded by this call."""
    if exists(slice_.rows_file):
        return 0
    scored = _decode(slice_, score)
    _write_rows(slice_, align(scored))
    return len(scored)


def decode_slice(slice_: Slice, score: Score) -> int:
    """All of a slice but alignment, unless it is done; what alignment looks at is left beside it."""
    if exists(slice_.rows_file) or exists(slice_.unaligned_file):
        return 0
    scored = _decode(slice_, score)
    rows = [{**clip.clip, "align_jpegs": clip.align_jpegs} for clip in scored]
    write_whole(slice_.unaligned_file, _parquet([pa.Table.from_pylist(rows, schema=_UNALIGNED_SCHEMA)]))
    return len(scored)


def align_slice(slice_: Slice, align: Align) -> None:
    """Finish what `decode_slice` began, unless it is done."""
    if not exists(slice_.rows_file):
        unaligned = pq.read_table(pa.BufferReader(read_bytes(slice_.unaligned_file)), schema=_UNALIGNED_SCHEMA)
        rows = unaligned.to_pylist()
        jpegs = [tuple(row.pop("align_jpegs")) for row in rows]
        clips = cast(list[ScoredClip], rows)
        _write_rows(slice_, align([Scored(clip, b"", own) for clip, own in zip(clips, jpegs, strict=True)]))
    remove_files([slice_.unaligned_file])


def _decode(slice_: Slice, score: Score) -> list[Scored]:
    scored = score(_planned(slice_))
    blobs = joined(slices_path(slice_.dataset_root), blob_name(slice_.work, slice_.number))
    write_whole(blobs, b"".join(clip.mp4 for clip in scored))
    return list(_placed(scored))


def _planned(slice_: Slice) -> list[ClipRecord]:
    """The slice's own rows: of its part of the plan, many megabytes, the footer and one row group are read."""
    part, group = divmod(slice_.number, _SLICES_PER_PART)
    system, inner = filesystem(_plan_file(slice_.dataset_root, slice_.work, part))

    def read() -> pa.Table:
        with system.open(inner, cache_type="none") as source, pq.ParquetFile(source, pre_buffer=True) as file:
            return file.read_row_group(group)

    return cast(list[ClipRecord], patiently(read).to_pylist())


def _write_rows(slice_: Slice, scored: Sequence[Scored]) -> None:
    rows = [{**clip.clip, "scoring_hash": slice_.scoring_hash} for clip in scored]
    write_whole(slice_.rows_file, _parquet([pa.Table.from_pylist(rows, schema=SCORED_SCHEMA)]))


def blob_name(work: str, index: int) -> str:
    """How the catalog names a slice: its frames' file below `slices/`."""
    return f"{work}/{index:05d}.mp4s"


def read_slices(dataset_root: str, work: str, indices: Sequence[int]) -> Iterator[pa.RecordBatch]:
    """Scored rows of slices, slice by slice, with the column `slice`; several files are read ahead."""
    with ThreadPoolExecutor(_READING_THREADS) as pool:
        for start in range(0, len(indices), _READING_THREADS):
            chunk = indices[start : start + _READING_THREADS]
            paths = [_rows_file(dataset_root, work, index) for index in chunk]
            for index, data in zip(chunk, pool.map(read_bytes, paths), strict=True):
                table = pq.read_table(pa.BufferReader(data), schema=SCORED_SCHEMA)
                name = pa.array([blob_name(work, index)] * len(table), pa.string())
                yield from table.append_column("slice", name).to_batches()


def unfinished_works(dataset_root: str) -> list[str]:
    """Works whose rows are not committed, as far as is known: their plan is still there."""
    root = slices_path(dataset_root)
    return [work for work in list_names(root) if exists(_plan_file(dataset_root, work, 0))]


def finished_slices(dataset_root: str, work: str) -> list[int]:
    """Slices of a work that are done, in order."""
    names = (Path(file.path).name for file in list_files(joined(slices_path(dataset_root), work)))
    return sorted(int(name.split(".")[0]) for name in names if name.endswith(".parquet") and name[0].isdigit())


def forget_plans(dataset_root: str, works: Iterable[str]) -> None:
    """Remove the plans of works whose rows are committed; their slices stay."""
    for work in works:
        files = [file.path for file in list_files(joined(slices_path(dataset_root), work))]
        aside = [path for path in files if Path(path).name.startswith(("plan-", "unaligned-"))]
        # Plans go last, the first part of them at the very end: a work is found by it.
        remove_files(sorted(aside, reverse=True))


def _placed(scored: Sequence[Scored]) -> Iterator[Scored]:
    offset = 0
    for row in scored:
        if row.mp4:
            clip = row.clip.copy()
            clip["blob_offset"], clip["blob_bytes"] = offset, len(row.mp4)
            yield row._replace(clip=clip)
            offset += len(row.mp4)
        else:
            yield row


def _rebatched(batches: Iterable[pa.RecordBatch], num_rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of `num_rows`, the last one perhaps shorter."""
    held = _WORK_SCHEMA.empty_table()
    for batch in batches:
        held = pa.concat_tables([held, pa.table(batch).select(_WORK_SCHEMA.names).cast(_WORK_SCHEMA)])
        while len(held) >= num_rows:
            yield _one_batch(held.slice(0, num_rows))
            held = held.slice(num_rows)
    if len(held):
        yield _one_batch(held)


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    return table.combine_chunks().to_batches()[0]


def _write_part(path: str, batches: Sequence[pa.RecordBatch]) -> None:
    write_whole(path, _parquet([pa.Table.from_batches([batch]) for batch in batches]))


def _parquet(row_groups: Sequence[pa.Table]) -> bytes:
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, row_groups[0].schema) as writer:
        for table in row_groups:
            writer.write_table(table, row_group_size=max(1, len(table)))
    return sink.getvalue().to_pybytes()


def _plan_file(dataset_root: str, work: str, part: int) -> str:
    return joined(slices_path(dataset_root), work, f"plan-{part:05d}.parquet")


def _rows_file(dataset_root: str, work: str, index: int) -> str:
    return joined(slices_path(dataset_root), work, f"{index:05d}.parquet")
