"""From a micro batch to the loss of each of its samples.

Shape letters: B clips, C channels, T frames, H height, W width, L text tokens, D text width.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipelines.training.batches import Batch
from pipelines.training.config import InflationSettings, ObjectiveSettings, TaskSettings, UpscalingSettings
from pipelines.training.engine import Engine, Inputs
from pipelines.training.given import Given, make_task
from pipelines.training.latents import to_latents
from stunet import objective
from stunet.backbone import Backbone, load_backbone
from stunet.inflate import InflationConfig, STUNet, inflate
from stunet.objective import ObjectiveConfig
from stunet.text import Text


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
        tasks: Drawn at random where the model takes C and M; without them all is text to video.
        seed: The run's; with a sample's number it makes its noise, timestep, dropout and task.
        device: Where tensors go.
        upscaling: Whether and how the model learns super-resolution instead.

    Raises:
        BackboneTaskError: The backbone cannot learn that.
    """

    def __init__(  # what a run's configuration says of its losses
        self,
        model: Model,
        settings: ObjectiveSettings,
        tasks: TaskSettings,
        seed: int,
        device: torch.device,
        upscaling: UpscalingSettings | None = None,
    ) -> None:
        self._backbone, self._stunet, self._seed, self._device = model.backbone, model.stunet, seed, device
        self._scheduler = model.backbone.scheduler
        self._config = ObjectiveConfig(**settings.model_dump())
        self._task = make_task(model.backbone, model.stunet, tasks, upscaling or UpscalingSettings(), device)

    def sample_losses(self, engine: Engine, batch: Batch) -> Tensor:
        """The loss of each sample, (B,)."""
        given = self._task.drawn(self._seed, batch)
        video_BCTHW = self._latents(given)
        draw = objective.draw(
            self._seed,
            batch.samples,
            _shape(video_BCTHW),
            len(self._scheduler.alphas_cumprod),
            self._config,
            self._scheduler.alphas_cumprod,
        )
        text = self._text(batch.captions, draw.is_dropped_B.tolist())
        inputs = self._inputs(objective.noised(video_BCTHW, draw, self._scheduler), draw.timestep_B, text, given)
        prediction_BCTHW = inputs.passed_to(engine)
        return objective.loss(prediction_BCTHW, video_BCTHW, draw, self._scheduler, self._config)

    @torch.no_grad()
    def fixed_losses(self, batch: Batch) -> Tensor:
        """The loss of each sample, as text to video, at each of `objective.QUANTILES` of the timesteps: (Q, B).

        Neither noise nor timesteps depend on the run, and the error is not weighted: runs can be compared.
        """
        given, text = self._task.fixed(batch), self._text(batch.captions, [False] * len(batch.captions))
        video_BCTHW = self._latents(given)
        plain, losses = replace(self._config, min_snr_gamma=None), list[Tensor]()
        for quantile in objective.QUANTILES:
            timestep = int(quantile * len(self._scheduler.alphas_cumprod))
            draw = objective.fixed_draw(batch.samples, _shape(video_BCTHW), timestep)
            inputs = self._inputs(objective.noised(video_BCTHW, draw, self._scheduler), draw.timestep_B, text, given)
            prediction_BCTHW = inputs.passed_to(self._stunet)
            losses.append(objective.loss(prediction_BCTHW, video_BCTHW, draw, self._scheduler, plain))
        return torch.stack(losses)

    def example(self, num_clips: int, num_frames: int, size_px: int) -> Inputs:
        """Like a micro batch, but of nothing."""
        nothing = torch.zeros(num_clips, 3, num_frames, size_px, size_px)
        given = self._task.fixed(Batch(nothing, [""] * num_clips, range(num_clips)))
        text = self._text([""] * num_clips, [True] * num_clips)
        return self._inputs(self._latents(given), torch.zeros(num_clips, dtype=torch.long), text, given)

    def _latents(self, given: Given) -> Tensor:
        return to_latents(given.pixels_BCTHW.to(self._device), self._backbone.vae)

    def _inputs(self, noisy_BCTHW: Tensor, timestep_B: Tensor, text: Text, given: Given) -> Inputs:
        """The model's call."""
        if given.beside_BKTHW is not None:
            noisy_BCTHW = torch.cat([noisy_BCTHW, given.beside_BKTHW], dim=1)
        others = {**text.conditions(_shape(given.pixels_BCTHW)[2:]), **given.others}
        return Inputs(noisy_BCTHW, timestep_B.to(self._device), text.hidden_BLD, others)

    def _text(self, captions: list[str], is_dropped: list[bool]) -> Text:
        prompts = ["" if dropped else caption for caption, dropped in zip(captions, is_dropped, strict=True)]
        return self._backbone.text_encoder.encode(prompts)


def _shape(video_BCTHW: Tensor) -> tuple[int, int, int, int]:
    """(C, T, H, W)."""
    _, channels, num_frames, height, width = video_BCTHW.shape
    return channels, num_frames, height, width
