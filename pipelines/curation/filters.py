"""What is measured on a decoded clip, and the thresholds that turn measures into verdicts.

Measuring and judging are two steps: every decodable clip's measures are stored, so other thresholds need no decoding.
All measures look at what is kept of the picture, at the data set's size.

Shape letters: T frames in time, H height, W width, C channels (RGB).
"""

from collections.abc import Mapping
from operator import itemgetter
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from cv2.typing import MatLike
from numpy.typing import NDArray

from pipelines.curation.config import FilterConfig
from pipelines.curation.records import Bars, Measures, Rejection, Verdict
from pipelines.curation.timeline import evenly_spaced

_COARSE_PX = 32
_CUT_NEIGHBOURS = 4
_BLACK_LEVEL = 24
_BAR_MAX_LIT = 0.2  # share of a bar's line that ringing may light
_EDGE_MIN_LIT = 0.5
_NUM_SHARPNESS_FRAMES = 8
_MIN_RANGE = 16.0

Floats = NDArray[np.float32]


class Rule(NamedTuple):
    """A verdict for clips whose measure lies on the wrong side of a threshold."""

    verdict: Verdict
    measure: Literal["brightness", "motion", "cut", "bars", "sharpness"]
    threshold: str
    """Name of the threshold in `FilterConfig`."""
    is_minimum: bool


RULES = (
    Rule("too_dark", "brightness", "min_brightness", True),
    Rule("still", "motion", "min_motion", True),
    Rule("cut", "cut", "max_cut", False),
    Rule("letterboxed", "bars", "max_bars", False),
    Rule("blurry", "sharpness", "min_sharpness", True),
)
"""In the order of precedence: a black clip is `too_dark` rather than `still`."""


def measure(frames_THWC: NDArray[np.uint8]) -> Measures:
    """All measures of a clip; see each function for what it means.

    Args:
        frames_THWC: (T, H, W, 3) uint8 RGB.
    """
    value_THW = brightest_channel(frames_THWC)
    coarse_THWC = np.stack([_coarse(frame_HWC) for frame_HWC in frames_THWC])
    return Measures(
        brightness=brightness(value_THW),
        motion=motion(coarse_THWC),
        cut=cut(coarse_THWC),
        bars=bars(value_THW),
        sharpness=sharpness(frames_THWC),
    )


