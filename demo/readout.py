"""What a clip of the demo world shows, told from its pixels: colour, shape and direction of motion.

Classical image processing, nothing learnt: the one thing that stands out from the background at the frame's edge is
found; its hue is the colour, the geometry of its outline the shape, the drift of its centre the motion. It is the
ground truth of text fidelity in this world, for rendered and for generated clips.

Shape letters: T frames in time, H height, W width, C channels (RGB).
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.scene import COLORS, MOTIONS

Floats = NDArray[np.float32]

_MAX_FRAMES = 16
_MAX_SIDE_PX = 128
_FINE_SIDE_PX = 256
"""Outlines are taken at about this size: a soft edge of a small frame tells where the outline lies between pixels."""
_MIN_CONTRAST = 14.0
"""In CIE Lab units: less than this from the background is no foreground."""
_MIN_SATURATION = 0.35
_MIN_AREA, _MAX_AREA = 0.02, 0.5
_MIN_HELD, _MIN_FILLED = 0.7, 0.85
_MIN_TRAVEL = 0.06
"""Sides of the frame; less is no motion."""
_MIN_SHARE = 0.5
"""Share of the frames that must agree."""


class ReadOut(NamedTuple):
    """What is seen; None where there is nothing clear to see."""

    color: str | None
    shape: str | None
    motion: str | None


class Thing(NamedTuple):
    """The foreground of one frame."""

    color: str | None
    shape: str | None
    x: float
    """Centre, in short sides of the frame."""
    y: float


class Outline(NamedTuple):
    """Geometry of an outline, free of size; see `IDEALS`."""

    extent: float
    """Area per area of its upright bounding box."""
    solidity: float
    """Area per area of its convex hull."""
    roundness: float
    """Area per area of the smallest circle around it."""
    low: float
    """How far its centre of mass lies below its bounding box's, in heights of the box."""


IDEALS = {
    "circle": Outline(math.pi / 4, 1.0, 1.0, 0.0),
    "square": Outline(1.0, 1.0, 2 / math.pi, 0.0),
    "triangle": Outline(0.5, 1.0, 3 * math.sqrt(3) / (4 * math.pi), 1 / 6),
    "star": Outline(0.45, 0.66, 0.48, 0.05),
}
"""Closed forms, but for the star: it is as coarse pixels leave it. A sharp one has 0.39, 0.57 and 0.42."""
_MAX_DISTANCE = 0.35


def read_out(frames_THWC: NDArray[np.uint8]) -> ReadOut:
    """Read a clip; one frame alone has no motion.

    Args:
        frames_THWC: (T, H, W, 3) uint8 RGB, at least one frame, any size from 32 pixels.
    """
    count = min(len(frames_THWC), _MAX_FRAMES)
    chosen = np.linspace(0, len(frames_THWC) - 1, count).round().astype(int)
    things = [find_thing(frames_THWC[index]) for index in chosen]
    color = _agreed([thing and thing.color for thing in things])
    shape = _agreed([thing and thing.shape for thing in things])
    return ReadOut(color, shape, _motion(chosen / max(1, len(frames_THWC) - 1), things))


