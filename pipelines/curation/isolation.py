"""Clips prepared in a process of their own, so that a crash, a hang or a memory bomb costs one clip.

A task keeps one such process and sends it clip after clip. Where it dies or takes too long, the clip is `crashed` or
`timeout`, and the next clip gets a new process. Recipe and clips go over a socket as JSON and bytes, never as pickles:
a process that a foreign file took over cannot make its parent run code.

    task                                      its process (pipelines.curation.decoding_process)
      span, frames for alignment, bytes  -->    prepare(...)
                        PreparedClip     <--    under RLIMIT_AS; ends with the socket, or by its own alarm
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from pipelines.curation import decoding_process
from pipelines.curation.config import Recipe
from pipelines.curation.container import source_facts
from pipelines.curation.decode import Span
from pipelines.curation.prepare import Preparation, PreparedClip
from pipelines.curation.records import Measures, Rejection, SourceFacts

PROGRAM = Path(decoding_process.__file__)
"""What the process runs; tests name programs of their own, which fail as foreign files make decoders fail."""

_ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2), "MALLOC_TRIM_THRESHOLD_": str(128 * 1024**2)}
"""Of glibc: frames of one clip are freed and those of the next asked for. Given back in between, their 2,000 pages are
cleared anew by the kernel for every clip, 4 % of its time. What the environment says already counts more."""
_START = (
    "import json, runpy, sys; sys.path[:] = json.loads(sys.argv[1]); runpy.run_path(sys.argv[2], run_name='__main__')"
)


class DecodingProcessError(RuntimeError):
    """A process that does not even start: no clip's fault, so the job stops."""


class _Child(NamedTuple):
    process: "subprocess.Popen[bytes]"
    connection: Connection


class DecodingProcess:
    """A `Prepare` in another process, started with the first clip and anew after each clip that ended it."""

    def __init__(self, recipe: Recipe, program: Path = PROGRAM) -> None:
        self._recipe, self._program = recipe, program
        self._child: _Child | None = None

    def __call__(self, source: bytes, span: Span, num_align_frames: int) -> Preparation:
        """Prepare a clip; every outcome is a value.

        Only a process that did nothing before can convict: where an older one ends, an earlier clip may have damaged
        it, so the clip is tried again in a new one. A verdict then never depends on a clip's neighbours.

        Raises:
            DecodingProcessError: No process can be started.
        """
        is_new = self._child is None or self._child.process.poll() is not None
        preparation = self._attempt(source, span, num_align_frames)
        if self._child is None and not is_new:
            preparation = self._attempt(source, span, num_align_frames)
        return preparation

    def _attempt(self, source: bytes, span: Span, num_align_frames: int) -> Preparation:
        """Send the clip to the process, started if there is none; there is none after a clip that ended it."""
        if self._child is None or self._child.process.poll() is not None:
            self.close()
            self._child = _start(self._recipe, self._program)
        child, is_late = self._child, threading.Event()
        watchdog = threading.Timer(self._recipe.limits.timeout_s, _stop, (child, is_late))
        watchdog.start()
        try:
            preparation, goes_on = _ask(child.connection, [span.start_s, span.end_s, num_align_frames], source)
        except (EOFError, OSError):
            return Preparation(self._post_mortem(self._end(), is_late.is_set()), source_facts(source, None))
        finally:
            watchdog.cancel()
            watchdog.join()
        if not goes_on or is_late.is_set():
            self._end()
        return preparation

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.process.kill()
            self._end()

    @property
    def pid(self) -> int | None:
        """The process's id while there is one."""
        return self._child.process.pid if self._child else None

    def _end(self) -> int:
        """Wait for the process, which is dying; returns its status as `subprocess` tells it."""
        assert self._child is not None, "only a process that was started can end"
        self._child.connection.close()
        status = self._child.process.wait()
        self._child = None
        return status

    def _post_mortem(self, status: int, is_late: bool) -> Rejection:
        limits = self._recipe.limits
        if is_late:
            return Rejection("timeout", f"not done after {limits.timeout_s:g} s")
        if status == decoding_process.OUT_OF_MEMORY:
            return Rejection("crashed", f"needs more than {limits.max_memory_bytes} bytes of memory")
        if status < 0:
            return Rejection("crashed", f"decoding was ended by {signal.Signals(-status).name}")
        return Rejection("crashed", f"decoding ended with exit status {status}")


def _start(recipe: Recipe, program: Path) -> _Child:
    ours, theirs = socket.socketpair()
    words = [json.dumps(sys.path), str(program), str(theirs.fileno()), recipe.model_dump_json()]
    with theirs:
        # A session of its own: an interrupt from the keyboard is for the job, which then closes the socket.
        process = subprocess.Popen(
            [sys.executable, "-c", _START, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**_ALLOCATOR, **os.environ},
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    connection = Connection(ours.detach())
    try:
        connection.recv_bytes()
    except (EOFError, OSError) as error:
        connection.close()
        raise DecodingProcessError(
            f"{program}: ended with status {process.wait()} before it was ready; its stderr tells more"
        ) from error
    return _Child(process, connection)


def _stop(child: _Child, is_late: threading.Event) -> None:
    is_late.set()
    child.process.kill()


def _ask(connection: Connection, question: Sequence[Any], source: bytes) -> tuple[Preparation, bool]:
    """The answer, and whether the process goes on after it."""
    connection.send_bytes(json.dumps(question).encode())
    connection.send_bytes(source)
    answer = json.loads(connection.recv_bytes())
    if "raised" in answer:
        return Preparation(Rejection("crashed", answer["raised"]), source_facts(source, None)), False
    facts = SourceFacts(**answer["facts"])
    if "rejection" in answer:
        return Preparation(Rejection(*answer["rejection"]), facts), True
    clip = answer["clip"]
    mp4, fingerprint, *jpegs = (connection.recv_bytes() for _ in range(2 + clip["num_jpegs"]))
    measures, crop = Measures(**clip["measures"]), tuple(clip["crop"])
    return Preparation(PreparedClip(mp4, measures, crop, fingerprint, tuple(jpegs)), facts), True
