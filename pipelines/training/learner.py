"""From a micro batch to the loss of each of its samples.

Shape letters: B clips, C channels, T frames, H height, W width, L text tokens, D text width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.training.batches import Batch
from pipelines.training.config import InflationSettings, ObjectiveSettings
from pipelines.training.engine import Engine
from pipelines.training.latents import to_latents
from stunet import objective
from stunet.backbone import Backbone, load_backbone
from stunet.inflate import InflationConfig, STUNet, inflate
from stunet.objective import ObjectiveConfig


@dataclass(frozen=True)
class Model:
    """A backbone and the STUNet made of it."""

    backbone: Backbone
    stunet: STUNet


def build_model(backbone: str, inflation: InflationSettings, device: torch.device) -> Model:
    """Load a backbone, inflate it, and move all of it to `device`; fp32."""
    loaded = load_backbone(backbone)
    stunet = inflate(loaded.unet, InflationConfig(**inflation.model_dump())).to(device)
    loaded.text_encoder.to(device)
    if loaded.vae is not None:
        loaded.vae.to(device)  # pyright: ignore[reportArgumentType]  # diffusers wraps torch's `to` without its types
    return Model(loaded, stunet)


class Learner:
    """The objective on a model's text encoder and noise schedule.

    Args:
        model: What trains.
        settings: Of the objective.
        seed: The run's; with a sample's number it makes its noise, timestep and dropout.
        device: Where tensors go.
    """

    def __init__(self, model: Model, settings: ObjectiveSettings, seed: int, device: torch.device) -> None:
        self._backbone, self._seed, self._device = model.backbone, seed, device
        self._scheduler = model.backbone.scheduler
        self._config = ObjectiveConfig(**settings.model_dump())

    def sample_losses(self, engine: Engine, batch: Batch) -> Tensor:
        """The loss of each sample, (B,)."""
        video_BCTHW = to_latents(batch.video_BCTHW.to(self._device), self._backbone.vae)
        draw = objective.draw(
            self._seed,
            batch.samples,
            (video_BCTHW.shape[1], video_BCTHW.shape[2], video_BCTHW.shape[3], video_BCTHW.shape[4]),
            len(self._scheduler.alphas_cumprod),
            self._config,
            self._scheduler.alphas_cumprod,
        )
        text_BLD = self._text(batch.captions, draw.is_dropped_B.tolist())
        noisy_BCTHW = objective.noised(video_BCTHW, draw, self._scheduler)
        prediction_BCTHW = engine(noisy_BCTHW, draw.timestep_B.to(self._device), text_BLD)
        return objective.loss(prediction_BCTHW, video_BCTHW, draw, self._scheduler, self._config)

    def example(self, num_clips: int, num_frames: int, size_px: int) -> tuple[Tensor, Tensor, Tensor]:
        """Like a micro batch, but of nothing: video_BCTHW, timestep_B, text_BLD."""
        video_BCTHW = torch.zeros(num_clips, 3, num_frames, size_px, size_px, device=self._device)
        timestep_B = torch.zeros(num_clips, dtype=torch.long, device=self._device)
        text_BLD = self._text([""] * num_clips, [True] * num_clips)
        return to_latents(video_BCTHW, self._backbone.vae), timestep_B, text_BLD

    def _text(self, captions: list[str], is_dropped: list[bool]) -> Tensor:
        prompts = ["" if dropped else caption for caption, dropped in zip(captions, is_dropped, strict=True)]
        return self._backbone.text_encoder.encode(prompts)
