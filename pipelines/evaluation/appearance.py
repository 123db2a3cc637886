"""How a video's frames look: sharpness, colourfulness, and the slice through space and time. `frames_THWC`: uint8."""

import cv2
import numpy as np
from numpy.typing import NDArray


def sharpness(frames_THWC: NDArray[np.uint8]) -> float:
    """Variance of the Laplacian of the grey picture, mean over the frames; 0 is a plain surface."""
    grey = [cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY) for frame_HWC in frames_THWC]
    return float(np.mean([cv2.Laplacian(frame_HW, cv2.CV_64F).var() for frame_HW in grey]))


def colourfulness(frames_THWC: NDArray[np.uint8]) -> float:
    """Hasler and Suesstrunk (2003), section 7: sigma_rgyb + 0.3 mu_rgyb, mean over the frames; 0 is grey."""
    red, green, blue = np.moveaxis(frames_THWC.astype(np.float64), -1, 0)
    opponents = np.stack([red - green, (red + green) / 2 - blue])
    pixels = opponents.reshape(2, len(frames_THWC), -1)
    sigma, mu = np.hypot(*pixels.std(axis=-1)), np.hypot(*pixels.mean(axis=-1))
    return float(np.mean(sigma + 0.3 * mu))


def space_time_slice(frames_THWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The X-T slice: the middle row of every frame, time running downwards; (T, W, 3).

    Smooth motion draws smooth lines; flicker and jumps draw stripes (the paper's figure 7).
    """
    return frames_THWC[:, frames_THWC.shape[1] // 2]


def slices_picture(videos: list[NDArray[np.uint8]], width_px: int = 256, row_px: int = 96) -> NDArray[np.uint8]:
    """X-T slices of several videos under each other, each (row_px, width_px), on white; (H, W, 3)."""
    gap = np.full((4, width_px, 3), 255, np.uint8)
    rows: list[NDArray[np.uint8]] = []
    for frames_THWC in videos:
        slice_THW = np.ascontiguousarray(space_time_slice(frames_THWC))
        rows += [cv2.resize(slice_THW, (width_px, row_px), interpolation=cv2.INTER_NEAREST).astype(np.uint8), gap]
    return np.concatenate(rows[:-1])
