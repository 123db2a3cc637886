"""A lease on a data set: of all who want to write it, one may, until it says that it is done or is silent for too long.

    <dataset>/lease/0000000007.json    {"owner": ..., "expires_at": ..., "is_released": ...}

The file with the highest number counts. Taking, renewing, taking over and giving back all create the next number, which
of all who try at once exactly one can do: by a hard link on a local disk, by a PUT with If-None-Match on S3. Nothing is
ever overwritten, so no store needs more than that.
"""

import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipelines.curation.layout import lease_path
from pipelines.storage import create_whole, joined, list_names, read_bytes, remote_errors, remove_files

_RENEWALS = 3  # in the time of a lease
_DIGITS = 10


class LeaseHeldError(RuntimeError):
    """Somebody else writes the data set; the message says who and until when."""


class LeaseLostError(RuntimeError):
    """The lease ran out and somebody else took it over: nothing may be committed any more."""


@dataclass(frozen=True)
class Holder:
    """Who asks for a lease."""

    name: str
    """Such as host, process id and start: no two that run at the same time share it."""
    is_gone: Callable[[str], bool] = lambda name: False
    """Whether the holder of that name is known to be dead, so that nobody has to wait for its lease to run out."""


class Lease:
    """A lease that is held. Make it by `leased`."""

    def __init__(self, dataset: str, holder: Holder, duration_s: float, now: Callable[[], datetime]) -> None:
        self._dataset, self._folder, self._holder = dataset, lease_path(dataset), holder
        self._duration, self._now = timedelta(seconds=duration_s), now
        self._lock = threading.Lock()
        self._number = self._take()

    def check(self) -> None:
        """Make sure that the lease is still held.

        Raises:
            LeaseLostError: It is not.
        """
        with self._lock:
            newest = _newest(self._folder)
            if newest != self._number:
                raise LeaseLostError(f"dataset {self._dataset}: the lease of {self._holder.name} was taken over")

    def renew(self) -> None:
        """Hold it for its whole length from now on.

        Raises:
            LeaseLostError: It is not held any more.
        """
        with self._lock:
            self._number = self._next(self._number, is_released=False)

    def release(self) -> None:
        """Let others have it at once; a lease that was lost already is left alone."""
        with self._lock:
            try:
                self._number = self._next(self._number, is_released=True)
            except LeaseLostError:
                return

    def _take(self) -> int:
        newest = _newest(self._folder)
        if newest is not None:
            self._check_free(newest)
        try:
            return self._next(newest or 0, is_released=False)
        except LeaseLostError:
            faster = _newest(self._folder)
            if faster is not None:
                self._check_free(faster)
            raise

    def _check_free(self, number: int) -> None:
        try:
            held = json.loads(read_bytes(_file(self._folder, number)))
        except FileNotFoundError:
            raise LeaseHeldError(f"dataset {self._dataset}: somebody else takes or renews its lease just now") from None
        is_over = held["is_released"] or datetime.fromisoformat(held["expires_at"]) <= self._now()
        if not is_over and not self._holder.is_gone(held["owner"]):
            raise LeaseHeldError(
                f"dataset {self._dataset}: {held['owner']} writes it, until {held['expires_at']} or longer; "
                f"try again then, or stop that refresh"
            )

    def _next(self, number: int, *, is_released: bool) -> int:
        """Create the number after `number`; it counts when none is higher."""
        content = {
            "owner": self._holder.name,
            "expires_at": (self._now() + self._duration).isoformat(),
            "is_released": is_released,
        }
        is_made = create_whole(_file(self._folder, number + 1), json.dumps(content).encode())
        if not is_made or _newest(self._folder) != number + 1:
            raise LeaseLostError(f"dataset {self._dataset}: somebody else took the lease of {self._holder.name}")
        older = (name for name in list_names(self._folder) if name.endswith(".json") and _number(name) <= number)
        remove_files(joined(self._folder, name) for name in older)
        return number + 1


@contextmanager
def leased(dataset: str, holder: Holder, duration_s: float, now: Callable[[], datetime]) -> Generator[Lease]:
    """Hold the lease of a data set for the length of the block, renewed in the background.

    Raises:
        LeaseHeldError: Somebody else holds it.
    """
    lease, is_over = Lease(dataset, holder, duration_s, now), threading.Event()

    def keep() -> None:
        while not is_over.wait(duration_s / _RENEWALS):
            try:
                lease.renew()
            except LeaseLostError:
                return  # the check before the commit tells
            except remote_errors():
                continue  # the store is away; there is time for another try

    keeper = threading.Thread(target=keep, name="lease", daemon=True)
    keeper.start()
    try:
        yield lease
    finally:
        is_over.set()
        keeper.join()
        lease.release()


def _newest(folder: str) -> int | None:
    return max((_number(name) for name in list_names(folder) if name.endswith(".json")), default=None)


def _number(name: str) -> int:
    return int(name.removesuffix(".json"))


def _file(folder: str, number: int) -> str:
    return joined(folder, f"{number:0{_DIGITS}d}.json")
