"""A decoded frame to the square that the data set keeps of it: upright, scaled, cropped at its centre, yuv420p.

The frames stay in the codec's own planes: that is what the encoder wants, and half of RGB's cost.

Shape letters: H height, W width, P the rows that the planes Y, U and V fill one after another.
"""

from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from av.video.frame import VideoFrame
from av.video.plane import VideoPlane
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

from pipelines.video_file import planes_of

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
    """Makes squares; one for all frames of a clip, since setting a scaler up costs more than scaling."""

    def __init__(self, size_px: int) -> None:
        self._size_px, self._scaler = size_px, VideoReformatter()

    def __call__(self, frame: VideoFrame, pixel_aspect: Fraction) -> Square:
        """The square of a frame; `pixel_aspect` is a pixel's width over its height."""
        width, height = scaled_size(frame.width, frame.height, pixel_aspect, self._size_px)
        scaled = self._scaler.reformat(
            frame,
            width=width,
            height=height,
            format="yuv420p",
            interpolation=Interpolation.AREA,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        return crop(scaled, self._size_px, round(frame.rotation / 90) % 4)


@lru_cache(maxsize=16)
def scaled_size(width: int, height: int, pixel_aspect: Fraction, size_px: int) -> tuple[int, int]:
    """Width and height of a picture, its pixels made square, whose short side is `size_px`."""
    stretched = width * pixel_aspect
    scale = size_px / min(stretched, Fraction(height))
    return max(size_px, round(stretched * scale)), max(size_px, round(height * scale))


def crop(frame: VideoFrame, size_px: int, turns: int = 0) -> Square:
    """The middle of a yuv420p frame after `turns` quarter turns against the clock.

    It starts at an even column and row, so that it takes whole pixels of U and V.
    """
    planes_HW = [_plane(plane) for plane in frame.planes]
    if turns:
        planes_HW = [np.rot90(plane_HW, turns) for plane_HW in planes_HW]
    height, width = planes_HW[0].shape
    left, top = (width - size_px) // 4 * 2, (height - size_px) // 4 * 2
    square_PW = np.empty((size_px * 3 // 2, size_px), np.uint8)
    for to_HW, plane_HW, part in zip(planes_of(square_PW), planes_HW, (1, 2, 2), strict=True):
        row, column, side = top // part, left // part, size_px // part
        to_HW[:] = plane_HW[row : row + side, column : column + side]
    return Square(square_PW, left, top)


def _plane(plane: VideoPlane) -> NDArray[np.uint8]:
    """A view of the plane's pixels; its lines may be padded."""
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]


def matrix_of(frame: VideoFrame) -> int:
    """The matrix of the squares of this frame; 2 (not said) is read as BT.601."""
    return frame.colorspace if frame.colorspace in _MATRICES else 2
