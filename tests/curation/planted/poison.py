"""A decoding process in which some sources do what foreign files make decoders do. `test_isolation.py` starts it."""

import os
import signal
import time
from functools import partial

from pipelines.curation.config import Recipe
from pipelines.curation.decode import Span
from pipelines.curation.decoding_process import serve
from pipelines.curation.prepare import Preparation, prepare


def spin() -> None:
    while True:
        pass


def bomb() -> None:
    hoard: list[bytearray] = []
    while True:
        hoard.append(bytearray(16 * 1024**2))


def fail() -> None:
    raise ZeroDivisionError("nobody foresaw this")


ENDS = {
    b"sleep": partial(time.sleep, 3600),
    b"spin": spin,
    b"segfault": partial(os.kill, os.getpid(), signal.SIGSEGV),
    b"exit": partial(os._exit, 3),
    b"raise": fail,
    b"bomb": bomb,
}


def poisoned(source: bytes, span: Span, num_align_frames: int, recipe: Recipe) -> Preparation:
    """Prepare as ever, unless the source asks for another end."""
    if source in ENDS:
        ENDS[source]()
    return prepare(source, span, num_align_frames, recipe)


if __name__ == "__main__":
    serve(poisoned)
