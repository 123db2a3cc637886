"""Videos that are sampled from the averaged weights on the way, as a contact sheet for the tracker.

Shape letters: B videos, C channels, T frames, H height, W width.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.contact_sheet import contact_sheet
from pipelines.pixels import to_frames
from pipelines.training.batches import Batch
from pipelines.training.config import TrainConfig, ValidationConfig
from pipelines.training.latents import latent_shape, to_pixels
from pipelines.training.learner import Model
from pipelines.training.reader import ClipGeometry
from stunet.inflate import temporal_parameters
from stunet.sampler import Prompts, SamplerConfig, sample
from stunet.super_resolution import SsrConfig, scaled_down, super_resolve


@torch.no_grad()
def fill_weights(model: Model, weights: Mapping[str, Tensor]) -> None:
    """Put trained weights, by parameter name, into a model."""
    for name, parameter in temporal_parameters(model.stunet).items():
        parameter.copy_(weights[name])


def sample_sheet(
    model: Model, config: ValidationConfig, prompts: Sequence[str], geometry: ClipGeometry, timestep_shift: float
) -> NDArray[np.uint8]:
    """Sample one video a prompt and draw them, (H, W, 3); the same weights and configuration give the same sheet.

    Args:
        model: With the weights to sample from.
        config: `ValidationConfig`.
        prompts: One a row.
        geometry: Of the videos: that of the data set.
        timestep_shift: Of the sampling grid: that of the objective.
    """
    encoder, vae = model.backbone.text_encoder, model.backbone.vae
    size = (geometry.size_px, geometry.size_px)
    asked = Prompts.of(encoder.encode(prompts), encoder.encode([""]), size)
    latent_BCTHW = sample(
        model.stunet,
        model.backbone.scheduler,
        asked,
        latent_shape(vae, geometry.num_frames, geometry.size_px),
        _sampler(config, timestep_shift),
        [config.seed + index for index in range(len(prompts))],
    )
    return contact_sheet([to_frames(video_CTHW) for video_CTHW in to_pixels(latent_BCTHW, vae)], prompts)


@torch.no_grad()
def upscaled_sheet(model: Model, config: TrainConfig, batch: Batch) -> NDArray[np.uint8]:
    """Scale clips down, super-resolve them window by window, and draw them, (H, W, 3).

    Args:
        model: An upscaler with the weights to sample from.
        config: `TrainConfig`, with `upscaling.low_size_px`.
        batch: The clips.
    """
    validation, upscaling, encoder = config.validation, config.upscaling, model.backbone.text_encoder
    assert upscaling.low_size_px is not None
    num_frames, size_px = batch.video_BCTHW.shape[2:4]
    asked = Prompts.of(encoder.encode(batch.captions), encoder.encode([""]), (size_px, size_px))
    latent_BCTHW = super_resolve(
        model.stunet,
        model.backbone.scheduler,
        asked,
        scaled_down(batch.video_BCTHW, (upscaling.low_size_px, upscaling.low_size_px)).to(asked.text_BLD.device),
        latent_shape(model.backbone.vae, num_frames, size_px),
        _sampler(validation, config.objective.timestep_shift),
        SsrConfig(window=upscaling.window, overlap=min(SsrConfig.overlap, upscaling.window - 1)),
        [validation.seed + index for index in range(len(batch.captions))],
    )
    return contact_sheet([to_frames(video) for video in to_pixels(latent_BCTHW, model.backbone.vae)], batch.captions)


def _sampler(config: ValidationConfig, timestep_shift: float) -> SamplerConfig:
    return SamplerConfig(
        steps=config.sampler_steps, guidance_scale=config.guidance_scale, timestep_shift=timestep_shift
    )
