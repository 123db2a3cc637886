"""Source files, local or behind any fsspec address: whether one changed, its bytes, and the key they give."""

import errno
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple

from fsspec import AbstractFileSystem, get_filesystem_class
from fsspec.registry import known_implementations

from pipelines.curation.decode import Span
from pipelines.curation.records import Rejection
from pipelines.storage import PAUSES_S, filesystem, is_remote, is_transient, patiently, remote_errors

PATIENCE_S = PAUSES_S[:5]
"""Pauses between the tries of a source's store, a quarter of a minute in all: the next refresh tries again."""
_CHANGE_MARKS = ("ETag", "etag", "LastModified", "last_modified", "mtime", "updated")


class Unseen(NamedTuple):
    """A source that its store does not show now."""

    reason: str
    is_transient: bool
    """Whether the store itself was away."""


def etag(uri: str, pauses_s: Sequence[float] = PATIENCE_S) -> str | Unseen:
    """A short text that changes when the source does: its size and what its store says of its last change.

    Args:
        uri: Where the source is.
        pauses_s: Between the tries of a store that is away.
    """
    try:
        info = _info(uri, pauses_s)
    except remote_errors() as error:
        return Unseen(_words(error), is_transient(error))
    return Unseen("no such file", False) if info is None else f"{info.get('size')}-{_change_mark(info)}"


def read_source(uri: str, max_bytes: int | None) -> bytes | Rejection:
    """The bytes of a source, or why there are none: `unreadable`, or `too_large` before more than that is read.

    A store that is away is asked again for a while, and is no error: the clip is `unreadable` until the next refresh.
    """
    try:
        info = _info(uri, PATIENCE_S)
        if info is None:
            return Rejection("unreadable", "no such file")
        if info.get("type", "file") != "file":
            return Rejection("unreadable", "not a file: a folder, a pipe or a device")
        size = info.get("size")
        if max_bytes is not None and (size or 0) > max_bytes:
            return Rejection("too_large", f"{size} bytes, at most {max_bytes}")
        return patiently(lambda: _read(uri, max_bytes, size is None), _tries(uri, PATIENCE_S))
    except remote_errors() as error:
        return Rejection("unreadable", _words(error))


def _read(uri: str, max_bytes: int | None, is_size_unknown: bool) -> bytes | Rejection:
    system, path = _opened(uri)
    if max_bytes is None or not is_size_unknown:
        return system.cat_file(path)  # pyright: ignore[reportReturnType]  # never text
    source = bytearray()
    with system.open(path, "rb") as stream:
        while len(source) <= max_bytes and (part := stream.read(max_bytes + 1 - len(source))):
            source += part  # pyright: ignore[reportOperatorIssue]  # never text
    if len(source) > max_bytes:
        return Rejection("too_large", f"{max_bytes} bytes expected at most, more came")
    return bytes(source)


def clip_key(source: bytes, span: Span) -> str:
    """32 hex digits of blake2b-128 over the source's bytes and the span; a whole source has no span."""
    digest = hashlib.blake2b(source, digest_size=16)
    if span != Span():
        digest.update(json.dumps([span.start_s, span.end_s]).encode())
    return digest.hexdigest()


def address_problem(uri: str) -> str | None:
    """Why nothing can ever be read from an address here; None where something might be."""
    if "\0" in uri:
        return "no file's name has a NUL"
    chain, separator, _ = uri.rpartition("://")
    return _chain_problem(chain) if separator else None


@lru_cache(maxsize=64)
def _chain_problem(chain: str) -> str | None:
    """Of an address up to its last protocol, such as `s3` or `zip://a.mp4::s3`."""
    protocols = (part.partition("://")[0] for part in chain.split("::"))
    return next((problem for problem in map(_protocol_problem, protocols) if problem), None)


def _protocol_problem(protocol: str) -> str | None:
    package = known_implementations.get(protocol, {}).get("class", "").partition(".")[0]
    if package not in ("", "fsspec") and find_spec(package):
        return None  # it is there; importing it takes a third of a second, which a plan does without
    try:
        get_filesystem_class(protocol)
    except (ImportError, ValueError) as error:
        return str(error)
    return None


def _info(uri: str, pauses_s: Sequence[float]) -> Mapping[str, Any] | None:
    system, path = _opened(uri)
    try:
        return patiently(lambda: system.info(path), _tries(uri, pauses_s))
    except (FileNotFoundError, NotADirectoryError):
        return None


def _opened(uri: str) -> tuple[AbstractFileSystem, str]:
    try:
        return filesystem(uri)
    except (ImportError, TypeError, ValueError) as error:  # what file systems say of addresses that they cannot use
        raise OSError(errno.EINVAL, str(error), uri) from error


def _tries(uri: str, pauses_s: Sequence[float]) -> Sequence[float]:
    return pauses_s if is_remote(uri) else ()


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _change_mark(info: Mapping[str, Any]) -> str:
    return next((str(info[name]) for name in _CHANGE_MARKS if info.get(name)), "")
