"""A model as an actor holds it: backbone, STUNet and text encoder on a device, in any style.

Shape letters: B videos, C channels, T frames, H height, W width, L text tokens, D text width.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from pipelines.generation.recipe import ModelFiles
from pipelines.training.latents import known_latents, latent_shape, to_latents, to_pixels
from stunet.backbone import load_backbone
from stunet.conditions import Known
from stunet.inflate import image_state_dict, inflate
from stunet.lora import load_style
from stunet.sampler import Prompts
from stunet.style import apply_image_state, interpolate
from stunet.weights import load

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def device_name(device: str) -> str:
    """For people: `cpu`, or the GPU's name."""
    return torch.cuda.get_device_name() if device == "cuda" else device


class LoadedModel:
    """Loaded once an actor.

    Args:
        files: What to load.
        device: `cpu` or `cuda`.
        precision: `fp32`, `bf16` or `fp16`, of the STUNet.
    """

    def __init__(self, files: ModelFiles, device: str, precision: str) -> None:
        self._backbone = load_backbone(files.backbone)
        self.stunet = inflate(self._backbone.unet, files.inflation)
        if files.weights is not None:
            load(self.stunet, files.weights, self._backbone.digest, self._backbone.name)
        self._dtype, self.device = _TYPES[precision], device
        self.stunet = self.stunet.to(device, self._dtype).eval()
        if self._backbone.vae is not None:
            cast("torch.nn.Module", self._backbone.vae).to(device)
        self._text = self._backbone.text_encoder.to(device)
        self._null_text = self._text.encode([""]).to(self._dtype)
        self.scheduler = self._backbone.scheduler
        self._worn: tuple[str, float] | None = None
        self._plain: dict[str, Tensor] = {}

    def prompts(self, texts: Sequence[str], size_px: int) -> Prompts:
        """Text of a batch of square videos."""
        return Prompts.of(self._text.encode(texts).to(self._dtype), self._null_text, (size_px, size_px))

    def latents(self, video_BCTHW: Tensor) -> Tensor:
        """Pixels in [-1, 1] to the U-Net's space, fp32."""
        return to_latents(video_BCTHW.to(self.device), self._backbone.vae)

    def known_latents(self, known: Known) -> Known:
        """C and M to the U-Net's space."""
        return known_latents(known, self._backbone.vae, self.device)

    def pixels(self, latent_BCTHW: Tensor) -> Tensor:
        """The way back."""
        return to_pixels(latent_BCTHW, self._backbone.vae)

    def shape(self, num_frames: int, size_px: int) -> tuple[int, int, int, int]:
        """(C, T, H, W) of a square video in the U-Net's space."""
        return latent_shape(self._backbone.vae, num_frames, size_px)

    def wear(self, style: str | None, alpha: float | None) -> None:
        """Put a style's spatial weights in; None takes it off, bit for bit. Temporal weights are not touched.

        Raises:
            StyleError: A style that cannot be applied.
        """
        wanted = None if style is None or alpha is None else (style, alpha)
        if wanted == self._worn:
            return
        if not self._plain:
            self._plain = {name: value.clone() for name, value in image_state_dict(self.stunet).items()}
        state = self._plain
        if wanted is not None:
            state = interpolate(self._plain, load_style(wanted[0], self._plain), wanted[1])
        apply_image_state(self.stunet, state)
        self._worn = wanted
