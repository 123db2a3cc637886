"""What a group of measurements is given and what it yields."""

import operator
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from pairs import Ratio


class Setting(NamedTuple):
    """What the user says about a run."""

    clips: Path | None
    """A folder of real clips; None: generated ones alone."""
    ffmpeg: str | None
    """The ffmpeg command; None: there is none."""
    pairs: int


class Row(NamedTuple):
    """A measured ratio and the bar that it is held against, such as `<= 0.80`; empty: there is none."""

    ratio: Ratio
    bar: str

    @property
    def verdict(self) -> str:
        if not self.bar:
            return ""
        side, limit = self.bar.split()
        is_reached = (operator.le if side == "<=" else operator.ge)(self.ratio.median, float(limit))
        return f"{'reached' if is_reached else 'MISSED'} {self.bar}"

    def as_json(self) -> dict[str, object]:
        ratios = self.ratio.ratios
        return {
            "name": self.ratio.name,
            "median": self.ratio.median,
            "min": min(ratios),
            "max": max(ratios),
            "pairs": len(ratios),
            "a_cpu_s": self.ratio.a_s,
            "b_cpu_s": self.ratio.b_s,
            "bar": self.bar,
            "verdict": self.verdict,
        }


Rows = Callable[[Setting], Iterator[Row]]
"""A group of measurements; `bench_curation.GROUPS` names them all."""
