"""Inflate an image U-Net into the space-time U-Net (Lumiere, section 3.1 and appendix B).

diffusers' own forward runs, unmodified, on (B, C, T, H, W): every spatial leaf of the U-Net is wrapped in `Inflated`,
which gives it one frame at a time and lets a temporal layer follow. T is read from the tensor, so nothing here knows
the batch or the length; conditions stay per video and are repeated for the frames that a level has; skips stay
aligned, because the wrapped resizer's output is the skip. At init every N-th frame, N the temporal factor, is what the
image U-Net makes of that frame, and a static video comes out as the image U-Net's on all frames.

Shape letters: B batch, C channels, T frames, H height, W width, L text tokens, D text width.
"""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from stunet.inflated import Inflated, Widened
from stunet.temporal import TemporalAttention, TemporalConv, TemporalDownsample, TemporalLayer, TemporalUpsample

_BLOCKS = {
    "DownBlock2D",
    "CrossAttnDownBlock2D",
    "AttnDownBlock2D",
    "ResnetDownsampleBlock2D",
    "SimpleCrossAttnDownBlock2D",
    "UNetMidBlock2D",
    "UNetMidBlock2DCrossAttn",
    "UNetMidBlock2DSimpleCrossAttn",
    "UpBlock2D",
    "CrossAttnUpBlock2D",
    "AttnUpBlock2D",
    "ResnetUpsampleBlock2D",
    "SimpleCrossAttnUpBlock2D",
}


class InflationError(ValueError):
    """A U-Net that cannot be inflated; the message names the block."""


@dataclass(frozen=True)
class InflationConfig:
    """What is added to the image U-Net. The paper publishes none of these numbers.

    Attributes:
        temporal_factor: N, a power of two: the first log2(N) spatial resizers get a temporal one (8: 80 frames become
            40, 20, 10). A U-Net with fewer resizers has a smaller N.
        attention_layers: Stacked self-attentions after each image layer of the coarsest level.
        attention_head_width: Channels of a temporal attention head at most.
        attention_expansion: Hidden channels of the linear layers behind each attention, in channels; 0: none.
        conv_frames: Width of every temporal convolution in frames, odd.
        conv_pixels: Width of the Conv2D that comes before it, odd; 0 leaves it out.
        seed: Of the random weights under the zero projections.
        is_conditioned: The first convolution also takes C and M of <J, C, M> (section 4), with weights of zero.
        attends_text: Temporal attentions that follow an image layer with text look at the text themselves. Not in the
            paper: there, words of motion reach temporal layers through frozen image layers alone, as far as those,
            trained on stills, let them pass.
    """

    temporal_factor: int = 8
    attention_layers: int = 2
    attention_head_width: int = 64
    attention_expansion: int = 2
    conv_frames: int = 3
    conv_pixels: int = 3
    seed: int = 0
    is_conditioned: bool = False
    attends_text: bool = False

    def __post_init__(self) -> None:
        if self.temporal_factor < 1 or self.temporal_factor & (self.temporal_factor - 1):
            raise ValueError(f"temporal_factor: a power of two expected, given {self.temporal_factor}")
        if self.conv_frames % 2 == 0 or (self.conv_pixels and self.conv_pixels % 2 == 0):
            raise ValueError(
                f"conv_frames and conv_pixels: odd numbers expected, given {self.conv_frames} and {self.conv_pixels}"
            )


class STUNet(nn.Module):
    """The space-time U-Net: an image U-Net whose spatial layers are frozen, with temporal ones between them.

    Made by `inflate`. `temporal_factor` is N, the product of its temporal resizers.
    """

    def __init__(self, unet: UNet2DConditionModel, config: InflationConfig, temporal_factor: int) -> None:
        super().__init__()
        self.unet = unet
        self.config = config
        self.temporal_factor = temporal_factor

    def forward(self, video_BCTHW: Tensor, timestep_B: Tensor, text_BLD: Tensor, **conditions: Any) -> Tensor:
        """The U-Net's prediction for noisy videos.

        Args:
            video_BCTHW: Noisy videos, any T >= 1: T is padded to a multiple of N by repeating the last frame. Where
                the first convolution is widened, C and M may stand behind them on the channels (`conditions.joined`).
            timestep_B: One timestep a video, in [0, num_train_timesteps).
            text_BLD: Text, one a video.
            conditions: Whatever else the image U-Net's forward takes (`added_cond_kwargs`, `class_labels`), per video.

        Returns:
            (B, C, T, H, W); where the U-Net also predicts a variance (DeepFloyd IF), the second half of C is that.
        """
        num_frames = video_BCTHW.shape[2]
        missing = -num_frames % self.temporal_factor
        if missing:
            rest = video_BCTHW[:, :, -1:].expand(-1, -1, missing, -1, -1)
            video_BCTHW = torch.cat([video_BCTHW, rest], dim=2)
        video_BCTHW = video_BCTHW.contiguous(memory_format=torch.channels_last_3d)
        prediction = self.unet(video_BCTHW, timestep_B, text_BLD, return_dict=False, **conditions)[0]
        return prediction[:, :, :num_frames]


