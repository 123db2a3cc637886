"""A decoded frame to the square that the data set keeps of it: upright, scaled, cropped at its centre, yuv420p.

The frames stay in the codec's own planes: that is what the encoder wants, and half of RGB's cost.

Shape letters: H height, W width, P the rows that the planes Y, U and V fill one after another.
"""

from fractions import Fraction
from functools import lru_cache
from math import ceil
from typing import NamedTuple

import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

from pipelines.curation.records import NO_BARS, Bars
from pipelines.video_file import planes_of

_BLENDED_LINES = 1

_MATRICES = frozenset((1, 4, 5, 6, 7, 9))
"""BT.709, FCC, BT.601 twice, SMPTE 240M, BT.2020: what scaling leaves as it is. Anything else becomes BT.601."""


class Square(NamedTuple):
    """One picture of the data set's size."""

    planes_PW: NDArray[np.uint8]
    """(3 size_px / 2, size_px)."""
    left_px: int
    """Columns cut off at the left of the scaled picture."""
    top_px: int


class Pictures(NamedTuple):
    """What a frame reader returns: a square for each frame as asked, and the matrix of their colours."""

    squares: list[Square]
    colorspace: int
    """As in `pipelines.video_file.Yuv`."""


class Squarer:
    """Makes squares; one for all frames of a clip, since setting a scaler up costs more than scaling.

    With bars it makes the largest square between them: `bars` are those of the square that is made without.
    """

    def __init__(self, size_px: int, bars: Bars = NO_BARS) -> None:
        self._size_px, self._scaler = size_px, VideoReformatter()
        self._short_px = zoomed_px(size_px, bars)
        zoom = self._short_px / size_px
        self._shift_px = (round((bars.left - bars.right) / 2 * zoom), round((bars.top - bars.bottom) / 2 * zoom))

    def __call__(self, frame: VideoFrame, pixel_aspect: Fraction) -> Square:
        """The square of a frame; `pixel_aspect` is a pixel's width over its height."""
        width, height = scaled_size(frame.width, frame.height, pixel_aspect, self._short_px)
        scaled = self._scaler.reformat(
            frame,
            width=width,
            height=height,
            format="yuv420p",
            interpolation=Interpolation.AREA,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        return crop(scaled, self._size_px, round(frame.rotation / 90) % 4, self._shift_px)


def zoomed_px(size_px: int, bars: Bars) -> int:
    """Short side of the scaled picture in which the space between the bars is `size_px`."""
    sides = size_px - bars.top - bars.bottom, size_px - bars.left - bars.right
    # Scaling blends bar and picture in the lines at the edge.
    inside = min(side - 2 * _BLENDED_LINES for side in sides if side < size_px) if any(bars) else size_px
    return ceil(size_px * size_px / max(inside, 1))


@lru_cache(maxsize=16)
def scaled_size(width: int, height: int, pixel_aspect: Fraction, size_px: int) -> tuple[int, int]:
    """Width and height of a picture, its pixels made square, whose short side is `size_px`."""
    stretched = width * pixel_aspect
    scale = size_px / min(stretched, Fraction(height))
    return max(size_px, round(stretched * scale)), max(size_px, round(height * scale))


def crop(frame: VideoFrame, size_px: int, turns: int = 0, shift_px: tuple[int, int] = (0, 0)) -> Square:
    """The middle of a yuv420p frame after `turns` quarter turns against the clock, or what lies right of and below it.

    It starts at an even column and row, so that it takes whole pixels of U and V.
    """
    planes_HW = [_plane(plane) for plane in frame.planes]
    if turns:
        planes_HW = [np.rot90(plane_HW, turns) for plane_HW in planes_HW]
    height, width = planes_HW[0].shape
    left, top = (
        _even((side - size_px) // 2 + shift, side - size_px)
        for side, shift in zip((width, height), shift_px, strict=True)
    )
    square_PW = np.empty((size_px * 3 // 2, size_px), np.uint8)
    for to_HW, plane_HW, part in zip(planes_of(square_PW), planes_HW, (1, 2, 2), strict=True):
        row, column, side = top // part, left // part, size_px // part
        to_HW[:] = plane_HW[row : row + side, column : column + side]
    return Square(square_PW, left, top)


def _even(place: int, last: int) -> int:
    """The even place at or before this one, from 0 to `last`."""
    return min(max(place, 0), last) // 2 * 2


def _plane(plane: VideoPlane) -> NDArray[np.uint8]:
    """A view of the plane's pixels; its lines may be padded."""
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]


def matrix_of(frame: VideoFrame) -> int:
    """The matrix of the squares of this frame; 2 (not said) is read as BT.601."""
    return frame.colorspace if frame.colorspace in _MATRICES else 2
