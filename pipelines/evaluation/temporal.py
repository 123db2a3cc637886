"""How a video moves and holds together: flicker, adjacent PSNR and SSIM, optical flow. `frames_THWC`: uint8 RGB.

A frozen clip is perfectly consistent: read these numbers beside `flow_px` and the count of frozen frames, never alone.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from pipelines.evaluation.integrity import adjacent_errors

MAX_PSNR_DB = 100.0
"""What identical frames are given, whose PSNR is infinite."""
_SSIM_WINDOW_PX = 7

Frame = NDArray[np.uint8]


def flicker(frames_THWC: NDArray[np.uint8]) -> float:
    """(255 - MAE) / 255 over adjacent frames, as VBench's temporal flickering: 1 is no change at all."""
    return (255.0 - float(np.mean(adjacent_errors(frames_THWC)))) / 255.0


def psnr_db(frames_THWC: NDArray[np.uint8]) -> float:
    """Mean PSNR between adjacent frames in dB, each at most `MAX_PSNR_DB`."""
    return _over_adjacent(frames_THWC, _psnr_db)


def ssim(frames_THWC: NDArray[np.uint8]) -> float:
    """Mean structural similarity between adjacent frames, -1..1; windows of 7 px, colour channels averaged."""
    return _over_adjacent(frames_THWC, _ssim)


def flow_px(frames_THWC: NDArray[np.uint8]) -> float:
    """Mean length of the dense optical flow (Farneback, 2003) between adjacent frames, in pixels a frame."""
    grey = [cv2.cvtColor(frame_HWC, cv2.COLOR_RGB2GRAY) for frame_HWC in frames_THWC]
    return float(np.mean([_flow_px(a, b) for a, b in pairwise(grey)]))


def _over_adjacent(frames_THWC: NDArray[np.uint8], measure: Callable[[Frame, Frame], float]) -> float:
    return float(np.mean([measure(a, b) for a, b in pairwise(frames_THWC)]))


def _psnr_db(first_HWC: Frame, second_HWC: Frame) -> float:
    error = float(np.mean((first_HWC.astype(np.float64) - second_HWC) ** 2))
    return MAX_PSNR_DB if error == 0 else min(MAX_PSNR_DB, 10.0 * float(np.log10(255.0**2 / error)))


def _ssim(first_HWC: Frame, second_HWC: Frame) -> float:
    value: Any = structural_similarity(first_HWC, second_HWC, channel_axis=-1, win_size=_SSIM_WINDOW_PX)
    return float(value)


def _flow_px(first_HW: NDArray[np.uint8], second_HW: NDArray[np.uint8]) -> float:
    still = np.zeros((*first_HW.shape, 2), np.float32)
    flow_HW2 = cv2.calcOpticalFlowFarneback(
        first_HW, second_HW, still, pyr_scale=0.5, levels=3, winsize=9, iterations=3, poly_n=5, poly_sigma=1.1, flags=0
    )
    return float(np.linalg.norm(flow_HW2, axis=-1).mean())