def inflate(unet: nn.Module, config: InflationConfig | None = None) -> STUNet:
    """Interleave temporal layers with the layers of an image U-Net.

    The image U-Net stays usable: the STUNet shares its weights (no copy), which are frozen here for both, in whatever
    precision they are. What is new is on their device, and in fp32 whatever that precision is: it trains.

    Args:
        unet: A `UNet2DConditionModel` of Stable Diffusion, SDXL or DeepFloyd IF topology, pixel or latent space.
        config: `InflationConfig`; None for the defaults.

    Raises:
        InflationError: No `UNet2DConditionModel`, or one with a block whose layers are not known.
    """
    config = config or InflationConfig()
    if not isinstance(unet, UNet2DConditionModel):
        raise InflationError(f"a diffusers UNet2DConditionModel is expected, given {type(unet).__name__}")
    _check_blocks(unet)
    unet.requires_grad_(False)
    # Weights in the memory format of the activations; the values are the same.
    unet.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # torch's stub misses this overload
    shared = {id(tensor): tensor for tensor in chain(unet.parameters(), unet.buffers())}
    inflated = copy.deepcopy(unet, shared)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        num_resizers = _Inflation(config, _num_resizers(unet.down_blocks, "downsamplers")).wrap(inflated)
    for layer in [module for module in inflated.modules() if isinstance(module, TemporalLayer)]:
        layer.to(unet.device)  # made on the CPU: the same random weights for every device
    return STUNet(inflated, config, 2**num_resizers)


def temporal_parameters(stunet: STUNet) -> dict[str, nn.Parameter]:
    """The parameters that train, by their name in `stunet.named_parameters()`: temporal ones, and the widening's."""
    return {name: value for name, value in stunet.named_parameters() if _is_new(name)}


def checkpoint_activations(stunet: nn.Module) -> None:
    """Keep only what goes into each image layer; backward computes the rest anew, with the same gradients.

    Less memory for about one more forward pass. diffusers' own `enable_gradient_checkpointing` leaves out what follows
    an image attention, so most temporal layers would keep their activations.

    Args:
        stunet: Changed in place.
    """
    for module in stunet.modules():
        if isinstance(module, Inflated):
            module.is_checkpointed = True


def image_state_dict(stunet: STUNet) -> dict[str, Tensor]:
    """The image U-Net's state dict, keys and values as they were before inflation."""
    return {
        name.removeprefix("unet.").replace(".spatial.", "."): value
        for name, value in stunet.state_dict().items()
        if not _is_new(name)
    }


def _is_new(name: str) -> bool:
    return ".temporal." in name or ".known." in name


class _Inflation:
    """The walk over a U-Net's blocks; a level is the number of spatial resizers above it."""

    def __init__(self, config: InflationConfig, coarsest: int) -> None:
        self.config = config
        self.coarsest = coarsest
        self.num_resizers = min(config.temporal_factor.bit_length() - 1, coarsest)

    def wrap(self, unet: Any) -> int:
        """Wrap all leaves in place; returns the number of temporal resizers on the way down."""
        level = 0
        for block in unet.down_blocks:
            self._layers(block, level)
            level += self._resizer(block, "downsamplers", level, TemporalDownsample)
        if unet.mid_block is not None:
            self._layers(unet.mid_block, level)
        for block in unet.up_blocks:
            self._layers(block, level)
            level -= self._resizer(block, "upsamplers", level - 1, TemporalUpsample)
        first = Widened if self.config.is_conditioned else Inflated
        unet.conv_in, unet.conv_out = first(unet.conv_in), Inflated(unet.conv_out)
        if unet.conv_norm_out is not None:
            unet.conv_norm_out = Inflated(unet.conv_norm_out)
        return self.num_resizers

    def _layers(self, block: Any, level: int) -> None:
        """A temporal layer after each pair (resnet, attention), or after each resnet where a block has no attention."""
        attentions = [layer for layer in getattr(block, "attentions", None) or [] if layer is not None]
        channels = block.resnets[-1].out_channels
        for j, resnet in enumerate(block.resnets):
            block.resnets[j] = Inflated(resnet, None if attentions else self._temporal(channels, level))
        for j, attention in enumerate(getattr(block, "attentions", None) or []):
            if attention is not None:
                block.attentions[j] = Inflated(attention, self._temporal(channels, level, _text_width(attention)))

    def _resizer(self, block: Any, name: str, level: int, temporal: type[TemporalDownsample | TemporalUpsample]) -> int:
        """Wrap the block's spatial resizer, if it has one; returns how many levels it changes."""
        if not getattr(block, name, None):
            return 0
        resizer = getattr(block, name)[0]
        is_temporal = level < self.num_resizers
        getattr(block, name)[0] = Inflated(
            resizer, temporal(resizer.out_channels, self.config.conv_frames) if is_temporal else None
        )
        return 1

    def _temporal(self, channels: int, level: int, text_width: int = 0) -> TemporalLayer:
        config = self.config
        if level < self.coarsest:
            return TemporalConv(channels, config.conv_frames, config.conv_pixels)
        return TemporalAttention(
            channels,
            config.attention_layers,
            config.attention_head_width,
            config.attention_expansion,
            text_width if config.attends_text else 0,
        )


def _text_width(attention: Any) -> int:
    """D of the text that an image attention is given; 0: it is given none."""
    if isinstance(attention, Transformer2DModel):
        return attention.config["cross_attention_dim"] or 0
    return getattr(attention, "added_kv_proj_dim", None) or 0


def _check_blocks(unet: Any) -> None:
    named = [("mid_block", unet.mid_block)] if unet.mid_block is not None else []
    for side in ("down_blocks", "up_blocks"):
        named += [(f"{side}.{i}", block) for i, block in enumerate(getattr(unet, side))]
    for name, block in named:
        kind = type(block).__name__
        if kind not in _BLOCKS:
            raise InflationError(f"{name}: a {kind} cannot be inflated; known blocks are {', '.join(sorted(_BLOCKS))}")
    downs, ups = _num_resizers(unet.down_blocks, "downsamplers"), _num_resizers(unet.up_blocks, "upsamplers")
    if downs != ups:
        raise InflationError(f"up_blocks: as many upsamplers as downsamplers expected, given {ups} and {downs}")


def _num_resizers(blocks: Iterable[Any], name: str) -> int:
    return sum(bool(getattr(block, name, None)) for block in blocks)