def find_thing(frame_HWC: NDArray[np.uint8]) -> Thing | None:
    """The one thing that stands out from the background, or None."""
    scale = min(1.0, _MAX_SIDE_PX / min(frame_HWC.shape[:2]))
    if scale < 1:
        frame_HWC = cv2.resize(frame_HWC, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA).astype(np.uint8)
    contrast_HW = _contrast(frame_HWC)
    height, width = contrast_HW.shape
    # The level of the thing itself: its brightest part, without the few brightest pixels.
    level = float(np.sort(contrast_HW, axis=None)[-max(4, round(0.01 * contrast_HW.size))])
    if level < _MIN_CONTRAST:
        return None
    fine = max(1, round(_FINE_SIDE_PX / min(height, width)))
    coverage_HW = cv2.resize(contrast_HW / level, None, fx=fine, fy=fine, interpolation=cv2.INTER_CUBIC)
    outline = _largest_outline(coverage_HW > 0.5)
    if outline is None or not _MIN_AREA < cv2.contourArea(outline) / coverage_HW.size < _MAX_AREA:
        return None
    inside_HW = np.zeros(coverage_HW.shape, np.uint8)
    cv2.drawContours(inside_HW, [outline], -1, 1, cv2.FILLED)
    if not _is_one_thing(coverage_HW > 0.5, inside_HW > 0):
        return None
    share_HW = cv2.resize(inside_HW.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    moments = cv2.moments(outline)
    side = min(height, width) * fine
    x, y = moments["m10"] / moments["m00"] / side, moments["m01"] / moments["m00"] / side
    return Thing(_color(frame_HWC, share_HW * contrast_HW), _shape(_measure(outline)), x, y)


def _contrast(frame_HWC: NDArray[np.uint8]) -> Floats:
    """Distance of each pixel from the background, the median of the frame's edge, in CIE Lab."""
    lab_HWC = cv2.cvtColor((frame_HWC / np.float32(255)).astype(np.float32), cv2.COLOR_RGB2LAB)
    edge = np.concatenate((lab_HWC[0], lab_HWC[-1], lab_HWC[:, 0], lab_HWC[:, -1]))
    return np.linalg.norm(lab_HWC - np.median(edge, axis=0), axis=-1).astype(np.float32)


def _is_one_thing(mask_HW: NDArray[np.bool_], inside_HW: NDArray[np.bool_]) -> bool:
    """Whether the outline holds nearly all that stands out, and is filled by it: noise and crowds are no thing."""
    inner = np.count_nonzero(mask_HW & inside_HW)
    return bool(inner >= _MIN_HELD * np.count_nonzero(mask_HW) and inner >= _MIN_FILLED * np.count_nonzero(inside_HW))


def _largest_outline(mask_HW: NDArray[np.bool_]) -> "cv2.typing.MatLike | None":
    outlines, _ = cv2.findContours(mask_HW.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return max(outlines, key=cv2.contourArea, default=None)


def _color(frame_HWC: NDArray[np.uint8], weight_HW: Floats) -> str | None:
    """The named colour nearest in hue to the part of the thing that stands out most."""
    core_HW = weight_HW >= 0.8 * weight_HW.max()
    red, green, blue = (float(level) for level in np.median(frame_HWC[core_HW], axis=0))
    hue, saturation = _hue_and_saturation(red, green, blue)
    if saturation < _MIN_SATURATION:
        return None
    return min(COLORS, key=lambda name: _turn(hue, _hue_and_saturation(*COLORS[name])[0]))


def _hue_and_saturation(red: float, green: float, blue: float) -> tuple[float, float]:
    """Hue in degrees and saturation 0..1, of HSV."""
    pixel = np.array([[[red, green, blue]]], np.float32) / 255
    hue, saturation, _ = cv2.cvtColor(pixel, cv2.COLOR_RGB2HSV)[0, 0]
    return float(hue), float(saturation)


def _measure(outline: "cv2.typing.MatLike") -> Outline:
    area = cv2.contourArea(outline)
    _, top, width, height = cv2.boundingRect(outline)
    _, radius = cv2.minEnclosingCircle(outline)
    moments = cv2.moments(outline)
    low = (moments["m01"] / moments["m00"] - top) / height - 0.5
    hull_area = cv2.contourArea(cv2.convexHull(outline))
    return Outline(area / (width * height), area / hull_area, area / (math.pi * radius**2), low)


def _shape(outline: Outline) -> str | None:
    name = min(IDEALS, key=lambda shape: math.dist(outline, IDEALS[shape]))
    return name if math.dist(outline, IDEALS[name]) < _MAX_DISTANCE else None


def _motion(times: NDArray[np.float64], things: Sequence[Thing | None]) -> str | None:
    """The direction nearest to the straight line through the centres; `times` run from 0 to 1 over the clip."""
    seen = [(time, thing.x, thing.y) for time, thing in zip(times, things, strict=True) if thing is not None]
    if len(seen) < max(2, _MIN_SHARE * len(things)):
        return None
    time, x, y = np.array(seen).T
    step_x, step_y = np.polyfit(time, x, 1)[0], np.polyfit(time, y, 1)[0]
    if math.hypot(step_x, step_y) < _MIN_TRAVEL:
        return None
    return max(MOTIONS, key=lambda name: MOTIONS[name][0] * step_x + MOTIONS[name][1] * step_y)


def _agreed(names: Sequence[str | None]) -> str | None:
    """The name that most frames agree on."""
    name, count = Counter(names).most_common(1)[0]
    return name if count >= _MIN_SHARE * len(names) else None


def _turn(hue: float, other: float) -> float:
    """Degrees between two hues, 0..180."""
    return abs((hue - other + 180) % 360 - 180)
