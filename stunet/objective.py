"""The training objective: noise, timesteps, loss weights and guidance dropout.

Everything random about a sample is a function of (seed, global sample index) and of nothing else: not of the rank, the
batch, or what was drawn before. Shape letters: B batch, C channels, T frames, H height, W width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

QUANTILES = tuple(tenth / 10 for tenth in range(1, 10))
"""Of the schedule's timesteps: where held-out loss is told."""
_HELD_OUT_STREAM = 2
_LEAST_SIGNAL = 1e-12
"""Of alpha_bar: a schedule rescaled to end without any signal has a last logSNR of minus infinity."""


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is minimised.

    Attributes:
        timestep_shift: s of logSNR' = logSNR - 2 log s, in 1..3: frames are redundant, so a video needs more noise than
            an image for the same loss of information. Truncated where the schedule ends (`timestep_table`). 1 draws
            timesteps uniformly.
        min_snr_gamma: gamma of min-SNR weights (arXiv 2303.09556); None weighs every timestep alike.
        text_dropout: Share of samples trained without text, for classifier-free guidance.
    """

    timestep_shift: float = 1.0
    min_snr_gamma: float | None = 5.0
    text_dropout: float = 0.1

    def __post_init__(self) -> None:
        if not 1.0 <= self.timestep_shift <= 3.0:
            raise ValueError(f"timestep_shift: 1 to 3 expected, given {self.timestep_shift}")
        if self.min_snr_gamma is not None and self.min_snr_gamma <= 0:
            raise ValueError(f"min_snr_gamma: a positive number or null expected, given {self.min_snr_gamma}")
        if not 0.0 <= self.text_dropout <= 1.0:
            raise ValueError(f"text_dropout: 0 to 1 expected, given {self.text_dropout}")


class Draw(NamedTuple):
    """What chance decides about a batch, on the CPU."""

    noise_BCTHW: Tensor
    timestep_B: Tensor
    is_dropped_B: Tensor


def draw(
    seed: int,
    sample_indices: Sequence[int],
    video_shape: tuple[int, int, int, int],
    num_timesteps: int,
    config: ObjectiveConfig,
    alphas_cumprod: Tensor | None = None,
) -> Draw:
    """Draw noise, timesteps and text dropout, each sample from a generator of its own.

    Args:
        seed: Of the training run.
        sample_indices: Global indices of the samples, counted over the whole run; B of them.
        video_shape: (C, T, H, W).
        num_timesteps: Of the noise schedule; timesteps are in [0, num_timesteps).
        config: `ObjectiveConfig`.
        alphas_cumprod: The schedule, (num_timesteps,); needed where `timestep_shift` is not 1.

    Raises:
        ValueError: A shift without a schedule.
    """
    table = timestep_table(num_timesteps, config.timestep_shift, alphas_cumprod)
    noises, timesteps, dropped = list[Tensor](), list[int](), list[bool]()
    for index in sample_indices:
        rng = sample_rng(seed, index)
        place, chance = torch.rand(2, generator=rng, dtype=torch.float64).tolist()
        timesteps.append(int(table[int(place * num_timesteps)]))
        dropped.append(chance < config.text_dropout)
        noises.append(torch.randn(video_shape, generator=rng))
    return Draw(torch.stack(noises), torch.tensor(timesteps), torch.tensor(dropped))


def fixed_draw(sample_indices: Sequence[int], video_shape: tuple[int, int, int, int], timestep: int) -> Draw:
    """Like `draw`, but at one timestep, with all texts, and with noise that is the same in every run.

    Args:
        sample_indices: Of held-out samples.
        video_shape: (C, T, H, W).
        timestep: For all of them.
    """
    rngs = [sample_rng(0, index, _HELD_OUT_STREAM) for index in sample_indices]
    noises = [torch.randn(video_shape, generator=rng) for rng in rngs]
    return Draw(torch.stack(noises), torch.full((len(noises),), timestep), torch.zeros(len(noises), dtype=torch.bool))


def timestep_table(num_timesteps: int, shift: float, alphas_cumprod: Tensor | None) -> Tensor:
    """Where each timestep moves, (num_timesteps,), rising: the one with its logSNR less 2 log s.

    A schedule that ends early (Stable Diffusion's, at a logSNR of -5.4) has no such timestep for its last ones, and
    they must not all become the last. So the shifted distribution is truncated to what the schedule has: with t* the
    time whose shifted logSNR is the schedule's last, table[i] has logSNR(i t* / (num_timesteps - 1)) - 2 log s. t* is
    rounded up: of a cosine schedule less than one timestep would be cut, and so nothing is.

    Raises:
        ValueError: `shift` is not 1 and `alphas_cumprod` is None.
    """
    if shift == 1.0:
        return torch.arange(num_timesteps)
    if alphas_cumprod is None:
        raise ValueError(f"timestep_shift {shift}: the schedule is needed too, give alphas_cumprod")
    # logSNR falls with t: interpolation wants its negative, which rises.
    noisiness = -log_signal_to_noise(alphas_cumprod.cpu().clamp(min=_LEAST_SIGNAL)).numpy()
    timesteps = np.arange(num_timesteps)
    more = 2 * math.log(shift)
    last = math.ceil(np.interp(noisiness[-1] - more, noisiness, timesteps))
    wanted = np.interp(np.linspace(0, last, num_timesteps), timesteps, noisiness) + more
    return torch.from_numpy(np.interp(wanted, noisiness, timesteps).round().astype(np.int64))


def log_signal_to_noise(alphas_cumprod: Tensor) -> Tensor:
    """log(alpha_bar / (1 - alpha_bar)), in double precision."""
    alpha = alphas_cumprod.double()
    return alpha.log() - torch.log1p(-alpha)


def noised(video_BCTHW: Tensor, draw: Draw, scheduler: Any) -> Tensor:
    """The noisy video that the STUNet sees: sqrt(alpha_bar) x + sqrt(1 - alpha_bar) noise."""
    noise, timestep = draw.noise_BCTHW.to(video_BCTHW), draw.timestep_B.to(video_BCTHW.device)
    return scheduler.add_noise(video_BCTHW, noise, timestep)


def loss(prediction_BCTHW: Tensor, video_BCTHW: Tensor, draw: Draw, scheduler: Any, config: ObjectiveConfig) -> Tensor:
    """Weighted mean squared error of each sample, (B,) in fp32.

    The prediction type is the backbone's own. Channels beyond the video's (a learned variance) are left out.

    Args:
        prediction_BCTHW: The STUNet's output for `noised(video_BCTHW, draw, scheduler)`.
        video_BCTHW: Clean videos.
        draw: What was drawn for them.
        scheduler: The backbone's, with `config.prediction_type` and `alphas_cumprod`.
        config: `ObjectiveConfig`.

    Raises:
        ValueError: A prediction type other than epsilon, v_prediction and sample.
    """
    prediction = prediction_BCTHW[:, : video_BCTHW.shape[1]].float()
    error_B = (prediction - target(video_BCTHW.float(), draw, scheduler)).square().flatten(1).mean(1)
    return error_B * weight(draw.timestep_B, scheduler, config).to(error_B)


def target(video_BCTHW: Tensor, draw: Draw, scheduler: Any) -> Tensor:
    """What the STUNet should predict: the noise, v = sqrt(alpha_bar) noise - sqrt(1 - alpha_bar) x, or the video."""
    noise = draw.noise_BCTHW.to(video_BCTHW)
    match scheduler.config.prediction_type:
        case "epsilon":
            return noise
        case "v_prediction":
            return scheduler.get_velocity(video_BCTHW, noise, draw.timestep_B.to(video_BCTHW.device))
        case "sample":
            return video_BCTHW
        case other:
            raise ValueError(f"prediction_type: epsilon, v_prediction or sample expected, given {other!r}")


def weight(timestep_B: Tensor, scheduler: Any, config: ObjectiveConfig) -> Tensor:
    """min(SNR, gamma), as a weight on the error of the video, turned into one on the error of the prediction.

    |error of x|^2 = |error of epsilon|^2 / SNR = |error of v|^2 / (SNR + 1): section 3.4 of arXiv 2303.09556.
    """
    if config.min_snr_gamma is None:
        return torch.ones(timestep_B.shape, dtype=torch.float64)
    snr_B = log_signal_to_noise(scheduler.alphas_cumprod.cpu()[timestep_B.cpu()]).exp()
    clipped_B = snr_B.clamp(max=config.min_snr_gamma)
    match scheduler.config.prediction_type:
        case "epsilon":
            return clipped_B / snr_B
        case "v_prediction":
            return clipped_B / (snr_B + 1)
        case _:
            return clipped_B


def sample_rng(seed: int, index: int, stream: int = 0) -> torch.Generator:
    """The chance of one sample of a run: one 64-bit seed of all numbers, without the collisions of adding them."""
    entropy = [seed, index, stream] if stream else [seed, index]
    mixed = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(mixed))
