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
from pipelines.training.config import ValidationConfig
from pipelines.training.latents import to_latents, to_pixels
from pipelines.training.learner import Model
from pipelines.training.reader import ClipGeometry
from stunet.inflate import temporal_parameters
from stunet.sampler import Prompts, SamplerConfig, sample


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
    pixels = torch.zeros(1, 3, geometry.num_frames, *size, device=asked.text_BLD.device)
    _, channels, num_frames, height, width = to_latents(pixels, vae).shape
    latent_BCTHW = sample(
        model.stunet,
        model.backbone.scheduler,
        asked,
        (channels, num_frames, height, width),
        SamplerConfig(steps=config.sampler_steps, guidance_scale=config.guidance_scale, timestep_shift=timestep_shift),
        [config.seed + index for index in range(len(prompts))],
    )
    return contact_sheet([to_frames(video_CTHW) for video_CTHW in to_pixels(latent_BCTHW, vae)], prompts)
