"""Run the demo's steps as a user would, each a process of its own, and take their time and memory."""

import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from demo.processes import proportional_bytes


@dataclass(frozen=True)
class Step:
    """One command of the path."""

    name: str
    words: Sequence[str]
    """Arguments of the Python interpreter: `jobs/train.py --config ...` or `-m demo.shapes ...`."""


@dataclass(frozen=True)
class Measured:
    """What a step took."""

    name: str
    elapsed_s: float
    peak_mib: float
    """Highest proportional set size of the step's process and all below it, sampled each second."""


class StepFailedError(RuntimeError):
    """A step ended with another status than 0; the message holds its command."""


def run_step(step: Step, environment: Mapping[str, str], folder: Path, console: Console) -> Measured:
    """Run one step to its end, its output and progress bars going to the terminal.

    Args:
        step: What to run.
        environment: The environment of the process.
        folder: Where it runs: the repository's root.
        console: Where the step is announced.

    Raises:
        StepFailedError: Exit status other than 0.
    """
    console.rule(f"[bold]{step.name}", align="left")
    console.print("python " + " ".join(step.words), style="dim", highlight=False, soft_wrap=True)
    start = time.perf_counter()
    with subprocess.Popen([sys.executable, *step.words], env=dict(environment), cwd=folder) as process:
        memory = _PeakMemory(process.pid)
        memory.start()
        status = process.wait()
        peak_mib = memory.stop()
    if status != 0:
        raise StepFailedError(f"{step.name} ended with status {status}: python {' '.join(step.words)}")
    return Measured(step.name, time.perf_counter() - start, peak_mib)


class _PeakMemory(threading.Thread):
    """Samples the memory of a process and its descendants."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid, self._peak, self._done = pid, 0, threading.Event()

    def run(self) -> None:
        while not self._done.wait(1.0):
            self._peak = max(self._peak, proportional_bytes(self._pid))

    def stop(self) -> float:
        self._done.set()
        self.join()
        return self._peak / 1024**2
