"""From a micro batch to the loss of each of its samples.

Shape letters: B clips, C channels, T frames, H height, W width, L text tokens, D text width.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipelines.training.batches import Batch
from pipelines.training.config import InflationSettings, ObjectiveSettings, TaskSettings
from pipelines.training.engine import Engine, Inputs
from pipelines.training.latents import known_latents, to_latents
from stunet import objective
from stunet.backbone import Backbone, load_backbone
from stunet.conditions import Known, joined
from stunet.inflate import InflationConfig, STUNet, inflate
from stunet.objective import ObjectiveConfig
from stunet.tasks import TaskConfig, draw_tasks
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
    """

    def __init__(
        self, model: Model, settings: ObjectiveSettings, tasks: TaskSettings, seed: int, device: torch.device
    ) -> None:
        self._backbone, self._stunet, self._seed, self._device = model.backbone, model.stunet, seed, device
        self._is_conditioned = model.stunet.config.is_conditioned
        self._scheduler = model.backbone.scheduler
        self._config = ObjectiveConfig(**settings.model_dump())
        self._tasks = TaskConfig(**tasks.model_dump())

    def sample_losses(self, engine: Engine, batch: Batch) -> Tensor:
        """The loss of each sample, (B,)."""
        pixels_BCTHW, known = batch.video_BCTHW, None
        if self._is_conditioned:
            pixels_BCTHW, known, _ = draw_tasks(self._seed, batch.samples, pixels_BCTHW, self._tasks)
        video_BCTHW = to_latents(pixels_BCTHW.to(self._device), self._backbone.vae)
        draw = objective.draw(
            self._seed,
            batch.samples,
            _shape(video_BCTHW),
            len(self._scheduler.alphas_cumprod),
            self._config,
            self._scheduler.alphas_cumprod,
        )
        text = self._text(batch.captions, draw.is_dropped_B.tolist())
        others = text.conditions(_shape(pixels_BCTHW)[2:])
        noisy_BCTHW = self._with_known(objective.noised(video_BCTHW, draw, self._scheduler), known)
        prediction_BCTHW = engine(noisy_BCTHW, draw.timestep_B.to(self._device), text.hidden_BLD, **others)
        return objective.loss(prediction_BCTHW, video_BCTHW, draw, self._scheduler, self._config)

    @torch.no_grad()
    def fixed_losses(self, batch: Batch) -> Tensor:
        """The loss of each sample, as text to video, at each of `objective.QUANTILES` of the timesteps: (Q, B).

        Neither noise nor timesteps depend on the run, and the error is not weighted: runs can be compared.
        """
        video_BCTHW = to_latents(batch.video_BCTHW.to(self._device), self._backbone.vae)
        known = None
        if self._is_conditioned:
            known = Known(torch.zeros_like(batch.video_BCTHW), torch.zeros_like(batch.video_BCTHW[:, :1]))
        text = self._text(batch.captions, [False] * len(batch.captions))
        others = text.conditions(_shape(batch.video_BCTHW)[2:])
        plain, losses = replace(self._config, min_snr_gamma=None), list[Tensor]()
        for quantile in objective.QUANTILES:
            timestep = int(quantile * len(self._scheduler.alphas_cumprod))
            draw = objective.fixed_draw(batch.samples, _shape(video_BCTHW), timestep)
            noisy_BCTHW = self._with_known(objective.noised(video_BCTHW, draw, self._scheduler), known)
            timestep_B = draw.timestep_B.to(self._device)
            prediction_BCTHW = self._stunet(noisy_BCTHW, timestep_B, text.hidden_BLD, **others)
            losses.append(objective.loss(prediction_BCTHW, video_BCTHW, draw, self._scheduler, plain))
        return torch.stack(losses)

    def example(self, num_clips: int, num_frames: int, size_px: int) -> Inputs:
        """Like a micro batch, but of nothing."""
        video_BCTHW = torch.zeros(num_clips, 3, num_frames, size_px, size_px, device=self._device)
        timestep_B = torch.zeros(num_clips, dtype=torch.long, device=self._device)
        text = self._text([""] * num_clips, [True] * num_clips)
        known = Known(video_BCTHW, video_BCTHW[:, :1]) if self._is_conditioned else None
        noisy_BCTHW = self._with_known(to_latents(video_BCTHW, self._backbone.vae), known)
        return Inputs(noisy_BCTHW, timestep_B, text.hidden_BLD, text.conditions((size_px, size_px)))

    def _with_known(self, noisy_BCTHW: Tensor, known: Known | None) -> Tensor:
        if known is None:
            return noisy_BCTHW
        on_device = Known(*(value.to(self._device) for value in known))
        return joined(noisy_BCTHW, known_latents(on_device, self._backbone.vae))

    def _text(self, captions: list[str], is_dropped: list[bool]) -> Text:
        prompts = ["" if dropped else caption for caption, dropped in zip(captions, is_dropped, strict=True)]
        return self._backbone.text_encoder.encode(prompts)


def _shape(video_BCTHW: Tensor) -> tuple[int, int, int, int]:
    """(C, T, H, W)."""
    _, channels, num_frames, height, width = video_BCTHW.shape
    return channels, num_frames, height, width
