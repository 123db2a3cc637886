"""Is it a video at all: black and frozen frames. (T, H, W, 3) uint8 RGB throughout: `frames_THWC`."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

BLACK_LEVEL = 16
"""A frame none of whose colour values exceeds this is black."""
FROZEN_LEVELS = 0.25
"""A frame is frozen where its mean absolute difference to the frame before is below this, in levels of 255."""


def black_frames(frames_THWC: NDArray[np.uint8]) -> int:
    """Number of frames in which no pixel is brighter than `BLACK_LEVEL`."""
    return int((frames_THWC.reshape(len(frames_THWC), -1).max(axis=1) <= BLACK_LEVEL).sum())


def frozen_frames(frames_THWC: NDArray[np.uint8]) -> int:
    """Number of frames that repeat the one before; coding noise below `FROZEN_LEVELS` counts as repetition."""
    return int(sum(error < FROZEN_LEVELS for error in adjacent_errors(frames_THWC)))


def adjacent_errors(frames_THWC: NDArray[np.uint8]) -> list[float]:
    """Mean absolute difference of each frame to the one before, 0..255; T - 1 values."""
    signed = frames_THWC.astype(np.int16)
    return [float(np.abs(later - earlier).mean()) for earlier, later in pairwise(signed)]
