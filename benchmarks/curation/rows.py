"""What a group of measurements is given and what it yields."""

import operator
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

from pairs import Ratio


class Setting(NamedTuple):
    """What the user says about a run."""

    clips: Path | None
    """A folder of real clips; None: generated ones alone."""
    ffmpeg: str | None
    """The ffmpeg command; None: there is none."""
    pairs: int
    num_clips: int
    """Of the data set of `throughput`."""
    num_again: int
    """Of the data set of `again`."""
    num_known: int
    """Rows of the catalog that is planned against."""
    folder: Path
    """Where data lies; what is there from an earlier run is used again."""


class Row(NamedTuple):
    """A measured figure and the bar that it is held against, such as `<= 0.80`; empty: there is none."""

    name: str
    values: Sequence[float]
    bar: str = ""
    detail: str = ""

    @classmethod
    def of(cls, ratio: Ratio, bar: str) -> Self:
        """A ratio of CPU times."""
        return cls(ratio.name, ratio.ratios, bar, f"{ratio.a_s:.4f} s / {ratio.b_s:.4f} s of CPU")

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def verdict(self) -> str:
        if not self.bar:
            return ""
        side, limit = self.bar.split()
        is_reached = (operator.le if side == "<=" else operator.ge)(self.median, float(limit))
        return f"{'reached' if is_reached else 'MISSED'} {self.bar}"

    def __str__(self) -> str:
        spread = f"min {min(self.values):.3f}, max {max(self.values):.3f}, {len(self.values)} times"
        detail = f"; {self.detail}" if self.detail else ""
        return f"{self.name:<84} {self.median:>8.3f}  ({spread}{detail}) {self.verdict}"

    def as_json(self) -> dict[str, object]:
        return {**self._asdict(), "values": list(self.values), "median": self.median, "verdict": self.verdict}


Rows = Callable[[Setting], Iterator[Row]]
"""A group of measurements; `bench_curation.GROUPS` names them all."""
