"""The manifest: which clips there are, and what is said about them. Read as a stream, never as a whole.

CSV, JSONL or Parquet with `video` and `caption`, optional `start_s` and `end_s`, any other column passed through; or a
folder of videos, each with its caption in `<name>.txt` beside it. Relative paths count from the manifest's own folder.
A column `etag` (with or without a column `size`) says whether a source changed, so that nobody asks its store; it must
change whenever the source's bytes do.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import pyarrow as pa

from pipelines.curation.manifest_files import BadRow, ManifestError, base_folder, rows_of
from pipelines.curation.source import address_problem
from pipelines.storage import is_remote, joined

MANIFEST_SCHEMA = pa.schema(
    [
        ("position", pa.int64()),
        ("row_id", pa.string()),
        ("uri", pa.string()),
        ("etag", pa.string()),
        ("caption", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("manifest_json", pa.string()),
    ]
)
"""`etag` is null where the manifest does not say it."""
_OWN_COLUMNS = ("video", "caption", "start_s", "end_s")
_BATCH_ROWS = 8192
_AS_JSON = json.JSONEncoder(sort_keys=True, ensure_ascii=False, default=str).encode


class RejectedRow(NamedTuple):
    """A row of a manifest that names no clip."""

    place: str
    """Such as `line 7`."""
    reason: str


def read_manifest(path: str, rejected: Callable[[RejectedRow], None] | None = None) -> Iterator[pa.RecordBatch]:
    """Read a manifest, one row a clip, in its order.

    Args:
        path: A local path or an fsspec address.
        rejected: Told of each row that cannot be understood; None: the first one ends the reading.

    Yields:
        Batches of `MANIFEST_SCHEMA`. Equal rows have the same `row_id`: 32 hex digits over uri and span.

    Raises:
        ManifestError: No such file, another format, a missing column, no clip, or a row that cannot be understood.
    """
    records, position = _records(path, rejected), 0
    while chunk := list(islice(records, _BATCH_ROWS)):
        for row in chunk:
            row["position"] = position
            position += 1
        yield pa.RecordBatch.from_pylist(chunk, schema=MANIFEST_SCHEMA)
    if not position:
        raise ManifestError(f"{path}: at least one clip expected, none found")


def _records(path: str, rejected: Callable[[RejectedRow], None] | None) -> Iterator[dict[str, object]]:
    folder = base_folder(path)
    for place, row in rows_of(path):
        try:
            yield _record(folder, row)
        except ManifestError as error:
            told = f"{path}: {place}: {error}"
            if rejected is None:
                raise ManifestError(told) from error
            rejected(RejectedRow(place, told))


def _record(folder: str, row: Mapping[str, Any] | BadRow) -> dict[str, object]:
    if isinstance(row, BadRow):
        raise ManifestError(row.reason)
    uri = _address(folder, row)
    start_s, end_s = _seconds("start_s", row), _seconds("end_s", row)
    if end_s is not None and end_s <= (start_s or 0):
        raise ManifestError(f"column end_s: more than start_s expected, given {start_s} to {end_s}")
    others = {name: value for name, value in row.items() if name not in _OWN_COLUMNS}
    etag = f"{row.get('size') or ''}-{row['etag']}" if row.get("etag") else None
    texts = {
        "uri": uri,
        "etag": etag,
        "caption": _caption(row),
        "manifest_json": _AS_JSON(others) if others else "{}",
    }
    _check_utf8(texts)
    row_id = hashlib.sha256(f"{uri}\n{_told(start_s)}\n{_told(end_s)}".encode()).hexdigest()[:32]
    return {"row_id": row_id, "start_s": start_s, "end_s": end_s, **texts}


def _address(folder: str, row: Mapping[str, Any]) -> str:
    video = _text(row, "video")
    uri = resolve(folder, video)
    problem = address_problem(uri)
    if problem is not None:
        raise ManifestError(f"column video: a path or address expected, given {video!r}: {problem}")
    return uri


def _check_utf8(texts: Mapping[str, str | None]) -> None:
    """JSON can name halves of characters; no file can hold them as text."""
    try:
        for text in texts.values():
            if text and not text.isascii():
                text.encode()
    except UnicodeEncodeError as error:
        given = error.object[error.start : error.end]
        raise ManifestError(f"text of whole characters expected, given {given!a}") from error


def _text(row: Mapping[str, Any], column: str) -> str:
    value = row.get(column)
    if not isinstance(value, str) or not value.strip():
        raise ManifestError(f"column {column}: a path or address expected, given {value!r}")
    return value.strip()


def _caption(row: Mapping[str, Any]) -> str:
    caption = row.get("caption")
    if caption is not None and not isinstance(caption, str):
        raise ManifestError(f"column caption: a text expected, given {caption!r}")
    return (caption or "").strip()


def _seconds(column: str, row: Mapping[str, Any]) -> float | None:
    value = row.get(column)
    if value is None or value == "":
        return None
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ManifestError(f"column {column}: seconds from 0 on expected, given {value!r}")
    return seconds


def _told(seconds: float | None) -> str:
    return "" if seconds is None else str(seconds)


def resolve(folder: str, video: str) -> str:
    """The address that a manifest in `folder` means by `video`."""
    if is_remote(video) or video.startswith("/"):
        return video
    # Not resolved: a link is a name of its own, and may be pointed elsewhere later.
    scheme, separator, rest = joined(folder, video).rpartition("://")
    return f"{scheme}{separator}{_without_dots(rest)}"


def _without_dots(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] not in ("", ".."):
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)
