"""A decoded frame to the square that the data set keeps of it: upright, scaled, cropped at its centre, yuv420p.

The frames stay in the codec's own planes: that is what the encoder wants, and half of RGB's cost.

Shape letters: H height, W width, P the rows that the planes Y, U and V fill one after another.
"""

from fractions import Fraction
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
        width = frame.width * pixel_aspect
        scale = self._size_px / min(width, Fraction(frame.height))
        scaled = self._scaler.reformat(
            frame,
            width=max(self._size_px, round(width * scale)),
            height=max(self._size_px, round(frame.height * scale)),
            format="yuv420p",
            interpolation=Interpolation.AREA,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        return crop(scaled, self._size_px, round(frame.rotation / 90) % 4)


def crop(frame: VideoFrame, size_px: int, turns: int = 0) -> Square:
    """The middle of a yuv420p frame after `turns` quarter turns against the clock.

    It starts at an even column and row, so that it takes whole pixels of U and V.
    """
    y_HW, *chroma_HW = (np.rot90(_plane(plane), turns) if turns else _plane(plane) for plane in frame.planes)
    left, top = (y_HW.shape[1] - size_px) // 4 * 2, (y_HW.shape[0] - size_px) // 4 * 2
    square_PW = np.empty((size_px * 3 // 2, size_px), np.uint8)
    to_Y, *to_chroma = planes_of(square_PW)
    to_Y[:] = y_HW[top : top + size_px, left : left + size_px]
    half = size_px // 2
    for to_HW, plane_HW in zip(to_chroma, chroma_HW, strict=True):
        to_HW[:] = plane_HW[top // 2 : top // 2 + half, left // 2 : left // 2 + half]
    return Square(square_PW, left, top)


def _plane(plane: VideoPlane) -> NDArray[np.uint8]:
    """A view of the plane's pixels; its lines may be padded."""
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]


def matrix_of(frame: VideoFrame) -> int:
    """The matrix of the squares of this frame; 2 (not said) is read as BT.601."""
    return frame.colorspace if frame.colorspace in _MATRICES else 2
