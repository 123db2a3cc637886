"""Denoise whole videos: classifier-free guidance, thresholding per video, diffusers' own schedulers.

The scheduler's state is fp32 whatever the model's precision. Shape letters: B batch, C channels, T frames, H height,
W width, L text tokens, D text width, K channels beside the video's.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol, get_args

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from torch import Tensor

from stunet.objective import timestep_table
from stunet.text import Text
from stunet.thresholding import Kind, check_space, thresholded

SchedulerName = Literal["ddim", "ddpm", "dpm++", "unipc"]
_SCHEDULERS: dict[str, tuple[Any, Mapping[str, Any]]] = {
    # diffusers' own DDIM takes no timesteps, and rounds its strides; of order 1 DPM-Solver++ is DDIM (its section 4).
    "ddim": (DPMSolverMultistepScheduler, {"solver_order": 1}),
    "ddpm": (DDPMScheduler, {"clip_sample": False, "variance_type": "fixed_small"}),
    "dpm++": (DPMSolverMultistepScheduler, {}),
    "unipc": (UniPCMultistepScheduler, {}),
}
_OWN_GRID = "unipc"
"""diffusers' UniPC takes no timesteps, and sigmas for flow matching alone."""
_TRAINED = (
    "num_train_timesteps",
    "beta_schedule",
    "beta_start",
    "beta_end",
    "trained_betas",
    "rescale_betas_zero_snr",
    "prediction_type",
)
"""Keys of a scheduler's configuration that its U-Net was trained with."""


@dataclass(frozen=True)
class SamplerConfig:
    """How a video is denoised.

    Attributes:
        scheduler: `ddim` (arXiv 2010.02502), `ddpm` (arXiv 2006.11239), `dpm++`, DPM-Solver++ 2M (arXiv 2211.01095), or
            `unipc` (arXiv 2302.04867).
        steps: Denoising steps, two evaluations of the U-Net each (with and without text).
        guidance_scale: w of classifier-free guidance (arXiv 2207.12598): 1 is the conditional model, without guidance.
        guidance_rescale: phi in 0..1 of arXiv 2305.08891, section 3.4: pulls the guided prediction's spread back.
        thresholding: Of the predicted video: `none`, `static` (clip to [-1, 1]), `dynamic` (arXiv 2205.11487, section
            2.3), with one quantile a video, never one a frame: that would flicker; or `auto`, what the backbone's
            scheduler says (`thresholding.resolved`). Pixels alone can be thresholded.
        dynamic_quantile: Of `dynamic`; `auto` takes the backbone's.
        timestep_shift: s of logSNR' = logSNR - 2 log s for the sampling grid, as in training; not with `unipc`.
    """

    scheduler: SchedulerName = "dpm++"
    steps: int = 25
    guidance_scale: float = 3.0
    guidance_rescale: float = 0.0
    thresholding: Kind = "auto"
    dynamic_quantile: float = 0.995
    timestep_shift: float = 1.0

    def __post_init__(self) -> None:
        if self.scheduler not in _SCHEDULERS:
            raise ValueError(f"scheduler: one of {', '.join(_SCHEDULERS)} expected, given {self.scheduler!r}")
        if self.thresholding not in get_args(Kind):
            raise ValueError(f"thresholding: one of {', '.join(get_args(Kind))} expected, given {self.thresholding!r}")
        if self.steps < 1:
            raise ValueError(f"steps: at least 1 expected, given {self.steps}")
        if not 0.0 <= self.guidance_rescale <= 1.0:
            raise ValueError(f"guidance_rescale: 0 to 1 expected, given {self.guidance_rescale}")
        if self.timestep_shift != 1.0 and self.scheduler == _OWN_GRID:
            raise ValueError("timestep_shift: ddim, ddpm and dpm++ take a shifted grid, given unipc")


@dataclass(frozen=True)
class Prompts:
    """What a batch of videos is made from.

    Attributes:
        text_BLD: One row a video; its dtype is the model's.
        null_text_BLD: (1 or B, L, D): the empty prompt, or one to steer away from.
        beside_BKTHW: Stands behind the noisy video on the channels, with text and without: C and M of `conditions`, or
            the low-resolution frames of super-resolution.
        others: What else the U-Net's forward takes (`class_labels`, `added_cond_kwargs`): tensors with one row a video.
        null_others: Those of them that are others without text, with as many rows as `null_text_BLD`.
    """

    text_BLD: Tensor
    null_text_BLD: Tensor
    beside_BKTHW: Tensor | None = None
    others: Mapping[str, Any] = field(default_factory=dict[str, Any])
    null_others: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @classmethod
    def of(cls, text: Text, null_text: Text, size: tuple[int, int]) -> "Prompts":
        """What a text encoder made, for videos of (height, width) in pixels."""
        others, null_others = text.conditions(size), null_text.conditions(size)
        return cls(text.hidden_BLD, null_text.hidden_BLD, others=others, null_others=null_others)

    def beside(self, beside_BKTHW: Tensor) -> "Prompts":
        """The same with other channels beside the noisy video."""
        return replace(self, beside_BKTHW=beside_BKTHW)


