"""SIGTERM, as `ray job stop` and a drained node send it, becomes an event."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_on_sigterm() -> Generator[threading.Event]:
    """Set the event on SIGTERM for the length of the block.

    To be entered on the main thread and after `ray.init`, which puts a handler of its own there.
    """
    stop = threading.Event()

    def handle(_signal: int, _frame: FrameType | None) -> None:
        stop.set()

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
