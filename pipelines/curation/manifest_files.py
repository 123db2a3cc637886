"""Manifests as files: CSV, JSONL, Parquet or a folder of videos, local or remote, read row by row."""

import csv
import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.storage import absolute, exists, filesystem, list_files, read_bytes

VIDEO_SUFFIXES = frozenset((".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv"))

_BATCH_ROWS = 4096


class ManifestError(ValueError):
    """A manifest that cannot be used; the message names the file, the row and the column."""


class BadRow(NamedTuple):
    """What stands for a row that its format does not allow: the rows after it can still be read."""

    reason: str


Rows = Iterator[tuple[str, Mapping[str, Any] | BadRow]]
"""Rows as mappings, each with the words that tell its place."""


def base_folder(path: str) -> str:
    """What relative paths in a manifest count from: the folder of its file, or the folder that it is."""
    whole = absolute(path)
    return whole if _is_folder(path) else whole.rpartition("/")[0]


def rows_of(path: str) -> Rows:
    """All rows of a manifest, in its order.

    Raises:
        ManifestError: No such file, another format, a missing column, or a file that is broken as a whole.
    """
    if not exists(path):
        raise ManifestError(f"manifest {path}: no such file or folder")
    if _is_folder(path):
        return _folder_rows(path)
    readers: dict[str, Callable[[str], Rows]] = {
        ".csv": _csv_rows,
        ".jsonl": _jsonl_rows,
        ".ndjson": _jsonl_rows,
        ".parquet": _parquet_rows,
    }
    read = readers.get(PurePosixPath(path).suffix.lower())
    if read is None:
        raise ManifestError(f"manifest {path}: {', '.join(readers)} or a folder expected")
    return read(path)


def _is_folder(path: str) -> bool:
    system, inner = filesystem(path)
    return system.isdir(inner)


class _Lines:
    """Lines of a file, which can be given again: those that an open quote swallowed."""

    def __init__(self, file: Iterable[str]) -> None:
        self._file, self._again = iter(file), deque[str]()
        self._record: list[str] = []
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.popleft() if self._again else next(self._file)
        self._record.append(line)
        self.number += 1
        return line

    def begin_record(self) -> None:
        self._record.clear()

    def end_record_early(self) -> None:
        """Take its first line for the whole record."""
        self._again.extendleft(reversed(self._record[1:]))
        self.number -= len(self._record) - 1


def _csv_rows(path: str) -> Rows:
    with fsspec.open(path, "r", encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        records = _csv_records(_Lines(file))  # pyright: ignore[reportArgumentType]  # fsspec opens text files
        place, header = next(records, ("", []))
        if isinstance(header, BadRow):
            raise ManifestError(f"{path}: {place}: {header.reason}")
        _require_columns(path, header)
        for place, record in records:
            yield place, record if isinstance(record, BadRow) else _checked(header, record)


def _csv_records(lines: _Lines) -> Iterator[tuple[str, list[str] | BadRow]]:
    """Records with their places; one that is broken costs its first line, and reading goes on with the next."""
    reader = csv.reader(lines, strict=True)
    while True:
        lines.begin_record()
        try:
            record = next(reader, None)
        except csv.Error as error:
            lines.end_record_early()
            record = BadRow(f"not CSV: {error}")
        if record is None:
            return
        if record:
            yield f"line {lines.number}", record


def _checked(header: Sequence[str], record: Sequence[str]) -> Mapping[str, Any] | BadRow:
    if len(record) != len(header):
        return BadRow(f"{len(header)} fields expected")
    try:
        "".join(record).encode()
    except UnicodeEncodeError as error:
        return BadRow(f"not UTF-8: {error.object[error.start : error.end]!a}")
    return dict(zip(header, record, strict=True))


def _jsonl_rows(path: str) -> Rows:
    with fsspec.open(path, "rb") as file:
        for number, line in enumerate(file, 1):  # pyright: ignore[reportArgumentType]  # fsspec opens files
            if line.strip():
                yield f"line {number}", _parsed(line)


def _parsed(line: bytes) -> Mapping[str, Any] | BadRow:
    try:
        row = json.loads(line)
    except (RecursionError, ValueError) as error:
        return BadRow(f"not JSON: {error}")
    return row if isinstance(row, dict) else BadRow(f"a JSON object expected, given {type(row).__name__}")


def _parquet_rows(path: str) -> Rows:
    with fsspec.open(path, "rb") as source:
        try:
            file = pq.ParquetFile(source)
        except pa.ArrowInvalid as error:
            raise ManifestError(f"{path}: not Parquet: {error}") from error
        with file:
            _require_columns(path, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for row in batch.to_pylist():
                    yield f"row {number}", row
                    number += 1


def _folder_rows(folder: str) -> Rows:
    names = [file.path for file in list_files(folder)]
    texts = {name for name in names if name.endswith(".txt")}
    for video in names:
        path = PurePosixPath(video)
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            continue
        text = f"{video.removesuffix(path.suffix)}.txt"
        try:
            caption = read_bytes(text).decode("utf-8").strip() if text in texts else ""
        except UnicodeDecodeError as error:
            yield text, BadRow(f"not UTF-8: {error.reason}")
        else:
            yield video, {"video": video, "caption": caption}


def _require_columns(path: str, columns: Sequence[str]) -> None:
    missing = [name for name in ("video", "caption") if name not in columns]
    if missing:
        raise ManifestError(f"{path}: columns `video` and `caption` expected, missing {missing}, found {list(columns)}")