class Denoiser(Protocol):
    """A prediction of the backbone's type for noisy videos at one timestep each."""

    def __call__(self, video_BCTHW: Tensor, timestep_B: Tensor, prompts: Prompts) -> Tensor:
        """(B, C, T, H, W) fp32."""
        ...


def sample(  # noqa: PLR0913, PLR0917  # the room's face: model, schedule, condition, shape, settings, seeds, progress
    stunet: Callable[..., Tensor],
    scheduler: Any,
    prompts: Prompts,
    shape: tuple[int, int, int, int],
    config: SamplerConfig,
    seeds: Sequence[int],
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Noise to video.

    Args:
        stunet: An STUNet, or any function of (video_BCTHW, timestep_B, text_BLD).
        scheduler: The backbone's; its schedule and prediction type are used.
        prompts: One row a video.
        shape: (C, T, H, W).
        config: `SamplerConfig`.
        seeds: One a video: the noise of a video depends on its own seed only, not on the batch that it is in.
        on_step: Called after each step with the number of steps done.

    Returns:
        (B, C, T, H, W) fp32 on the text's device, clipped to [-1, 1] where C is 3 (pixels).

    Raises:
        ValueError: Another number of seeds than of texts, or thresholding of latents.
    """
    check_seeds(seeds, len(prompts.text_BLD))
    check_space(config.thresholding, shape[0])
    noise_BCTHW = initial_noise(seeds, shape).to(prompts.text_BLD.device)
    denoiser = thresholded(guided(stunet, config), scheduler, config.thresholding, config.dynamic_quantile)
    video_BCTHW = denoise(denoiser, prompts, make_scheduler(scheduler, config), noise_BCTHW, seeds, on_step)
    return video_BCTHW.clamp(-1, 1) if shape[0] == 3 else video_BCTHW


def check_seeds(seeds: Sequence[int], num_videos: int) -> None:
    """Refuse another number of seeds than of videos, by ValueError."""
    if len(seeds) != num_videos:
        raise ValueError(f"seeds: one a video expected, given {len(seeds)} for {num_videos} videos")


def initial_noise(seeds: Sequence[int], shape: tuple[int, int, int, int]) -> Tensor:
    """(B, C, T, H, W) on the CPU, each video from its own seed: the same on every device."""
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


@torch.no_grad()
def denoise(  # noqa: PLR0913, PLR0917  # what `sample` and `sdedit` have in common
    denoiser: Denoiser,
    prompts: Prompts,
    scheduler: Any,
    noisy_BCTHW: Tensor,
    seeds: Sequence[int],
    on_step: Callable[[int], None] | None = None,
    first_step: int = 0,
) -> Tensor:
    """From a noisy video to a clean one: one prediction and one step for each of `scheduler.timesteps[first_step:]`.

    The schedulers here preserve variance, so pure noise of spread 1 is where the first step starts. A scheduler that
    adds noise (`ddpm`) draws it once a step, for each video from its own seed.
    """
    video_BCTHW = noisy_BCTHW.float()
    extra: dict[str, Any] = {}
    if "generator" in inspect.signature(scheduler.step).parameters:
        # Another stream than the initial noise's, which the plain seed has.
        extra["generator"] = [torch.Generator().manual_seed(seed ^ (1 << 40)) for seed in seeds]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first_step)
    for done, timestep in enumerate(scheduler.timesteps[first_step:], start=1):
        timestep_B = timestep.to(video_BCTHW.device).expand(len(video_BCTHW))
        prediction = denoiser(scheduler.scale_model_input(video_BCTHW, timestep), timestep_B, prompts)
        video_BCTHW = scheduler.step(prediction, timestep, video_BCTHW, return_dict=False, **extra)[0]
        if on_step is not None:
            on_step(done)
    return video_BCTHW


def guided(stunet: Callable[..., Tensor], config: SamplerConfig) -> Denoiser:
    """Classifier-free guidance, u + w (c - u), with and without text in one batch; no guidance at w = 1."""

    def predict(video_BCTHW: Tensor, timestep_B: Tensor, prompts: Prompts) -> Tensor:
        channels = video_BCTHW.shape[1]  # a learned variance is dropped
        text_BLD, beside = prompts.text_BLD, prompts.beside_BKTHW
        whole = video_BCTHW if beside is None else torch.cat([video_BCTHW, beside.to(video_BCTHW)], dim=1)
        whole = whole.to(text_BLD.dtype)
        if config.guidance_scale == 1.0:
            return stunet(whole, timestep_B, text_BLD, **prompts.others)[:, :channels].float()
        texts = stacked(prompts.null_text_BLD, text_BLD)
        others = stacked({**prompts.others, **prompts.null_others}, prompts.others)
        both = stunet(whole.repeat(2, 1, 1, 1, 1), timestep_B.repeat(2), texts, **others)[:, :channels].float()
        without, conditional = both.chunk(2)
        combined = without + config.guidance_scale * (conditional - without)
        return rescaled(combined, conditional, config.guidance_rescale)

    return predict


def stacked(without: Any, conditional: Any) -> Any:
    """Tensors of 1 or B rows before those of B rows, in mappings or not: the batch without text, then with it."""
    if isinstance(conditional, Mapping):
        return {key: stacked(without[key], value) for key, value in conditional.items()}
    return torch.cat([without.expand_as(conditional), conditional])


def repeated(values: Any, times: int) -> Any:
    """Tensors of one row a video, in mappings or not, for `times` copies of the batch."""
    if isinstance(values, Mapping):
        return {key: repeated(value, times) for key, value in values.items()}
    return values.repeat(times, *[1] * (values.ndim - 1))


def rescaled(guided_BCTHW: Tensor, conditional_BCTHW: Tensor, phi: float) -> Tensor:
    """Guidance of conditional spread, phi g std(c)/std(g) + (1 - phi) g, by video (arXiv 2305.08891, eq. 15, 16)."""
    if phi == 0.0:
        return guided_BCTHW
    axes = (1, 2, 3, 4)
    ratio = conditional_BCTHW.std(axes, keepdim=True) / guided_BCTHW.std(axes, keepdim=True)
    return phi * guided_BCTHW * ratio + (1 - phi) * guided_BCTHW


def make_scheduler(scheduler: Any, config: SamplerConfig) -> Any:
    """The config's scheduler, diffusers' own, on the backbone's schedule, its timesteps set.

    Of the backbone's scheduler only what its U-Net was trained with is taken: the betas and the prediction type. How
    its own sampler made images (its order, grid, Karras sigmas, clipping) is no property of the U-Net, and the keys
    mean different things to different schedulers. Thresholding is ours (`thresholding.thresholded`): diffusers' stops
    at videos of 16 million values.

    Raises:
        ValueError: More steps than the schedule has timesteps, or a number of which `unipc` makes another.
    """
    num_timesteps = scheduler.config["num_train_timesteps"]
    if config.steps > num_timesteps:
        raise ValueError(f"steps: at most the schedule's {num_timesteps} timesteps expected, given {config.steps}")
    trained = {key: scheduler.config[key] for key in _TRAINED if key in scheduler.config}
    kind, own = _SCHEDULERS[config.scheduler]
    made = kind(**trained, **own, timestep_spacing="trailing")
    if config.scheduler == _OWN_GRID:
        made.set_timesteps(config.steps)
        if len(made.timesteps) != config.steps:  # it counts in floating point
            raise ValueError(f"steps: diffusers' unipc cannot make {config.steps}, give one step more or less")
        return made
    trailing = (torch.arange(1, config.steps + 1) * num_timesteps / config.steps).round().long() - 1
    table = timestep_table(num_timesteps, config.timestep_shift, scheduler.alphas_cumprod)
    made.set_timesteps(timesteps=_distinct(table[trailing], num_timesteps).flip(0).tolist())
    return made
    even = (torch.arange(1, config.steps + 1) * num_timesteps / config.steps).round().long() - 1
    table = timestep_table(num_timesteps, config.timestep_shift, scheduler.alphas_cumprod)
    made.set_timesteps(timesteps=_distinct(table[even], num_timesteps).flip(0).tolist())
    return made


def _distinct(rising: Tensor, num_timesteps: int) -> Tensor:
    """Timesteps that rise by at least 1, as near to the given ones as there is room below `num_timesteps`."""
    places = torch.arange(len(rising))
    spread = (rising - places).cummax(0).values + places
    return spread.minimum(num_timesteps - len(rising) + places)


assert set(_SCHEDULERS) == set(get_args(SchedulerName))
