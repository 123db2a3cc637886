"""Ratios measured in pairs: A, B, A, B ... in one run, so that a machine whose speed drifts slows both sides alike."""

import resource
import statistics
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """Time of A over that of B, pair by pair."""

    name: str
    ratios: tuple[float, ...]
    a_s: float
    """Median seconds of A."""
    b_s: float
    times_s: tuple[tuple[float, float], ...] = ()
    """Of A and B, pair by pair."""
    clock: str = "CPU"
    """Whose seconds they are."""

    @property
    def median(self) -> float:
        return statistics.median(self.ratios)

    def __str__(self) -> str:
        pairs = f"min {min(self.ratios):.3f}, max {max(self.ratios):.3f}, {len(self.ratios)} pairs"
        times = f"{self.a_s:.4f} s / {self.b_s:.4f} s of {self.clock}"
        return f"{self.name:<64} {self.median:.3f}  ({pairs}; {times})"


def in_pairs(
    name: str,
    a: Callable[[], object],
    b: Callable[[], object],
    pairs: int = 7,
    clock: Callable[[], float] | None = None,
    warm_ups: int = 1,
) -> Ratio:
    """Time both sides in turn, after some uncounted runs of each.

    Args:
        name: What the ratio is called.
        a: The side above the line.
        b: The side below it.
        pairs: How often.
        clock: Seconds spent so far, its `name` told beside them; None: CPU seconds of this process and the children
            that it has waited for.
        warm_ups: Uncounted runs of each side.
    """
    read = clock or cpu_s
    for _ in range(warm_ups):
        a()
        b()
    times = tuple((_spent(a, read), _spent(b, read)) for _ in range(pairs))
    a_s, b_s = (statistics.median(side) for side in zip(*times, strict=True))
    ratios = tuple(first / second for first, second in times)
    return Ratio(name, ratios, a_s, b_s, times, getattr(clock, "name", "CPU"))


def cpu_s() -> float:
    """CPU seconds, user and system, of this process and of the children that it has waited for."""
    uses = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def _spent(call: Callable[[], object], read: Callable[[], float]) -> float:
    start = read()
    call()
    return read() - start
