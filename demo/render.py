"""Scenes to pixels at any resolution: signed distance functions, anti-aliased over one pixel.

Shape letters: N frames (of one scene or of many), T frames in time, H height, W width, C channels (RGB).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demo.scene import SHAPES, Scene

Floats = NDArray[np.floating[Any]]

_SQUARE_HALF_SIDE = 0.43
_CORNER_RADIUS = 0.56
_STAR_INNER = 0.46
"""Radius of a star's inner corners, as a share of its outer radius."""


def render(scene: Scene, times_s: Sequence[float], width: int, height: int) -> NDArray[np.uint8]:
    """The frames of one scene at the given times: (T, H, W, 3) uint8 RGB."""
    return render_each([scene] * len(times_s), times_s, width, height)


def render_each(scenes: Sequence[Scene], times_s: Sequence[float], width: int, height: int) -> NDArray[np.uint8]:
    """One frame of each scene, at a time of its own: (N, H, W, 3) uint8 RGB."""
    side_px = min(width, height)
    place_N2 = np.array([scene.position(time_s) for scene, time_s in zip(scenes, times_s, strict=True)], np.float32)
    x_W = ((np.arange(width) + 0.5 - width / 2) / side_px).astype(np.float32)
    y_H = ((np.arange(height) + 0.5 - height / 2) / side_px).astype(np.float32)
    coverage_NHW = np.empty((len(scenes), height, width), np.float32)
    for shape in SHAPES:
        chosen = np.array([index for index, scene in enumerate(scenes) if scene.shape == shape], int)
        if len(chosen):
            diameter_N11 = np.array([scenes[index].diameter for index in chosen], np.float32)[:, None, None]
            x_N1W = (x_W[None, None, :] - place_N2[chosen, 0, None, None]) / diameter_N11
            y_NH1 = (y_H[None, :, None] - place_N2[chosen, 1, None, None]) / diameter_N11
            distance_px_NHW = _DISTANCES[shape](*np.broadcast_arrays(x_N1W, y_NH1)) * diameter_N11 * side_px
            coverage_NHW[chosen] = np.clip(0.5 - distance_px_NHW, 0, 1)
    color_N11C = np.array([scene.color_rgb for scene in scenes], np.float32)[:, None, None]
    background_N11C = np.array([scene.background_rgb for scene in scenes], np.float32)[:, None, None]
    frames_NHWC = background_N11C + coverage_NHW[..., None] * (color_N11C - background_N11C)
    return (frames_NHWC + 0.5).astype(np.uint8)


def _circle(x: Floats, y: Floats) -> Floats:
    return np.hypot(x, y) - 0.5


def _square(x: Floats, y: Floats) -> Floats:
    return np.maximum(np.abs(x), np.abs(y)) - _SQUARE_HALF_SIDE


def _triangle(x: Floats, y: Floats) -> Floats:
    """Equilateral, one corner up, its bounding box centred."""
    radius = _CORNER_RADIUS
    y = y + radius / 4  # from the bounding box's centre to the circumcentre
    half = np.float32(np.sqrt(3) / 2)
    return np.maximum(y, np.abs(x) * half - y * np.float32(0.5)) - radius / 2


def _star(x: Floats, y: Floats) -> Floats:
    """Five corners, one up: by symmetry the distance to the one edge of a tenth of the plane."""
    tenth = np.pi / 5
    angle = np.arctan2(x, -y)
    folded = np.abs(angle - 2 * tenth * np.round(angle / (2 * tenth)))
    radius = np.hypot(x, y)
    along, across = radius * np.cos(folded), radius * np.sin(folded)
    inner = _CORNER_RADIUS * _STAR_INNER
    edge = np.array([inner * np.cos(tenth) - _CORNER_RADIUS, inner * np.sin(tenth)])
    normal = np.array([edge[1], -edge[0]]) / np.hypot(*edge)
    return ((along - _CORNER_RADIUS) * normal[0] + across * normal[1]).astype(np.float32)


_DISTANCES = {"circle": _circle, "square": _square, "triangle": _triangle, "star": _star}
"""Signed distances in diameters, negative inside; outside of corners a lower bound, which coverage does not see."""
