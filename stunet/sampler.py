"""Denoise whole videos: classifier-free guidance, thresholding per video, diffusers' own schedulers.

Shape letters: B batch, C channels, T frames, H height, W width, L text tokens, D text width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from torch import Tensor

from stunet.objective import timestep_table


@dataclass(frozen=True)
class SamplerConfig:
    """How a video is denoised.

    Attributes:
        scheduler: `ddim` (arXiv 2010.02502) or `dpm++`, DPM-Solver++ 2M (arXiv 2211.01095).
        steps: Denoising steps, two evaluations of the U-Net each (with and without text).
        guidance_scale: w of classifier-free guidance (arXiv 2207.12598): 1 is the conditional model, without guidance.
        guidance_rescale: phi in 0..1 of arXiv 2305.08891, section 3.4: pulls the guided prediction's spread back.
        thresholding: Of the predicted video: `none`, `static` (clip to [-1, 1]) or `dynamic` (arXiv 2205.11487,
            section 2.3), with one quantile a video, never one a frame: that would flicker.
        dynamic_quantile: Of dynamic thresholding.
        timestep_shift: s of logSNR' = logSNR - 2 log s for the sampling grid, as in training; `dpm++` only.
    """

    scheduler: Literal["ddim", "dpm++"] = "dpm++"
    steps: int = 25
    guidance_scale: float = 3.0
    guidance_rescale: float = 0.0
    thresholding: Literal["none", "static", "dynamic"] = "none"
    dynamic_quantile: float = 0.995
    timestep_shift: float = 1.0

    def __post_init__(self) -> None:
        if self.scheduler not in _SCHEDULERS:
            raise ValueError(f"scheduler: one of {', '.join(_SCHEDULERS)} expected, given {self.scheduler!r}")
        if self.thresholding not in ("none", "static", "dynamic"):
            raise ValueError(f"thresholding: none, static or dynamic expected, given {self.thresholding!r}")
        if self.steps < 1:
            raise ValueError(f"steps: at least 1 expected, given {self.steps}")
        if not 0.0 <= self.guidance_rescale <= 1.0:
            raise ValueError(f"guidance_rescale: 0 to 1 expected, given {self.guidance_rescale}")
        if self.timestep_shift != 1.0 and self.scheduler != "dpm++":
            raise ValueError(f"timestep_shift: only dpm++ takes a shifted grid, given {self.scheduler}")


class Prompts(NamedTuple):
    """Text of a batch: with it and without it."""

    text_BLD: Tensor
    null_text_BLD: Tensor
    """(1 or B, L, D): the empty prompt, or one to steer away from."""


class Denoiser(Protocol):
    """A prediction of the backbone's type for noisy videos at one timestep each."""

    def __call__(self, video_BCTHW: Tensor, timestep_B: Tensor, prompts: Prompts) -> Tensor:
        """(B, C, T, H, W)."""
        ...


_SCHEDULERS: dict[str, Any] = {"ddim": DDIMScheduler, "dpm++": DPMSolverMultistepScheduler}


