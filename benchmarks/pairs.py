"""Ratios measured in pairs: A, B, A, B ... in one run, so that a machine whose speed drifts slows both sides alike."""

import resource
import statistics
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

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)

    def __str__(self) -> str:
        pairs = f"min {min(self.ratios):.3f}, max {max(self.ratios):.3f}, {len(self.ratios)} pairs"
        return f"{self.name:<64} {self.median:.3f}  ({pairs}; {self.a_s:.4f} s / {self.b_s:.4f} s of CPU)"


def in_pairs(
    name: str,
    a: Callable[[], object],
    b: Callable[[], object],
    pairs: int = 7,
    clock: Callable[[], float] | None = None,
) -> Ratio:
    """Time both sides in turn, after one uncounted run of each.

    Args:
        name: What the ratio is called.
        a: The side above the line.
        b: The side below it.
        pairs: How often.
        clock: CPU seconds spent so far; None: by this process and the children that it has waited for.
    """
    read = clock or cpu_s
    a()
    b()
    times = [(_spent(a, read), _spent(b, read)) for _ in range(pairs)]
    a_s, b_s = (statistics.median(side) for side in zip(*times, strict=True))
    return Ratio(name, tuple(first / second for first, second in times), a_s, b_s)


def cpu_s() -> float:
    """CPU seconds, user and system, of this process and of the children that it has waited for."""
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def _spent(call: Callable[[], object], read: Callable[[], float]) -> float:
    start = read()
    call()
    return read() - start
