"""Which frames of a source are shown at the times that the data set wants, by exact fractions.

Changing the frame rate by stride is wrong (24 fps becomes 12, not 16). Here target k lies at t0 + k / fps, and the
frame shown at that time is the last one whose pts is not after it. Nothing goes through floats.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

_TICKS_A_FRAME = 4  # 240 frames a second in milliseconds have just more


@dataclass(frozen=True)
class Timeline:
    """The presentation times of a video stream."""

    pts: tuple[int, ...]
    """Ticks at which frames appear, ascending; at least one."""
    last_duration: int
    """Ticks for which the last frame is shown."""
    time_base: Fraction
    """Seconds of a tick."""

    @property
    def duration_s(self) -> Fraction:
        """Seconds from the first frame's appearance to the last one's end."""
        return (self.pts[-1] + self.last_duration - self.pts[0]) * self.time_base

    @property
    def fps(self) -> Fraction:
        """Mean frame rate: frames per second of duration."""
        duration_s = self.duration_s
        return len(self.pts) / duration_s if duration_s > 0 else Fraction(0)


@dataclass(frozen=True)
class Window:
    """Frames that are asked for."""

    start_s: Fraction
    """Seconds after the stream's first frame."""
    num_frames: int
    fps: Fraction

    @property
    def end_s(self) -> Fraction:
        """Seconds after the stream's first frame at which the last wanted frame's time is over."""
        return self.start_s + self.num_frames / self.fps


def is_covered(timeline: Timeline, window: Window) -> bool:
    """Whether the stream lasts to the window's end.

    A tick may lack where frames last four ticks and more: their container rounds durations to whole ticks. Where a tick
    is as long as a frame, as in AVI, nothing was rounded, and a tick that lacks is a frame that lacks.
    """
    is_rounded = timeline.fps * timeline.time_base * _TICKS_A_FRAME <= 1
    return timeline.duration_s + (timeline.time_base if is_rounded else 0) >= window.end_s


def shown_at(timeline: Timeline, window: Window) -> list[int]:
    """For each target of the window the pts of the frame that is shown then: the last with pts <= target."""
    # Target k in ticks is first + k * step; pts are integers, so `pts <= target` is `pts <= floor(target)`.
    first, step = window.start_s / timeline.time_base, 1 / (window.fps * timeline.time_base)
    divisor = first.denominator * step.denominator
    a, b = first.numerator * step.denominator, step.numerator * first.denominator
    targets = (timeline.pts[0] + (a + k * b) // divisor for k in range(window.num_frames))
    return [timeline.pts[bisect_right(timeline.pts, target) - 1] for target in targets]


def evenly_spaced(num_frames: int, num_chosen: int) -> list[int]:
    """Indices of `num_chosen` of `num_frames` frames from the first to the last, ties to the even index."""
    if num_chosen == 1:
        return [0]
    return [round(Fraction(k * (num_frames - 1), num_chosen - 1)) for k in range(num_chosen)]


def typical_gap(pts: Sequence[int]) -> int:
    """Median distance of neighbouring pts in ticks: how long a last frame of unknown duration is taken to last."""
    gaps = sorted(later - earlier for earlier, later in pairwise(pts))
    return gaps[len(gaps) // 2] if gaps else 0
