"""Files that appear whole, in local folders and behind fsspec addresses such as s3:// alike.

Locally a file is written aside, fsynced and renamed; an object store's PUT is whole by itself. Remote calls that end in
503, a time-out or a broken connection are tried again with growing pauses. Where a store is and who may use it comes
from the standard environment of its library (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID ...): nothing here reads it.
"""

import errno
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import fsspec
from fsspec import AbstractFileSystem

T = TypeVar("T")

PAUSES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Between the tries of a remote call: a store may be away for a minute."""
_TRANSIENT_ERRNO = frozenset(
    (errno.EBUSY, errno.EREMOTEIO, errno.ETIMEDOUT, errno.ECONNRESET, errno.ECONNREFUSED, errno.EPIPE, errno.EAGAIN)
)
_CHANGED = ("LastModified", "last_modified", "mtime", "created")


class StoredFile(NamedTuple):
    """A file that a listing found."""

    path: str
    """As it can be opened: with its `s3://`, or absolute."""
    name: str
    """Below the folder that was listed."""
    num_bytes: int
    changed: datetime


class _LibraryErrors(NamedTuple):
    """Errors of the libraries behind fsspec that are no OSError."""

    all: tuple[type[Exception], ...]
    passing: tuple[type[Exception], ...]
    """Those of a connection: it may be there again in a moment."""


def is_remote(path: str | Path) -> bool:
    """Whether a path is an fsspec address rather than a local file's name."""
    return "://" in str(path)


def joined(root: str | Path, *names: str) -> str:
    """A path below a folder or an address."""
    return "/".join((str(root).rstrip("/"), *names))


def absolute(path: str | Path) -> str:
    """The same place, named so that processes with another working directory find it."""
    return str(path).rstrip("/") if is_remote(path) else str(Path(path).absolute())


def filesystem(path: str | Path) -> tuple[AbstractFileSystem, str]:
    """The file system behind a path and the path in its own terms; listings are never answered from a cache."""
    options: dict[str, Any] = {"use_listings_cache": False} if is_remote(path) else {}
    system, inner = fsspec.url_to_fs(str(path), **options)
    return system, inner


def patiently(call: Callable[[], T], pauses_s: Sequence[float] = PAUSES_S) -> T:
    """The result of a remote call, tried again after each pause while it ends in something that may pass by itself.

    Raises:
        OSError: The last try's error.
    """
    for pause_s in pauses_s:
        try:
            return call()
        except remote_errors() as error:
            if not is_transient(error):
                raise
        time.sleep(pause_s)
    return call()


def is_transient(error: BaseException) -> bool:
    """Whether an error of a remote call may be gone when it is tried again."""
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if isinstance(error, OSError):
        return error.errno in _TRANSIENT_ERRNO
    if isinstance(error, ValueError) or not isinstance(error, _library_errors().passing):
        return False  # an address that is none stays none
    status = getattr(error, "status", None)  # of an aiohttp response
    return status is None or status >= 500 or status == 429


@cache
def remote_errors() -> tuple[type[Exception], ...]:
    """What libraries of remote stores raise: OSError, and their own where they are installed."""
    return (OSError, *_library_errors().all)


def write_whole(path: str | Path, data: bytes | bytearray) -> None:
    """Write `data` so that a reader sees either nothing, the old file or all of the new one.

    Folders on the way are made. A crash may leave a `.partial` file beside a local target, never half a target.
    """
    if is_remote(path):
        system, inner = filesystem(path)
        patiently(lambda: system.pipe_file(inner, bytes(data)))
        return
    target = Path(path)
    aside = _written_aside(target, data)
    try:
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    _sync_folder(target.parent)


def create_whole(path: str | Path, data: bytes) -> bool:
    """Write a file that must not be there yet; of all who try at once exactly one gets True.

    Locally by a hard link, on S3 by a PUT with `If-None-Match: *`. Data must tell its writer from all others: a PUT
    that was done but not answered is told by reading it back.
    """
    if not is_remote(path):
        target = Path(path)
        aside = _written_aside(target, data)
        try:
            os.link(aside, target)
        except FileExistsError:
            return False
        finally:
            aside.unlink(missing_ok=True)
        _sync_folder(target.parent)
        return True
    system, inner = filesystem(path)
    try:
        patiently(lambda: system.pipe_file(inner, data, mode="create"))
    except OSError:
        if not exists(path):
            raise
        return read_bytes(path) == data
    return True


