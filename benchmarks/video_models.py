"""One small image U-Net, made a video model in six ways: what `bench_model.py` compares.

Shape letters: B batch, C channels, T frames, H height, W width, L text tokens, D text width.
"""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import MotionAdapter, UNet2DConditionModel, UNetMotionModel
from torch import Tensor, nn

from stunet.inflate import InflationConfig, inflate

SIDE, WIDTH, TOKENS = 32, 64, 16
_CHANNELS = (32, 64, 96, 96)
Predict = Callable[[Tensor], Tensor]


def image_unet() -> UNet2DConditionModel:
    """Stable Diffusion's topology, narrow, on 32 x 32 pixels, random weights."""
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=SIDE,
        in_channels=3,
        out_channels=3,
        layers_per_block=2,
        block_out_channels=_CHANNELS,
        cross_attention_dim=WIDTH,
        attention_head_dim=4,
        norm_num_groups=8,
    ).requires_grad_(False)


def text() -> Tensor:
    """(1, L, D)."""
    return torch.randn(1, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))


def stunet() -> Predict:
    """Ours, with its defaults."""
    model = inflate(image_unet())
    return lambda video: model(video, torch.tensor([500]), text())


def without_resampling() -> Predict:
    """Ours, but T frames at every level."""
    model = inflate(image_unet(), InflationConfig(temporal_factor=1))
    return lambda video: model(video, torch.tensor([500]), text())


def frames_in_one_batch() -> Predict:
    """The image U-Net on all frames at once; what its input needs of a gradient, it gets."""
    model = image_unet()

    def predict(video: Tensor) -> Tensor:
        frames = video[0].transpose(0, 1)
        return model(frames, 500, text().expand(len(frames), -1, -1)).sample

    return predict


def one_frame_at_a_time() -> Predict:
    """The image U-Net on each frame for itself: slower for small frames, and less memory forward."""
    model = image_unet()
    return lambda video: torch.cat([model(frame, 500, text()).sample for frame in video[0].transpose(0, 1).split(1)])


def motion_model() -> Predict:
    """UNetMotionModel of diffusers (AnimateDiff): temporal attention at every level, no temporal resampling."""
    adapter = MotionAdapter(
        block_out_channels=_CHANNELS,
        motion_layers_per_block=2,
        motion_num_attention_heads=4,
        motion_norm_num_groups=8,
        motion_max_seq_length=128,
    )
    model = UNetMotionModel.from_unet2d(image_unet(), adapter)
    model.freeze_unet2d_params()
    return lambda video: model(video, 500, text().expand(video.shape[2], -1, -1)).sample


class _WithText(nn.Module):
    """The image U-Net with its text in it: lumiere-pytorch passes images and a time, and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.unet = image_unet()

    def forward(self, images: Tensor, time: Tensor) -> Tensor:
        return self.unet(images, time, text().expand(len(images), -1, -1)).sample


def lumiere_pytorch() -> Predict:
    """lumiere-pytorch from PyPI (an optional package), its layers where ours are.

    Raises:
        ImportError: It is not installed.
    """
    from lumiere_pytorch import Lumiere

    image = _WithText()
    names = [name for name, _ in image.named_modules()]
    resnets = [name for name in names if ".resnets." in name and name.rpartition(".")[2].isdigit()]
    coarsest = ("unet.down_blocks.3.", "unet.mid_block.", "unet.up_blocks.0.")
    # Its own hooks fail where diffusers calls a module by keywords alone: ours take their place.
    wrapper: Any = _built(Lumiere, image, resnets, coarsest, names)
    for module in wrapper.modules():
        if module is not wrapper:
            module.register_forward_pre_hook(_per_frame, with_kwargs=True)
    return lambda video: wrapper(video, time=torch.ones(1) * 500)


def _built(kind: Any, image: nn.Module, resnets: list[str], coarsest: tuple[str, ...], names: list[str]) -> Any:
    """The wrapper without its hooks that repeat conditions."""
    wrapper = kind(
        image,
        image_size=SIDE,
        unet_time_kwarg="time",
        conv_module_names=[name for name in resnets if not name.startswith(coarsest)],
        attn_module_names=[name for name in resnets if name.startswith(coarsest)],
        downsample_module_names=[name for name in names if name.endswith("downsamplers.0")],
        upsample_module_names=[name for name in names if name.endswith("upsamplers.0")],
    )
    for module in wrapper.modules():
        module._forward_pre_hooks.clear()
        module._forward_pre_hooks_with_kwargs.clear()
    return wrapper


def _per_frame(
    module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Conditions of one video, as many times as the frames that go in beside them."""
    values = [*given, *named.values()]
    if len(values) < 2 or not isinstance(values[0], Tensor):
        return given, named
    num_frames = len(values[0])

    def repeated(value: Any) -> Any:
        is_condition = isinstance(value, Tensor) and value.ndim >= 2 and len(value) != num_frames
        return value[:1].expand(num_frames, *value.shape[1:]) if is_condition else value

    first = given[:1]
    return first + tuple(repeated(value) for value in given[1:]), {
        key: value if value is values[0] else repeated(value) for key, value in named.items()
    }


SYSTEMS: dict[str, Callable[[], Predict]] = {
    "STUNet": stunet,
    "image U-Net on a batch of frames": frames_in_one_batch,
    "image U-Net one frame at a time": one_frame_at_a_time,
    "no temporal resampling": without_resampling,
    "lumiere-pytorch": lumiere_pytorch,
    "UNetMotionModel": motion_model,
}
