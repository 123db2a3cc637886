"""Ratios measured in pairs: A, B, A, B ... in one run, so that a machine whose speed drifts slows both sides alike."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """CPU time of A over that of B, pair by pair."""

    name: str
    ratios: tuple[float, ...]
    a_s: float
    """Median CPU seconds of A."""
    b_s: float

    def __str__(self) -> str:
        low, middle, high = min(self.ratios), statistics.median(self.ratios), max(self.ratios)
        pairs = f"min {low:.3f}, max {high:.3f}, {len(self.ratios)} pairs"
        return f"{self.name:<64} {middle:.3f}  ({pairs}; {self.a_s:.4f} s / {self.b_s:.4f} s of CPU)"


def in_pairs(name: str, a: Callable[[], object], b: Callable[[], object], pairs: int = 7) -> Ratio:
    """Time both sides in turn, after one uncounted run of each."""
    a()
    b()
    times = [(_cpu_s(a), _cpu_s(b)) for _ in range(pairs)]
    a_s, b_s = (statistics.median(side) for side in zip(*times, strict=True))
    return Ratio(name, tuple(first / second for first, second in times), a_s, b_s)


def _cpu_s(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start
