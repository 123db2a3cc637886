"""The second model: videos to more pixels, on overlapping temporal windows.

Shape letters: B videos, C channels, T frames, H height, W width.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pipelines.generation.made import Made
from pipelines.generation.model import LoadedModel
from pipelines.generation.recipe import Enlargement
from pipelines.generation.requests import Request
from pipelines.generation.steps import BatchSteps
from stunet.sampler import SamplerConfig
from stunet.super_resolution import SsrConfig, agreeing, super_resolve
from stunet.windows import seam_ratio, seams, window_starts


class Enlarger:
    """An upscaler, loaded once an actor.

    Args:
        settings: What to load and how to use it.
        device: `cpu` or `cuda`.
        precision: Of the STUNet.
    """

    def __init__(self, settings: Enlargement, device: str, precision: str) -> None:
        self._settings = settings
        self._model = LoadedModel(settings.model, device, precision)
        self._sampler = SamplerConfig(**settings.sampler)

    def enlarge(self, requests: Sequence[Request], made: Sequence[Made], steps: BatchSteps) -> list[Made]:
        """Each video with more pixels; all are of one length."""
        model, settings = self._model, self._settings
        low_BCTHW = torch.stack([one.video_CTHW for one in made]).to(model.device)
        latent_BCTHW = super_resolve(
            model.stunet,
            model.scheduler,
            model.prompts([request["prompt"] for request in requests], settings.size_px),
            low_BCTHW,
            model.shape(low_BCTHW.shape[2], settings.size_px),
            self._sampler,
            settings.windows,
            [request["seed"] for request in requests],
            steps,
        )
        pixels_BCTHW = model.pixels(latent_BCTHW).float()
        # One video at a time: at full size each step of this takes as much memory as the video.
        pairs = zip(pixels_BCTHW.split(1), low_BCTHW.split(1), strict=True)
        videos = [agreeing(large, low, settings.back_projections)[0].cpu() for large, low in pairs]
        return [self._told(video, one) for video, one in zip(videos, made, strict=True)]

    def _told(self, video_CTHW: Tensor, low: Made) -> Made:
        settings, num_frames = self._settings, video_CTHW.shape[1]
        told: dict[str, Any] = {
            "enlarged": f"{low.video_CTHW.shape[-1]} to {settings.size_px} pixels a side",
            "num_frames": num_frames,
            "fps": round(float(low.fps), 3),
        }
        return Made(video_CTHW, low.fps, {**low.result, **told, **_seams_told(video_CTHW, settings.windows)})


def _seams_told(video_CTHW: Tensor, windows: SsrConfig) -> dict[str, Any]:
    """Number of windows and the seam ratio, or why there is none."""
    num_frames = video_CTHW.shape[1]
    num_windows = len(window_starts(num_frames, windows.window, windows.overlap))
    is_seam = seams(num_frames, windows.window, windows.overlap)
    if any(is_seam) and not all(is_seam):
        ratio = seam_ratio(video_CTHW[None], windows.window, windows.overlap)
        return {"windows": num_windows, "seam_ratio": round(ratio, 3)}
    why = "between all frames a window begins or ends" if any(is_seam) else "the video is one window"
    return {"windows": num_windows, "seam_ratio": None, "seam_ratio_is_null": why}
