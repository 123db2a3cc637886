"""Video models of one image U-Net, and the STUNet run in several ways: what `bench_model_gpu.py` compares.

Shape letters: B batch, C channels, T frames, H height, W width, L text tokens, D text width.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from stunet.inflate import InflationConfig, checkpoint_activations, inflate, temporal_parameters

CHANNELS, TOKENS = 4, 77
SIZES: dict[str, dict[str, Any]] = {
    # Stable Diffusion 1.5; all other keys of its config are the defaults of the class.
    "sd15": {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768, "attention_head_dim": 8},
    "tiny": {
        "block_out_channels": (32, 64, 96, 96),
        "cross_attention_dim": 64,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    },
}


@dataclass(frozen=True)
class Subject:
    """A model and its call on (1, C, T, H, W)."""

    module: nn.Module
    predict: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Setting:
    """What all subjects of a run share."""

    size: str
    device: torch.device
    dtype: torch.dtype
    compile_backend: str
    image: UNet2DConditionModel
    """Its weights are in all of them, once."""

    @property
    def timestep(self) -> Tensor:
        """(1,), on the device: a number would be copied there in every pass."""
        return torch.tensor([500], device=self.device)

    @property
    def text(self) -> Tensor:
        """(1, L, D)."""
        rng = torch.Generator().manual_seed(1)
        width = SIZES[self.size]["cross_attention_dim"]
        return torch.randn(1, TOKENS, width, generator=rng).to(self.device, self.dtype)

    def video(self, num_frames: int, side: int) -> Tensor:
        """(1, C, T, H, W) of noise."""
        rng = torch.Generator().manual_seed(0)
        return torch.randn(1, CHANNELS, num_frames, side, side, generator=rng).to(self.device, self.dtype)


def image_unet(size: str, device: torch.device, dtype: torch.dtype) -> UNet2DConditionModel:
    """Random weights, frozen, drawn on the device; channels-last, as `inflate` has them."""
    torch.manual_seed(0)
    with device:
        unet = UNet2DConditionModel(in_channels=CHANNELS, out_channels=CHANNELS, **SIZES[size])
    return unet.to(dtype=dtype, memory_format=torch.channels_last).requires_grad_(False)


def stunet(setting: Setting, **inflation: Any) -> Subject:
    """Ours, with weights as after some training: zeros in the projections would cost a GPU less power."""
    model = inflate(setting.image, InflationConfig(**inflation)).to(setting.device, setting.dtype)
    rng = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, value in temporal_parameters(model).items():
            if ".projection." in name:
                value.copy_(0.02 * torch.randn(value.shape, generator=rng))
    return _of(model, setting)


def _of(model: nn.Module, setting: Setting) -> Subject:
    timestep, text = setting.timestep, setting.text
    return Subject(model, lambda video: model(video, timestep, text))


def without_resampling(setting: Setting) -> Subject:
    """Ours, but T frames at every level."""
    return stunet(setting, temporal_factor=1)


def frames_in_one_batch(setting: Setting) -> Subject:
    """The image U-Net on all frames at once."""
    timestep, text = setting.timestep, setting.text

    def predict(video: Tensor) -> Tensor:
        frames = video[0].transpose(0, 1).contiguous(memory_format=torch.channels_last)
        return setting.image(frames, timestep, text.expand(len(frames), -1, -1)).sample

    return Subject(setting.image, predict)


def one_frame_at_a_time(setting: Setting) -> Subject:
    """The image U-Net on each frame for itself."""
    timestep, text = setting.timestep, setting.text

    def predict(video: Tensor) -> Tensor:
        frames = video[0].transpose(0, 1).split(1)
        made = [
            setting.image(frame.contiguous(memory_format=torch.channels_last), timestep, text).sample
            for frame in frames
        ]
        return torch.cat(made)

    return Subject(setting.image, predict)


def contiguous_weights(setting: Setting) -> Subject:
    """All weights with plain strides, as ZeRO-3 leaves them; activations stay channels-last."""
    made = stunet(replace(setting, image=copy.deepcopy(setting.image)))  # the others share the image's as they are
    for value in made.module.parameters():
        value.data = value.data.clone(memory_format=torch.contiguous_format)
    return made


def autotuned(setting: Setting) -> Subject:
    """Convolutions that cuDNN has timed on the first pass, the fastest of them."""
    made = stunet(setting)

    def predict(video: Tensor) -> Tensor:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True):
            return made.predict(video)

    return Subject(made.module, predict)


def compiled(setting: Setting) -> Subject:
    """By torch.compile, as with `compile=true` in training."""
    made = stunet(setting)
    made.module.compile(backend=setting.compile_backend, dynamic=False)
    return made


def checkpointed(setting: Setting) -> Subject:
    """Activations made anew in backward, as with `activation_checkpointing=true` in training."""
    made = stunet(setting)
    checkpoint_activations(made.module)
    return made


def checkpointed_and_compiled(setting: Setting) -> Subject:
    """Both."""
    made = compiled(setting)
    checkpoint_activations(made.module)
    return made


SYSTEMS: dict[str, Callable[[Setting], Subject]] = {
    "image U-Net on a batch of frames": frames_in_one_batch,
    "image U-Net one frame at a time": one_frame_at_a_time,
    "no temporal resampling": without_resampling,
}
"""The STUNet is compared with these."""

VARIANTS: dict[str, Callable[[Setting], Subject]] = {
    "contiguous weights": contiguous_weights,
    "autotuned convolutions": autotuned,
    "compiled": compiled,
    "checkpointed": checkpointed,
    "checkpointed and compiled": checkpointed_and_compiled,
}
"""The STUNet run otherwise: these are compared with it as it is."""
