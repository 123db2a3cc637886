"""What a GPU says of itself: time by events, the peak of its memory, its rate of matrix products."""

import statistics
import time
from collections.abc import Callable

import torch

_MATRIX_SIDES = (4096, 8192, 16384)
_MATRIX_RUNS = 20


class DeviceClock:
    """Seconds of a device since the clock was made, for `pairs.in_pairs`.

    On a GPU by CUDA events: whatever was queued before the reading has run then. On a CPU, where the benchmark's code
    is tried, by the wall.
    """

    def __init__(self, device: torch.device) -> None:
        self.name = device.type.upper()
        self._is_cuda, self._total_s = device.type == "cuda", 0.0
        self._last = _event() if self._is_cuda else None

    def __call__(self) -> float:
        if self._last is None:
            return time.perf_counter()
        # From reading to reading: a difference of two large numbers would lose digits, events count in float32.
        now = _event()
        self._total_s += self._last.elapsed_time(now) / 1e3
        self._last = now
        return self._total_s


def matrix_tflops(device: torch.device, dtype: torch.dtype, clock: Callable[[], float]) -> dict[str, float]:
    """Measured rate of square matrix products, 1e12 operations a second by side; the largest is the device's rate.

    A data sheet's figure is of a clock that no long work keeps: shares of what is measured here can reach 1.
    """
    sides = _MATRIX_SIDES if device.type == "cuda" else (512,)
    return {str(side): _rate(side, device, dtype, clock) for side in sides}


def peak_mib(call: Callable[[], object], device: torch.device) -> dict[str, float] | None:
    """Memory while `call` runs: highest in all, and above what lay there before; None on a CPU."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    call()
    torch.cuda.synchronize(device)
    highest = torch.cuda.max_memory_allocated(device)
    return {"peak_mib": highest / 2**20, "added_mib": (highest - before) / 2**20}


def _rate(side: int, device: torch.device, dtype: torch.dtype, clock: Callable[[], float]) -> float:
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds: list[float] = []
    for _ in range(_MATRIX_RUNS):
        start = clock()
        torch.mm(left, right)
        seconds.append(clock() - start)
    return 2 * side**3 / statistics.median(seconds[_MATRIX_RUNS // 4 :]) / 1e12


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    event.synchronize()
    return event
