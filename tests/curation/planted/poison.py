"""A decoding process in which some sources do what foreign files make decoders do. `test_isolation.py` starts it."""

import os
import signal
import time

from pipelines.curation.config import Recipe
from pipelines.curation.decode import Span
from pipelines.curation.decoding_process import serve
from pipelines.curation.prepare import Preparation, prepare


def poisoned(source: bytes, span: Span, num_align_frames: int, recipe: Recipe) -> Preparation:
    """Prepare as ever, unless the source asks for another end."""
    if source == b"sleep":
        time.sleep(3600)
    elif source == b"spin":
        while True:
            pass
    elif source == b"segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif source == b"exit":
        os._exit(3)
    elif source == b"raise":
        raise ZeroDivisionError("nobody foresaw this")
    elif source == b"bomb":
        hoard: list[bytearray] = []
        while True:
            hoard.append(bytearray(16 * 1024**2))
    return prepare(source, span, num_align_frames, recipe)


if __name__ == "__main__":
    serve(poisoned)