def sample(  # noqa: PLR0913, PLR0917  # the room's face: model, schedule, text twice, shape, settings, seeds, progress
    stunet: Callable[[Tensor, Tensor, Tensor], Tensor],
    scheduler: Any,
    text_BLD: Tensor,
    null_text_BLD: Tensor,
    shape: tuple[int, int, int, int],
    config: SamplerConfig,
    seeds: Sequence[int],
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Text to video.

    Args:
        stunet: An STUNet, or any function of (video_BCTHW, timestep_B, text_BLD).
        scheduler: The backbone's; its schedule and prediction type are used.
        text_BLD: One row a video.
        null_text_BLD: (1 or B, L, D), the empty prompt.
        shape: (C, T, H, W).
        config: `SamplerConfig`.
        seeds: One a video: the noise of a video depends on its own seed only, not on the batch that it is in.
        on_step: Called after each step with the number of steps done.

    Returns:
        (B, C, T, H, W) on the text's device, clipped to [-1, 1] where C is 3 (pixels).

    Raises:
        ValueError: Another number of seeds than of texts.
    """
    if len(seeds) != len(text_BLD):
        raise ValueError(f"seeds: one a prompt expected, given {len(seeds)} for {len(text_BLD)} prompts")
    steps = make_scheduler(scheduler, config)
    noise_BCTHW = initial_noise(seeds, shape).to(text_BLD)
    denoiser = guided(stunet, config)
    video_BCTHW = denoise(denoiser, Prompts(text_BLD, null_text_BLD), steps, noise_BCTHW, on_step)
    return video_BCTHW.clamp(-1, 1) if shape[0] == 3 else video_BCTHW


def initial_noise(seeds: Sequence[int], shape: tuple[int, int, int, int]) -> Tensor:
    """(B, C, T, H, W) on the CPU, each video from its own seed: the same on every device."""
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


@torch.no_grad()
def denoise(
    denoiser: Denoiser,
    prompts: Prompts,
    scheduler: Any,
    noisy_BCTHW: Tensor,
    on_step: Callable[[int], None] | None = None,
    first_step: int = 0,
) -> Tensor:
    """From a noisy video to a clean one: one prediction and one step for each of `scheduler.timesteps[first_step:]`.

    The schedulers here preserve variance, so pure noise of spread 1 is where the first step starts.
    """
    video_BCTHW = noisy_BCTHW
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first_step)
    for done, timestep in enumerate(scheduler.timesteps[first_step:], start=1):
        timestep_B = timestep.to(video_BCTHW.device).expand(len(video_BCTHW))
        prediction = denoiser(scheduler.scale_model_input(video_BCTHW, timestep), timestep_B, prompts)
        video_BCTHW = scheduler.step(prediction, timestep, video_BCTHW, return_dict=False)[0]
        if on_step is not None:
            on_step(done)
    return video_BCTHW


def guided(stunet: Callable[[Tensor, Tensor, Tensor], Tensor], config: SamplerConfig) -> Denoiser:
    """Classifier-free guidance, u + w (c - u), with and without text in one batch; no guidance at w = 1."""

    def predict(video_BCTHW: Tensor, timestep_B: Tensor, prompts: Prompts) -> Tensor:
        channels = video_BCTHW.shape[1]  # a learned variance is dropped
        if config.guidance_scale == 1.0:
            return stunet(video_BCTHW, timestep_B, prompts.text_BLD)[:, :channels]
        texts = torch.cat([prompts.null_text_BLD.expand_as(prompts.text_BLD), prompts.text_BLD])
        both = stunet(video_BCTHW.repeat(2, 1, 1, 1, 1), timestep_B.repeat(2), texts)[:, :channels]
        without, conditional = both.chunk(2)
        combined = without + config.guidance_scale * (conditional - without)
        return rescaled(combined, conditional, config.guidance_rescale)

    return predict


def rescaled(guided_BCTHW: Tensor, conditional_BCTHW: Tensor, phi: float) -> Tensor:
    """Guidance of conditional spread, phi g std(c)/std(g) + (1 - phi) g, by video (arXiv 2305.08891, eq. 15, 16)."""
    if phi == 0.0:
        return guided_BCTHW
    axes = (1, 2, 3, 4)
    ratio = conditional_BCTHW.std(axes, keepdim=True) / guided_BCTHW.std(axes, keepdim=True)
    return phi * guided_BCTHW * ratio + (1 - phi) * guided_BCTHW


def make_scheduler(scheduler: Any, config: SamplerConfig) -> Any:
    """The config's scheduler, diffusers' own, on the backbone's schedule, its timesteps set.

    Thresholding is diffusers' own: it takes (B, C, T, H, W) and one quantile a video; a largest value of 1 makes it
    static.
    """
    made = _SCHEDULERS[config.scheduler].from_config(
        scheduler.config,
        clip_sample=False,
        thresholding=config.thresholding != "none",
        dynamic_thresholding_ratio=config.dynamic_quantile,
        sample_max_value=1.0 if config.thresholding == "static" else torch.inf,
        timestep_spacing="trailing",
        variance_type=None,
    )
    if config.timestep_shift == 1.0:
        made.set_timesteps(config.steps)
        return made
    num_timesteps = made.config.num_train_timesteps
    table = timestep_table(num_timesteps, config.timestep_shift, scheduler.alphas_cumprod)
    made.set_timesteps(config.steps)
    grid = table[made.timesteps.round().long().clamp(0, num_timesteps - 1)].unique().flip(0)
    made.set_timesteps(timesteps=grid.tolist())
    return made
