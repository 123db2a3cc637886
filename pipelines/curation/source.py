"""Source files, local or behind any fsspec address: whether one changed, its bytes, and the key they give."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.curation.decode import Span
from pipelines.curation.records import Rejection
from pipelines.storage import PAUSES_S, filesystem, is_remote, patiently, remote_errors

_TRIES = PAUSES_S[:5]  # a quarter of a minute: the next refresh tries again
_CHANGE_MARKS = ("ETag", "etag", "LastModified", "last_modified", "mtime", "updated")


def etag(uri: str) -> str:
    """A short text that changes when the source does: its size and what its store says of its last change.

    Empty where there is no such file, so that a source which appears later is a changed one.
    """
    info = _info(uri)
    return "" if info is None else f"{info.get('size')}-{_change_mark(info)}"


def read_source(uri: str, max_bytes: int | None) -> bytes | Rejection:
    """The bytes of a source, or why there are none: `unreadable`, or `too_large` before anything is read.

    A store that is away is asked again for a while, and is no error: the clip is `unreadable` until the next refresh.
    """
    try:
        info = _info(uri)
        if info is None:
            return Rejection("unreadable", "no such file")
        if max_bytes is not None and (info.get("size") or 0) > max_bytes:
            return Rejection("too_large", f"{info['size']} bytes, at most {max_bytes}")
        system, path = filesystem(uri)
        return patiently(lambda: system.cat_file(path), _tries(uri))  # pyright: ignore[reportReturnType]  # never text
    except remote_errors() as error:
        return Rejection("unreadable", getattr(error, "strerror", None) or str(error) or type(error).__name__)


def clip_key(source: bytes, span: Span) -> str:
    """32 hex digits of blake2b-128 over the source's bytes and the span; a whole source has no span."""
    digest = hashlib.blake2b(source, digest_size=16)
    if span != Span():
        digest.update(json.dumps([span.start_s, span.end_s]).encode())
    return digest.hexdigest()


def _info(uri: str) -> Mapping[str, Any] | None:
    system, path = filesystem(uri)
    try:
        return patiently(lambda: system.info(path), _tries(uri))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _tries(uri: str) -> Sequence[float]:
    return _TRIES if is_remote(uri) else ()


def _change_mark(info: Mapping[str, Any]) -> str:
    return next((str(info[name]) for name in _CHANGE_MARKS if info.get(name)), "")
