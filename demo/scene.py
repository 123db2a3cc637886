"""One scene of the demo world: a coloured shape that crosses a muted background. What is in it, and where at what time.

Lengths are in sides of the centred square of the frame, so that a centre crop of any aspect ratio keeps the scene;
the origin is the square's centre, x points right, y points down.
"""

import math
import random
from dataclasses import dataclass

SHAPES = ("circle", "square", "triangle", "star")
COLORS = {
    "red": (220, 42, 40),
    "yellow": (228, 208, 32),
    "green": (44, 178, 62),
    "cyan": (40, 200, 212),
    "blue": (44, 78, 226),
    "magenta": (214, 50, 204),
}
"""Saturated, 60 degrees of hue apart or nearly so: sRGB, 0..255."""
BACKGROUNDS = {
    "grey": (148, 148, 148),
    "tan": (196, 176, 146),
    "slate": (104, 118, 134),
    "cream": (226, 222, 208),
}
"""Muted: their saturation stays below a third of any of `COLORS`."""
_D = math.sqrt(0.5)
MOTIONS = {
    "right": (1.0, 0.0),
    "left": (-1.0, 0.0),
    "up": (0.0, -1.0),
    "down": (0.0, 1.0),
    "up-right": (_D, -_D),
    "up-left": (-_D, -_D),
    "down-right": (_D, _D),
    "down-left": (-_D, _D),
}
"""Unit vectors (x, y), y pointing down."""
SIZES = {"small": (0.35, 0.39), "large": (0.46, 0.52)}
"""Diameters, drawn evenly from the range."""
SPEEDS = ("slow", "fast")
MOVING_S = 2.0
"""For this long every shape moves: fast ones rest then, slow ones are half way."""

REACH = 0.56
"""No part of a shape is farther from its centre than this share of its diameter, along x or y."""
_MARGIN = 0.01
_JITTER = 8

Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class Scene:
    """A shape and its path; everything needed to draw it at any time and to caption it."""

    shape: str
    color: str
    motion: str
    background: str
    size: str
    speed: str
    diameter: float
    """Sides of the square."""
    speed_per_s: float
    """Sides of the square per second."""
    sideways: float
    """How far the path runs beside the centre, across its direction, in sides of the square."""
    color_rgb: Rgb
    background_rgb: Rgb

    @property
    def half_path(self) -> float:
        """Half the length of the path, which is centred; the shape moves from -half_path to +half_path and rests."""
        return _half_path(self.diameter)

    def position(self, time_s: float) -> tuple[float, float]:
        """Centre (x, y) of the shape, `time_s` seconds after the start."""
        along = min(self.half_path, self.speed_per_s * time_s - self.half_path)
        x, y = MOTIONS[self.motion]
        return along * x - self.sideways * y, along * y + self.sideways * x


def draw_scene(
    rng: random.Random, shape: str | None = None, color: str | None = None, motion: str | None = None
) -> Scene:
    """A scene drawn from `rng`; what is given stays as it is."""
    size, speed = rng.choice(tuple(SIZES)), rng.choice(SPEEDS)
    background, shape = rng.choice(tuple(BACKGROUNDS)), shape or rng.choice(SHAPES)
    color, motion = color or rng.choice(tuple(COLORS)), motion or rng.choice(tuple(MOTIONS))
    diameter = rng.uniform(*SIZES[size])
    half_path = _half_path(diameter)
    fastest = 2 * half_path / MOVING_S
    # Diagonal paths end nearer to the corners: what is left beside them is smaller.
    room = half_path * (0.4 if "-" in motion else 0.9)
    return Scene(
        shape=shape,
        color=color,
        motion=motion,
        background=background,
        size=size,
        speed=speed,
        diameter=diameter,
        speed_per_s=fastest if speed == "fast" else fastest / 2,
        sideways=rng.uniform(-room, room),
        color_rgb=_jittered(COLORS[color], rng),
        background_rgb=_jittered(BACKGROUNDS[background], rng),
    )


def _half_path(diameter: float) -> float:
    return 0.5 - _MARGIN - REACH * diameter


def _jittered(color: Rgb, rng: random.Random) -> Rgb:
    """A little lighter or darker, of the same hue."""
    change = rng.randint(-_JITTER, _JITTER)
    red, green, blue = (min(255, max(0, level + change)) for level in color)
    return red, green, blue
