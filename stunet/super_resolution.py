"""Spatial super-resolution of videos (Lumiere, section 3.2): an inflated image U-Net that sees the low-resolution
frames, on overlapping temporal windows.

The image U-Net is one of diffusers' upscalers: the low-resolution frames stand behind the noisy ones on the channels,
and where it has class labels they tell how much noise was put on those frames (arXiv 2106.15282, section 4.2, DeepFloyd
IF's second stage, Stable Diffusion's x4 upscaler). Shape letters: B batch, C channels, T frames, H height, W width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stunet.inflate import STUNet
from stunet.sampler import Prompts, SamplerConfig, check_seeds, denoise, guided, initial_noise, make_scheduler
from stunet.temporal import fold, unfold
from stunet.thresholding import thresholded
from stunet.windows import windowed

_NOISE_SEED = 1 << 41


@dataclass(frozen=True)
class SsrConfig:
    """How a video is super-resolved.

    Attributes:
        window: Frames that pass the U-Net together.
        overlap: Frames that neighbouring windows share; the paper has 2.
        noise_level: Timestep of the schedule to which the low-resolution frames are noised: 0 adds next to nothing.
        windows_per_batch: Windows of each video that pass the U-Net at once, as memory allows; None: all. The video is
            the same.
    """

    window: int = 16
    overlap: int = 2
    noise_level: int = 20
    windows_per_batch: int | None = None


def enlarged(low_BCTHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Frames of (H, W) pixels, bicubic, clipped to [-1, 1]."""
    return _bicubic(low_BCTHW, size).clamp(-1, 1)


def scaled_down(video_BCTHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Frames of (H, W) pixels, each the mean of those that it covers."""
    return unfold(F.interpolate(fold(video_BCTHW), size, mode="area"), len(video_BCTHW))


def agreeing(video_BCTHW: Tensor, low_BCTHW: Tensor, times: int) -> Tensor:
    """Iterative back-projection (Irani and Peleg, 1991): what was made, shrunk, becomes what was given.

    Detail of a video stays as it was made; color and coarse structure are those of the low-resolution frames. A little
    of what the U-Net was to look past, such as their compression, comes back with them. Each frame is treated alone.

    Args:
        video_BCTHW: Pixels in [-1, 1].
        low_BCTHW: Of the same frames, in [-1, 1].
        times: Rounds, each of which takes away most of what is left of the difference; 0: none.

    Returns:
        Pixels clipped to [-1, 1].
    """
    (height, width), low_size = video_BCTHW.shape[-2:], (low_BCTHW.shape[-2], low_BCTHW.shape[-1])
    for _ in range(times):
        lacking_BCTHW = low_BCTHW - scaled_down(video_BCTHW, low_size)
        video_BCTHW = (video_BCTHW + _bicubic(lacking_BCTHW, (height, width))).clamp(-1, 1)
    return video_BCTHW


def _bicubic(video_BCTHW: Tensor, size: tuple[int, int]) -> Tensor:
    frames_NCHW = F.interpolate(fold(video_BCTHW), size, mode="bicubic", antialias=True)
    return unfold(frames_NCHW, len(video_BCTHW))


def low_resolution(low_BCTHW: Tensor, size: tuple[int, int], level_B: Tensor, noise: Tensor, scheduler: Any) -> Tensor:
    """What the U-Net sees beside the noisy video: frames enlarged to (H, W), noised to a level (in training too).

    Args:
        low_BCTHW: In [-1, 1].
        size: (H, W) of the U-Net's space.
        level_B: Timesteps.
        noise: Standard normal, like the result.
        scheduler: Whose `add_noise` is meant.
    """
    return scheduler.add_noise(enlarged(low_BCTHW, size), noise, level_B)


def super_resolve(  # noqa: PLR0913, PLR0917  # as `sampler.sample`, with a video and windows
    stunet: STUNet,
    scheduler: Any,
    prompts: Prompts,
    low_BCTHW: Tensor,
    shape: tuple[int, int, int, int],
    config: SamplerConfig,
    ssr: SsrConfig,
    seeds: Sequence[int],
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """A video of more pixels, all windows denoised together (MultiDiffusion).

    Args:
        stunet: Inflated from an upscaler: it takes C + 3 channels.
        scheduler: The upscaler's.
        prompts: Text alone; the low-resolution frames are put beside it here.
        low_BCTHW: Pixels in [-1, 1].
        shape: (C, T, H, W) in the space of the U-Net, T that of `low_BCTHW`.
        config: `SamplerConfig`.
        ssr: `SsrConfig`.
        seeds: One a video.
        on_step: Called after each step with the number of steps done.

    Returns:
        (B, C, T, H, W), clipped to [-1, 1] where C is 3.

    Raises:
        ValueError: Another number of seeds than of videos, a U-Net that takes another number of channels, a level of
            noise that the schedule has not, or an overlap that is not shorter than the window.
    """
    check_seeds(seeds, len(low_BCTHW))
    taken, made = stunet.unet.config["in_channels"], shape[0]
    if taken != made + 3:
        raise ValueError(f"super-resolution: a U-Net of {made + 3} input channels expected, given one of {taken}")
    num_levels = len(scheduler.alphas_cumprod)
    if not 0 <= ssr.noise_level < num_levels:
        raise ValueError(f"noise_level: 0 to {num_levels - 1} expected, given {ssr.noise_level}")
    level_B = torch.full((len(low_BCTHW),), ssr.noise_level, device=low_BCTHW.device)
    noise = initial_noise([seed ^ _NOISE_SEED for seed in seeds], (3, *shape[1:])).to(low_BCTHW)
    beside = low_resolution(low_BCTHW, (shape[2], shape[3]), level_B, noise, scheduler)
    others = {"class_labels": level_B} if stunet.unet.class_embedding is not None else {}
    whole = replace(prompts, beside_BKTHW=beside, others={**prompts.others, **others})
    denoiser = windowed(guided(stunet, config), ssr.window, ssr.overlap, ssr.windows_per_batch)
    denoiser = thresholded(denoiser, scheduler, config.thresholding, config.dynamic_quantile)
    start = initial_noise(seeds, shape).to(low_BCTHW.device)
    video_BCTHW = denoise(denoiser, whole, make_scheduler(scheduler, config), start, seeds, on_step)
    return video_BCTHW.clamp(-1, 1) if made == 3 else video_BCTHW
