"""Boxes `x,y,w,h` of a request: what is to be made or moves, or where outpainting lays a video on its canvas.

Shape letters: H height, W width.
"""

import math
import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.generation.refusal import InputError

_BOX = re.compile(r"\s*,\s*".join([r"(\d+(?:\.\d+)?)"] * 4))
_KNOWN_SHARE = 0.625
"""Side of a square video on outpainting's canvas, as a share of the canvas's."""


class Box(NamedTuple):
    """`x,y,w,h`: from the left, from the top, width, height; pixels, or shares of the input where all are at most 1."""

    x: float
    y: float
    w: float
    h: float


class Place(NamedTuple):
    """A box of whole pixels."""

    left: int
    top: int
    width: int
    height: int


def parse_box(text: str) -> Box | None:
    """The box that a text is; None where it is none, such as a file's name.

    Raises:
        InputError: A box without area.
    """
    found = _BOX.fullmatch(text.strip())
    if found is None:
        return None
    box = Box(*(float(number) for number in found.groups()))
    if not box.w or not box.h:
        raise InputError(f"mask {text!r}: a box x,y,w,h with a width and a height is expected")
    return box


def drawn(text: str, box: Box, size: tuple[int, int]) -> tuple[NDArray[np.bool_], list[str]]:
    """True inside the box, (H, W) as `size`, and what is to be said of it.

    Raises:
        InputError: A box outside the input.
    """
    x, y, w, h = _in_pixels(box, size)
    mask_HW = np.zeros(size, bool)
    mask_HW[round(y) : round(y + h), round(x) : round(x + w)] = True
    if not mask_HW.any():
        raise InputError(f"mask {text!r}: a box inside the input of {size[1]}x{size[0]} pixels is expected")
    if round(y + h) <= size[0] and round(x + w) <= size[1]:
        return mask_HW, []
    return mask_HW, [f"mask: the box {text} leaves its input of {size[1]}x{size[0]} and ends at its edge"]


def place_box(text: str | None, size_px: int, shown: tuple[int, int]) -> Place:
    """Where outpainting lays a video on its canvas of `size_px` pixels a side.

    Without a box in the middle, in the video's own aspect and with five eighths of the canvas's side squared as its
    area, as far as the canvas is wide.

    Args:
        text: `x,y,w,h`, or None.
        size_px: Side of the canvas.
        shown: (H, W) of the video.

    Raises:
        InputError: Not a box, or one that leaves the canvas.
    """
    if text is None:
        aspect = shown[1] / shown[0]
        longer = min(size_px, round(_KNOWN_SHARE * size_px * math.sqrt(max(aspect, 1 / aspect))))
        shorter = max(1, round(longer / max(aspect, 1 / aspect)))
        width, height = (longer, shorter) if aspect >= 1 else (shorter, longer)
        return Place((size_px - width) // 2, (size_px - height) // 2, width, height)
    box = parse_box(text)
    if box is None:
        raise InputError(f"mask {text!r}: outpainting expects the box x,y,w,h where the video lies on the canvas")
    place = Place(*(round(number) for number in _in_pixels(box, (size_px, size_px))))
    is_within = place.left + place.width <= size_px and place.top + place.height <= size_px
    if not is_within or not place.width or not place.height:
        raise InputError(f"mask {text!r}: a box within the canvas of {size_px}x{size_px} pixels is expected")
    return place


def _in_pixels(box: Box, size: tuple[int, int]) -> tuple[float, float, float, float]:
    height, width = size
    if max(box) > 1:
        return box
    return box.x * width, box.y * height, box.w * width, box.h * height
