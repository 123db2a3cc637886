"""Automatic metrics of one video: those that need no weights, and a user's own.

Metrics whose weights are not here are told as "not run", never as a number.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import entry_points

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation import appearance, integrity, temporal

GROUP = "lumiere.metrics"
"""Entry-point group of metrics of a user's own."""

UserMetric = Callable[[NDArray[np.uint8], str], Mapping[str, float]]
"""(frames_THWC uint8, prompt) to values by name."""

NOT_RUN: Mapping[str, str] = {
    "fvd": "the weights of its I3D network are not here",
    "kvd": "the weights of its I3D network are not here",
    "inception_score": "the weights of its classifier are not here",
    "clipsim": "no open_clip model was named",
    "clip_frame_consistency": "no open_clip model was named",
}
"""Metrics that need weights, and why they are not measured."""

_MIN_SIDE_PX = 8  # windows of SSIM and of the optical flow
_OF_FRAMES: Mapping[str, Callable[[NDArray[np.uint8]], float]] = {
    "black_frames": integrity.black_frames,
    "sharpness": appearance.sharpness,
    "colourfulness": appearance.colourfulness,
}
_OF_CHANGES: Mapping[str, Callable[[NDArray[np.uint8]], float]] = {
    "frozen_frames": integrity.frozen_frames,
    "flicker": temporal.flicker,
    "psnr_db": temporal.psnr_db,
    "ssim": temporal.ssim,
    "flow_px": temporal.flow_px,
}
MEASURED: tuple[str, ...] = (*_OF_FRAMES, *_OF_CHANGES)
"""Names of what `measure` returns."""


class MetricError(ValueError):
    """A metric that cannot be used, or a video it cannot be used on; the message says why."""


def measure(frames_THWC: NDArray[np.uint8]) -> dict[str, float]:
    """All metrics that need no weights.

    Args:
        frames_THWC: (T, H, W, 3) uint8 RGB, T at least 2, sides of at least 8 px.

    Raises:
        MetricError: Too few frames or too small.
    """
    num_frames, height_px, width_px, _ = frames_THWC.shape
    if num_frames < 2 or min(height_px, width_px) < _MIN_SIDE_PX:
        raise MetricError(
            f"at least 2 frames of {_MIN_SIDE_PX} x {_MIN_SIDE_PX} px expected, "
            f"given {num_frames} of {width_px} x {height_px}"
        )
    return {name: float(metric(frames_THWC)) for name, metric in {**_OF_FRAMES, **_OF_CHANGES}.items()}


def load_user_metrics(names: Sequence[str]) -> dict[str, UserMetric]:
    """Load metrics by the names of their entry points.

    Raises:
        MetricError: No such entry point is installed; the message lists those that are.
    """
    installed = {entry.name: entry for entry in entry_points(group=GROUP)}
    for name in names:
        if name not in installed:
            known = ", ".join(sorted(installed)) or "none"
            raise MetricError(f"metrics: {name!r} is not installed as an entry point of {GROUP}; installed: {known}")
    return {name: installed[name].load() for name in names}
