"""What the model is given besides noise and text, and what it shall make of that: Lumiere's tasks (section 4), or
super-resolution (section 3.2).

Shape letters: B clips, C channels, T frames, H height, W width, K channels beside the noisy video.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from pipelines.training.batches import Batch
from pipelines.training.config import TaskSettings, UpscalingSettings
from pipelines.training.latents import known_latents, latent_shape
from stunet.backbone import Backbone
from stunet.conditions import Known, nothing
from stunet.inflate import STUNet
from stunet.objective import sample_rng
from stunet.super_resolution import low_resolution, scaled_down
from stunet.tasks import TaskConfig, draw_tasks

_STREAM = 3


class BackboneTaskError(ValueError):
    """A backbone that cannot learn what is asked for; the message names it and the key."""


class Given(NamedTuple):
    """A batch as a task gives it to the model."""

    pixels_BCTHW: Tensor
    """To be learned, in [-1, 1]."""
    beside_BKTHW: Tensor | None
    """Stands behind the noisy video on the channels, in the U-Net's space."""
    others: Mapping[str, Any] = MappingProxyType({})
    """What else the U-Net's forward takes."""


class Task(Protocol):
    """What is given."""

    def drawn(self, seed: int, batch: Batch) -> Given:
        """For training: chance is of (seed, a sample's number) alone."""
        ...

    def fixed(self, batch: Batch) -> Given:
        """For measuring: the same in every run."""
        ...


def make_task(
    backbone: Backbone, stunet: STUNet, tasks: TaskSettings, upscaling: UpscalingSettings, device: torch.device
) -> Task:
    """What this model learns.

    Raises:
        BackboneTaskError: An image model where an upscaler is needed, or the other way round.
    """
    made = latent_shape(backbone.vae, 1, 8)[0]
    taken = stunet.unet.config["in_channels"]
    expected = made + (0 if upscaling.low_size_px is None else 3)
    if taken != expected:
        raise BackboneTaskError(
            f"backbone {backbone.name}: a U-Net of {expected} input channels is expected where "
            f"upscaling.low_size_px is {upscaling.low_size_px}, given one of {taken}"
        )
    if upscaling.low_size_px is not None:
        return Upscaling(upscaling, upscaling.low_size_px, backbone, stunet, device)
    if stunet.config.is_conditioned:
        return Conditioned(TaskConfig(**tasks.model_dump()), backbone, device)
    return TextAlone()


class TextAlone:
    """Text to video, with a model that takes nothing else."""

    def drawn(self, seed: int, batch: Batch) -> Given:
        """See `Task`."""
        return Given(batch.video_BCTHW, None)

    def fixed(self, batch: Batch) -> Given:
        """See `Task`."""
        return Given(batch.video_BCTHW, None)


class Conditioned:
    """C and M of <J, C, M>, the task drawn at random; for measuring, nothing is known."""

    def __init__(self, config: TaskConfig, backbone: Backbone, device: torch.device) -> None:
        self._config, self._backbone, self._device = config, backbone, device

    def drawn(self, seed: int, batch: Batch) -> Given:
        """See `Task`."""
        pixels_BCTHW, known, _ = draw_tasks(seed, batch.samples, batch.video_BCTHW, self._config)
        return Given(pixels_BCTHW, self._coded(known))

    def fixed(self, batch: Batch) -> Given:
        """See `Task`."""
        return Given(batch.video_BCTHW, self._coded(nothing(batch.video_BCTHW)))

    def _coded(self, known: Known) -> Tensor:
        return known_latents(known, self._backbone.vae, self._device).beside


class Upscaling:
    """Windows of clips, their frames scaled down and noised beside them; the level of that noise is told too."""

    def __init__(
        self, settings: UpscalingSettings, low_px: int, backbone: Backbone, stunet: STUNet, device: torch.device
    ) -> None:
        self._settings, self._low_px, self._backbone, self._device = settings, low_px, backbone, device
        self._takes_level = stunet.unet.class_embedding is not None

    def drawn(self, seed: int, batch: Batch) -> Given:
        """See `Task`."""
        rngs = [sample_rng(seed, sample, _STREAM) for sample in batch.samples]
        places = [torch.rand(2, generator=rng, dtype=torch.float64).tolist() for rng in rngs]
        num_starts = max(1, batch.video_BCTHW.shape[2] - self._settings.window + 1)
        starts = [int(place * num_starts) for place, _ in places]
        return self._given(batch, starts, [int(place * self._settings.noise_levels) for _, place in places], rngs)

    def fixed(self, batch: Batch) -> Given:
        """See `Task`: the first window, half of the noise."""
        rngs = [sample_rng(0, sample, _STREAM) for sample in batch.samples]
        return self._given(batch, [0] * len(rngs), [self._settings.noise_levels // 2] * len(rngs), rngs)

    def _given(
        self, batch: Batch, starts: Sequence[int], levels: Sequence[int], rngs: Sequence[torch.Generator]
    ) -> Given:
        window = self._settings.window
        windows = [video[:, start : start + window] for video, start in zip(batch.video_BCTHW, starts, strict=True)]
        pixels_BCTHW, level_B = torch.stack(windows).to(self._device), torch.tensor(levels, device=self._device)
        _, *size = latent_shape(self._backbone.vae, pixels_BCTHW.shape[2], pixels_BCTHW.shape[3])
        noise = torch.stack([torch.randn(3, *size, generator=rng) for rng in rngs]).to(self._device)
        low = scaled_down(pixels_BCTHW, (self._low_px, self._low_px))
        beside = low_resolution(low, (size[1], size[2]), level_B, noise, self._backbone.scheduler)
        return Given(pixels_BCTHW, beside, {"class_labels": level_B} if self._takes_level else {})