def brightest_channel(frames_THWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(T, H, W): what brightness and bars look at."""
    return np.maximum(np.maximum(frames_THWC[..., 0], frames_THWC[..., 1]), frames_THWC[..., 2])


def judge(measures: Mapping[str, Any], filters: FilterConfig) -> Rejection | None:
    """The first rule of `RULES` that the measures break, or None."""
    for rule in RULES:
        threshold, value = getattr(filters, rule.threshold), measures[rule.measure]
        if threshold is None:
            continue
        if (value < threshold) if rule.is_minimum else (value > threshold):
            side = "at least" if rule.is_minimum else "at most"
            return Rejection(rule.verdict, f"{rule.measure} {value:.3f}, {side} {threshold}")
    return None


def brightness(value_THW: NDArray[np.uint8]) -> float:
    """The level, 0..255, that only the brightest 1 % of all pixels exceed; a pixel is as bright as its best channel.

    Not a mean: a coloured shape on black is a good clip, a dim room is not.
    """
    share_at_or_below = _counts(value_THW).cumsum() / value_THW.size
    return float(np.searchsorted(share_at_or_below, 0.99))


def motion(coarse_THWC: Floats) -> float:
    """Standard deviation over time, in levels, that only the liveliest 1 % of the coarse picture exceeds.

    Coarse pixels average the codec's and the sensor's noise away; a small moving shape still stands out.
    """
    return float(np.percentile(coarse_THWC.std(axis=0).max(axis=-1), 99))


def cut(coarse_THWC: Floats) -> float:
    """By how many levels the largest frame-to-frame change exceeds all changes near it; 0 where there is one frame.

    Fast or jerky motion changes many neighbouring frames alike, a flash changes two: only a cut stands alone.
    """
    changes = np.abs(np.diff(coarse_THWC, axis=0)).mean(axis=(1, 2, 3))
    excess = 0.0
    for index, change in enumerate(changes):
        before, after = (
            changes[max(0, index - _CUT_NEIGHBOURS) : index],
            changes[index + 1 : index + 1 + _CUT_NEIGHBOURS],
        )
        around = np.concatenate((before, after))
        excess = max(excess, float(change - (around.max() if len(around) else change)))
    return excess


def bars(value_THW: NDArray[np.uint8]) -> float:
    """Share of the picture, 0..1, under black bars at two opposite sides that stay black in every frame.

    A bar ends at a line most of which is usually lit: a dark background around a small thing is no bar.
    """
    top, bottom, left, right = bar_lines(value_THW)
    return max((top + bottom) / value_THW.shape[1], (left + right) / value_THW.shape[2])


def bar_lines(value_THW: NDArray[np.uint8]) -> Bars:
    """Lines under the bars that `bars` tells of."""
    is_lit_THW = value_THW > _BLACK_LEVEL
    return Bars(*_bars_along(is_lit_THW.mean(axis=2)), *_bars_along(is_lit_THW.mean(axis=1)))


def sharpness(frames_THWC: NDArray[np.uint8]) -> float:
    """The steepest one-pixel steps of a frame as a share, 0..1, of its range of levels; median over some frames.

    Looked at in the channel of the widest range: a coloured shape may be as light as what is behind it. A sharp edge
    takes one or two pixels (0.4 and more), a defocused one many. Frames without contrast count as sharp.
    """
    chosen = evenly_spaced(len(frames_THWC), _NUM_SHARPNESS_FRAMES)
    return float(np.median([_steepest(frames_THWC[index]) for index in chosen]))


def _steepest(frame_HWC: NDArray[np.uint8]) -> float:
    level_range, level_HW = max(
        ((_range(channel_HW), channel_HW) for channel_HW in cv2.split(frame_HWC)), key=itemgetter(0)
    )
    if level_range < _MIN_RANGE:
        return 1.0
    steps = _counts(cv2.absdiff(level_HW[1:], level_HW[:-1])) + _counts(cv2.absdiff(level_HW[:, 1:], level_HW[:, :-1]))
    return min(1.0, _percentile(steps, 99.8) / level_range)


def _range(level_HW: MatLike) -> float:
    """Levels between the darkest and the brightest half percent."""
    counts = _counts(level_HW)
    return _percentile(counts, 99.5) - _percentile(counts, 0.5)


def _counts(levels: MatLike) -> NDArray[np.int64]:
    """How often each level, 0..255, is there."""
    return cv2.calcHist([levels.reshape(1, -1)], [0], None, [256], [0, 256]).ravel().astype(np.int64)


def _percentile(counts: NDArray[np.int64], percent: float) -> float:
    """What `np.percentile` tells of the levels, from their counts: a tenth of the time."""
    place = percent / 100 * (counts.sum() - 1)
    low, high = np.searchsorted(counts.cumsum(), (int(place), int(place) + 1), side="right").tolist()
    return low + (min(high, 255) - low) * (place - int(place))


def _bars_along(lit_TL: NDArray[np.float64]) -> tuple[int, int]:
    """Lines under bars at both ends of L lines, from the share of each line that is lit in each frame."""
    most_L, usual_L = lit_TL.max(axis=0), np.median(lit_TL, axis=0)
    bright_lines = np.flatnonzero(most_L > _BAR_MAX_LIT)
    if not len(bright_lines):
        return 0, 0
    first, last = int(bright_lines[0]), int(bright_lines[-1])
    num_first, num_last = first, len(most_L) - 1 - last
    # Scaling blends a line of bar and picture: the edge is looked for in two lines.
    has_edges = usual_L[first : first + 2].max() > _EDGE_MIN_LIT and usual_L[last - 1 : last + 1].max() > _EDGE_MIN_LIT
    return (num_first, num_last) if has_edges and min(num_first, num_last) > 0 else (0, 0)


def _coarse(frame_HWC: NDArray[np.uint8]) -> Floats:
    small = cv2.resize(frame_HWC, (_COARSE_PX, _COARSE_PX), interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(small.astype(np.float32), (3, 3), 0).astype(np.float32, copy=False)
