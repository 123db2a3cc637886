"""Between the two ranges of pixels: uint8 levels 0..255 of files and pictures, and [-1, 1] of the models.

Shape letters: ... any leading axes, C channels (RGB), T frames, H height, W width.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_HALF = 127.5


def to_unit(levels: NDArray[np.uint8]) -> Tensor:
    """uint8 levels to float32 in [-1, 1]; a copy, of the same shape."""
    return torch.from_numpy(levels.astype(np.float32)).div_(_HALF).sub_(1.0)


def to_levels(unit: Tensor) -> NDArray[np.uint8]:
    """[-1, 1] to uint8 levels of the same shape; what is beyond the range is clipped."""
    return unit.float().clamp(-1, 1).add(1).mul(_HALF).round().to(torch.uint8).cpu().numpy()


def to_frames(video_CTHW: Tensor) -> NDArray[np.uint8]:
    """(C, T, H, W) in [-1, 1] to (T, H, W, C) uint8."""
    return to_levels(video_CTHW.permute(1, 2, 3, 0))
