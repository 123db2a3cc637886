"""The process that `pipelines.curation.isolation` starts: it prepares clips until its socket closes.

It lives under an address-space limit, counted from what the libraries take, and ends with its parent: an idle process
sees the socket close, a busy one fails to answer, a hanging one is ended by the kernel's alarm.
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection
from types import TracebackType

import cv2
import psutil
from av import logging

from pipelines.curation.config import LimitsConfig, Recipe
from pipelines.curation.decode import Span
from pipelines.curation.prepare import Preparation, prepare
from pipelines.curation.records import Rejection

OUT_OF_MEMORY = 86
"""Exit status of a process that met its memory limit."""

PrepareBy = Callable[[bytes, Span, int, Recipe], Preparation]


def serve(prepare_with: PrepareBy = prepare) -> None:
    """Answer the socket whose number is the program's second argument, by the recipe that is the third one."""
    connection, recipe = Connection(int(sys.argv[3])), Recipe.model_validate_json(sys.argv[4])
    # PyAV's own log callback takes the interpreter's lock in the decoder's threads and can deadlock.
    logging.restore_default_callback()
    logging.set_level(logging.PANIC)
    cv2.setNumThreads(1)
    _limit_memory(recipe.limits)
    sys.excepthook = partial(_last_words, connection)
    connection.send_bytes(b"ready")
    try:
        while True:
            _answer(connection, recipe, prepare_with)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except MemoryError:
        os._exit(OUT_OF_MEMORY)


def _answer(connection: Connection, recipe: Recipe, prepare_with: PrepareBy) -> None:
    """One clip; the alarm is for a process whose parent, and so its watchdog, is gone."""
    start_s, end_s, num_align_frames = json.loads(connection.recv_bytes())
    signal.setitimer(signal.ITIMER_REAL, 2 * recipe.limits.timeout_s)
    result, facts = prepare_with(connection.recv_bytes(), Span(start_s, end_s), num_align_frames, recipe)
    signal.setitimer(signal.ITIMER_REAL, 0)
    if isinstance(result, Rejection):
        connection.send_bytes(json.dumps({"facts": facts, "rejection": result}).encode())
        return
    clip = {"measures": result.measures, "crop": result.crop, "num_jpegs": len(result.align_jpegs)}
    connection.send_bytes(json.dumps({"facts": facts, "clip": clip}).encode())
    for blob in (result.mp4, result.fingerprint, *result.align_jpegs):
        connection.send_bytes(blob)


def _last_words(connection: Connection, kind: type[BaseException], error: BaseException, at: TracebackType) -> None:
    """Tell the parent what nobody foresaw: it is one clip's verdict, and the reason names it."""
    connection.send_bytes(json.dumps({"raised": f"{kind.__name__}: {error}"}).encode())
    sys.__excepthook__(kind, error, at)


def _limit_memory(limits: LimitsConfig) -> None:
    """Hold the address space to what the libraries take now and the limit; a crash leaves no dump of it."""
    most = psutil.Process().memory_info().vms + limits.max_memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    serve()