def read_bytes(path: str | Path, start: int | None = None, end: int | None = None) -> bytes:
    """A file, or its bytes from `start` to before `end`."""
    system, inner = filesystem(path)

    def read() -> bytes:
        return system.cat_file(inner, start=start, end=end)  # pyright: ignore[reportReturnType]  # never text

    return patiently(read) if is_remote(path) else read()


def read_ranges(paths: Sequence[str], starts: Sequence[int], ends: Sequence[int]) -> list[bytes]:
    """Bytes of many places at once, in their order; remote ones are asked for at the same time."""
    if not paths:
        return []
    if not is_remote(paths[0]):
        return [read_bytes(*place) for place in zip(paths, starts, ends, strict=True)]
    system, _ = filesystem(paths[0])
    inner = [filesystem(path)[1] for path in paths]
    # By default fsspec gives errors back among the bytes: nobody would try those again.
    return patiently(lambda: system.cat_ranges(inner, list(starts), list(ends), on_error="raise"))


def exists(path: str | Path) -> bool:
    """Whether there is such a file or folder."""
    system, inner = filesystem(path)
    return patiently(lambda: system.exists(inner)) if is_remote(path) else Path(path).exists()


def list_files(folder: str | Path) -> list[StoredFile]:
    """All files below a folder, however deep, sorted by path; none where there is no such folder."""
    system, inner = filesystem(folder)
    found: dict[str, Any] = patiently(lambda: system.find(inner, detail=True))  # pyright: ignore[reportAssignmentType]
    prefix = f"{inner.rstrip('/')}/"
    return [
        StoredFile(
            path=system.unstrip_protocol(path) if is_remote(folder) else path,
            name=path.removeprefix(prefix),
            num_bytes=info["size"] or 0,
            changed=_changed(info),
        )
        for path, info in sorted(found.items())
    ]


def list_names(folder: str | Path) -> list[str]:
    """Names of files and folders right below a folder, sorted; none where there is no such folder."""
    system, inner = filesystem(folder)
    try:
        found = patiently(lambda: system.ls(inner, detail=False))
    except FileNotFoundError:
        return []
    return sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in found if name.rstrip("/") != inner.rstrip("/"))


def remove_files(paths: Iterable[str]) -> None:
    """Remove files; those that are gone already are no error."""
    for path in paths:
        if is_remote(path):
            system, inner = filesystem(path)
            try:
                patiently(lambda system=system, inner=inner: system.rm_file(inner))
            except FileNotFoundError:
                continue
        else:
            Path(path).unlink(missing_ok=True)


def remove_empty_folders(root: str | Path) -> None:
    """Remove local folders below `root` that hold nothing; an object store has no folders."""
    if is_remote(root):
        return
    for folder in sorted((path for path in Path(root).rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def sha256_file(path: str | Path) -> str:
    """sha256 of a file's bytes, 64 hex digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _library_errors() -> _LibraryErrors:
    passing: list[type[Exception]] = []
    lasting: list[type[Exception]] = []
    try:
        from aiohttp import ClientError

        passing.append(ClientError)
    except ImportError:
        pass
    try:
        from botocore import exceptions as botocore

        passing += [botocore.HTTPClientError, botocore.ConnectionError]
        lasting += [botocore.BotoCoreError, botocore.ClientError]
    except ImportError:
        pass
    return _LibraryErrors((*passing, *lasting), tuple(passing))


def _written_aside(target: Path, data: bytes | bytearray) -> Path:
    """A temporary file beside the target with all of the data, on the disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent)
    aside, is_whole = Path(name), False
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.chmod(0o644)
        is_whole = True
    except OSError as error:
        raise OSError(error.errno, f"{len(data)} bytes cannot be written: {error.strerror}", str(target)) from error
    finally:
        if not is_whole:
            aside.unlink(missing_ok=True)
    return aside


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _changed(info: dict[str, Any]) -> datetime:
    value = next((info[name] for name in _CHANGED if info.get(name) is not None), None)
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    return datetime.fromtimestamp(float(value or 0), UTC)
