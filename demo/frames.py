"""Single captioned frames, drawn anew for every step: what the demo's CLIP and image U-Net are trained on.

Shape letters: N frames, H height, W width, C channels (RGB).
"""

import random
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from demo.captions import caption
from demo.render import render_each
from demo.scene import MOVING_S, Scene, draw_scene


class FrameBatch(NamedTuple):
    """Frames of scenes of their own, at times of their own."""

    frames_NHWC: NDArray[np.uint8]
    captions: list[str]
    scenes: list[Scene]


def draw_frames(rng: random.Random, num_frames: int, size_px: int) -> FrameBatch:
    """`num_frames` square frames out of the first two seconds of as many scenes, each with a true caption."""
    scenes = [draw_scene(rng) for _ in range(num_frames)]
    times_s = [rng.uniform(0, MOVING_S) for _ in scenes]
    captions = [caption(scene, rng) for scene in scenes]
    return FrameBatch(render_each(scenes, times_s, size_px, size_px), captions, scenes)


def degrade(frames_NHWC: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """What codecs and scaling do to frames, mildly: halved colour planes and blur on some of them, noise on all."""
    return np.stack([_degrade_one(frame_HWC, rng) for frame_HWC in frames_NHWC])


def _degrade_one(frame_HWC: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    image_HWC = frame_HWC
    height, width, _ = image_HWC.shape
    if rng.random() < 0.7:
        planes_HWC = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2YCrCb)
        halved = cv2.resize(planes_HWC[..., 1:], (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        planes_HWC[..., 1:] = cv2.resize(halved, (width, height), interpolation=cv2.INTER_LINEAR)
        image_HWC = cv2.cvtColor(planes_HWC, cv2.COLOR_YCrCb2RGB).astype(np.uint8, copy=False)
    if rng.random() < 0.3:
        image_HWC = cv2.GaussianBlur(image_HWC, (3, 3), rng.uniform(0.3, 0.8)).astype(np.uint8, copy=False)
    noise_HWC = rng.normal(0, rng.uniform(0, 5), image_HWC.shape)
    return np.clip(image_HWC + noise_HWC, 0, 255).astype(np.uint8)
