"""Measured figures that are not ratios of CPU time, see `pairs.py` for those."""

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Figure(NamedTuple):
    """One measured figure and the bar that it is held against; empty: there is none."""

    name: str
    median: float
    low: float
    high: float
    bar: str

    def __str__(self) -> str:
        return f"{self.name:<84} {self.median:>9.3f}  (min {self.low:.3f}, max {self.high:.3f})  {self.bar}"


def figure(name: str, values: Sequence[float], bar: str = "") -> Figure:
    return Figure(name, statistics.median(values), min(values), max(values), bar)
