"""A video as a model made it. Shape letters: C channels, T frames, H height, W width."""

from fractions import Fraction
from typing import Any, NamedTuple

from torch import Tensor


class Made(NamedTuple):
    """A video and what is known of it."""

    video_CTHW: Tensor
    """Pixels in [-1, 1]."""
    fps: Fraction
    result: dict[str, Any]
    """What was done to its inputs, and measurements."""
