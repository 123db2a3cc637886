"""The manifest: which clips there are, and what is said about them.

CSV, JSONL or Parquet with `video` and `caption`, optional `start_s` and `end_s`, any other column passed through; or a
folder of videos, each with its caption in `<name>.txt` beside it. Relative paths count from the manifest's own folder.
"""

import csv
import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

MANIFEST_SCHEMA = pa.schema(
    [
        ("position", pa.int64()),
        ("row_id", pa.string()),
        ("uri", pa.string()),
        ("caption", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("manifest_json", pa.string()),
    ]
)
VIDEO_SUFFIXES = frozenset((".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".flv", ".wmv"))
_OWN_COLUMNS = ("video", "caption", "start_s", "end_s")


class ManifestError(ValueError):
    """A manifest that cannot be used; the message names the file, the row and the column."""


def read_manifest(path: str | Path) -> pa.Table:
    """Read a manifest, one row a clip, in its order.

    Returns:
        A table of `MANIFEST_SCHEMA`; `row_id` is unique: a row that is there twice is two rows.

    Raises:
        ManifestError: No such file, another format, a missing column, or a row that cannot be understood.
    """
    manifest = Path(path)
    rows = (_record(manifest, place, row) for place, row in _rows(manifest))
    seen, records = Counter[str](), list[dict[str, object]]()
    for position, row in enumerate(rows):
        identity = json.dumps([row["uri"], row["start_s"], row["end_s"]])
        row_id = hashlib.blake2b(f"{identity}#{seen[identity]}".encode(), digest_size=16).hexdigest()
        seen[identity] += 1
        records.append({"position": position, "row_id": row_id, **row})
    if not records:
        raise ManifestError(f"{manifest}: at least one clip expected, none found")
    return pa.Table.from_pylist(records, schema=MANIFEST_SCHEMA)


def _rows(manifest: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows as mappings, each with the words that tell its place."""
    if manifest.is_dir():
        return _folder_rows(manifest)
    if not manifest.is_file():
        raise ManifestError(f"manifest {manifest}: no such file or folder")
    readers = {".csv": _csv_rows, ".jsonl": _jsonl_rows, ".ndjson": _jsonl_rows, ".parquet": _parquet_rows}
    read = readers.get(manifest.suffix.lower())
    if read is None:
        raise ManifestError(f"manifest {manifest}: {', '.join(readers)} or a folder expected")
    return read(manifest)


def _csv_rows(manifest: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with manifest.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            _require_columns(manifest, reader.fieldnames or ())
            for row in reader:
                if None in row or None in row.values():
                    expected = len(reader.fieldnames or ())
                    raise ManifestError(f"{manifest}: line {reader.line_num}: {expected} fields expected")
                yield f"line {reader.line_num}", row
        except (csv.Error, UnicodeDecodeError) as error:
            raise ManifestError(f"{manifest}: after line {reader.line_num}: {error}") from error


def _jsonl_rows(manifest: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, line in enumerate(manifest.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ManifestError(f"{manifest}: line {number}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise ManifestError(f"{manifest}: line {number}: a JSON object expected, given {type(row).__name__}")
        yield f"line {number}", row


def _parquet_rows(manifest: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        file = pq.ParquetFile(manifest)
    except pa.ArrowInvalid as error:
        raise ManifestError(f"{manifest}: not Parquet: {error}") from error
    with file:
        _require_columns(manifest, file.schema_arrow.names)
        number = 0
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                yield f"row {number}", row
                number += 1


def _folder_rows(folder: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    videos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    for video in videos:
        text = video.with_suffix(".txt")
        try:
            caption = text.read_text(encoding="utf-8").strip() if text.is_file() else ""
        except UnicodeDecodeError as error:
            raise ManifestError(f"{text}: not UTF-8: {error}") from error
        yield str(video), {"video": str(video.relative_to(folder)), "caption": caption}


def _require_columns(manifest: Path, columns: Any) -> None:
    missing = [name for name in ("video", "caption") if name not in columns]
    if missing:
        given = ", ".join(columns) or "none"
        raise ManifestError(f"{manifest}: columns `video` and `caption` expected, missing {missing}; given: {given}")


def _record(manifest: Path, place: str, row: Mapping[str, Any]) -> dict[str, object]:
    where = f"{manifest}: {place}"
    video, caption = row.get("video"), row.get("caption")
    if not isinstance(video, str) or not video.strip():
        raise ManifestError(f"{where}: column video: a path or address expected, given {video!r}")
    if caption is not None and not isinstance(caption, str):
        raise ManifestError(f"{where}: column caption: a text expected, given {caption!r}")
    start_s, end_s = _seconds(where, "start_s", row), _seconds(where, "end_s", row)
    if end_s is not None and end_s <= (start_s or 0):
        raise ManifestError(f"{where}: column end_s: more than start_s expected, given {start_s} to {end_s}")
    others = {name: value for name, value in row.items() if name not in _OWN_COLUMNS}
    return {
        "uri": _resolve(manifest, video.strip()),
        "caption": (caption or "").strip(),
        "start_s": start_s,
        "end_s": end_s,
        "manifest_json": json.dumps(others, sort_keys=True, ensure_ascii=False, default=str),
    }


def _seconds(where: str, column: str, row: Mapping[str, Any]) -> float | None:
    value = row.get(column)
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ManifestError(f"{where}: column {column}: seconds from 0 on expected, given {value!r}")
    return seconds


def _resolve(manifest: Path, video: str) -> str:
    if "://" in video:
        return video
    folder = manifest if manifest.is_dir() else manifest.parent
    # normpath, not resolve: a link is a name of its own, and may be pointed elsewhere later.
    return os.path.normpath(folder.absolute() / video)
