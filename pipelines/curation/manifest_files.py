"""Manifests as files: CSV, JSONL, Parquet or a folder of videos, local or remote, read row by row."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
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


def _csv_rows(path: str) -> Rows:
    with fsspec.open(path, "r", encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.DictReader(file, strict=True)  # pyright: ignore[reportArgumentType]  # fsspec opens text files
        try:
            _require_columns(path, reader.fieldnames or ())
            for row in reader:
                yield f"line {reader.line_num}", _checked(row, len(reader.fieldnames or ()))
        except csv.Error as error:
            raise ManifestError(f"{path}: after line {reader.line_num}: {error}") from error


def _checked(row: dict[Any, Any], num_fields: int) -> Mapping[str, Any] | BadRow:
    if None in row or None in row.values():
        return BadRow(f"{num_fields} fields expected")
    try:
        "".join(row.values()).encode()
    except UnicodeEncodeError as error:
        return BadRow(f"not UTF-8: {error.object[error.start : error.end]!a}")
    return row


def _jsonl_rows(path: str) -> Rows:
    with fsspec.open(path, "rb") as file:
        for number, line in enumerate(file, 1):  # pyright: ignore[reportArgumentType]  # fsspec opens files
            if line.strip():
                yield f"line {number}", _parsed(line)


def _parsed(line: bytes) -> Mapping[str, Any] | BadRow:
    try:
        row = json.loads(line)
    except ValueError as error:
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
