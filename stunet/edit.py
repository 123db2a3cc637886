"""Video stylisation by SDEdit (Lumiere, section 4; arXiv 2108.01073): noise a video half-way, denoise with a prompt.

Shape letters: B batch, C channels, T frames, H height, W width.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from stunet.sampler import Denoiser, Prompts, check_seeds, denoise, initial_noise


@torch.no_grad()
def sdedit(  # noqa: PLR0913, PLR0917  # as `sampler.sample`, with a video and a strength
    denoiser: Denoiser,
    prompts: Prompts,
    scheduler: Any,
    video_BCTHW: Tensor,
    strength: float,
    seeds: Sequence[int],
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Noise a video to an intermediate step and denoise it from there.

    Args:
        denoiser: Such as `sampler.guided(stunet, config)`.
        prompts: The style, one a video.
        scheduler: `sampler.make_scheduler(...)`.
        video_BCTHW: The clips, in the space of the U-Net.
        strength: Share of the steps that are made: 0 returns the input, 1 starts where generation starts.
        seeds: One a video.
        on_step: Called after each step with the number of steps done.

    Raises:
        ValueError: `strength` outside [0, 1], or another number of seeds than of videos.
    """
    if not 0.0 <= strength <= 1.0:
        raise ValueError(f"strength: 0 to 1 expected, given {strength}")
    check_seeds(seeds, len(video_BCTHW))
    num_steps = len(scheduler.timesteps)
    first = num_steps - round(strength * num_steps)
    if first == num_steps:
        return video_BCTHW
    _, channels, num_frames, height, width = video_BCTHW.shape
    noise_BCTHW = initial_noise(seeds, (channels, num_frames, height, width)).to(video_BCTHW)
    timestep_B = scheduler.timesteps[first].expand(len(video_BCTHW))
    noisy_BCTHW = scheduler.add_noise(video_BCTHW, noise_BCTHW, timestep_B)
    return denoise(denoiser, prompts, scheduler, noisy_BCTHW, seeds, on_step, first_step=first)
