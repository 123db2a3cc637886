"""Temporal layers of the space-time U-Net (Lumiere, arXiv 2401.12945, section 3.1).

Shape letters: B batch, C channels, T frames, H height, W width. All layers take and return (B, C, T, H, W).
Memory is channels-last, (B, T, H, W, C): then frames fold into the batch, and pixels into tokens, without a copy.
"""

import math
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

L = TypeVar("L", nn.Conv2d, nn.Linear)

_ROTARY_BASE = 10_000.0
_POSITION_WIDTH = 32
"""Sines and cosines that tell a frame's number."""


class TemporalLayer(nn.Module):
    """What all of them have in common: the precision of their weights."""

    @property
    def dtype(self) -> torch.dtype:
        """fp32 while they train beside frozen weights of less precision."""
        return next(self.parameters()).dtype


class TemporalConv(TemporalLayer):
    """Factorised convolution: Conv2D -> Conv1D over time -> linear projection, added to the input (figure 4b).

    The projection starts at zero, so that a fresh layer passes its input unchanged.

    Args:
        channels: C.
        frames: Width of the Conv1D in frames, odd.
        pixels: Width of the Conv2D in pixels, odd; 0 leaves the Conv2D out.
    """

    def __init__(self, channels: int, frames: int = 3, pixels: int = 3) -> None:
        super().__init__()
        # Without weights of its own: the convolution behind it has them, and torch 2.13 crashes on the CPU in the
        # backward of a channels-last GroupNorm whose weight wants a gradient and whose input does not.
        self.norm = nn.GroupNorm(math.gcd(32, channels), channels, affine=False)
        self.conv_space = nn.Conv2d(channels, channels, pixels, padding=pixels // 2) if pixels else nn.Identity()
        self.conv_time = _TimeConv(channels, frames)
        self.projection = _zero(nn.Conv2d(channels, channels, 1))

    def forward(self, video_BCTHW: Tensor) -> Tensor:
        """The input and its change, P(Conv1D(silu(Conv2D(norm(x))))), normalised frame by frame."""
        batch = video_BCTHW.shape[0]
        change = fold(video_BCTHW)
        change = F.silu(self.conv_space(self.norm(change)))
        change = self.conv_time(unfold(change, batch))
        return video_BCTHW + unfold(self.projection(fold(change)), batch)


class TemporalAttention(TemporalLayer):
    """Self-attention over the frames of each pixel, several layers stacked -> linear projection, residual (figure 4c).

    Positions are told twice. Rotary ones (RoFormer, arXiv 2104.09864) tell attention how far apart two frames are, or
    it would be blind to order; they alone cannot tell the first frame from the last, because attention averages values
    and all values are equal where nothing moves yet. So each frame's number is added to its tokens too: without it a
    prompt such as "moving left" has nothing to start from. The projection starts at zero, so that a fresh layer passes
    its input unchanged.

    Args:
        channels: C, even.
        layers: Stacked attention layers.
        head_width: Channels of a head at most; the largest even divisor of C up to it is taken.
        expansion: Hidden channels of the two linear layers behind each attention, in C; 0 leaves them out.
        text_width: D; each layer then also looks at the text. 0: the text is not looked at, as in the paper.
    """

    def __init__(
        self, channels: int, layers: int = 2, head_width: int = 64, expansion: int = 2, text_width: int = 0
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.position = nn.Linear(_POSITION_WIDTH, channels)
        self.layers = nn.ModuleList(_FrameLayer(channels, head_width, expansion, text_width) for _ in range(layers))
        self.projection = _zero(nn.Linear(channels, channels))
        self.takes_text = text_width > 0

    def forward(self, video_BCTHW: Tensor, text_BLD: Tensor | None = None) -> Tensor:
        """The input and its change, P(layers(norm(x) + position, text)), every pixel on its own."""
        batch, channels, num_frames, height, width = video_BCTHW.shape
        tokens_NTC = self.norm(video_BCTHW.permute(0, 3, 4, 2, 1).reshape(-1, num_frames, channels))
        cos_TD, sin_TD = _rotary(num_frames, _POSITION_WIDTH, video_BCTHW.device)
        tokens_NTC = tokens_NTC + self.position(torch.cat([cos_TD, sin_TD], dim=1).to(tokens_NTC.dtype))
        for layer in self.layers:
            tokens_NTC = layer(tokens_NTC, text_BLD)
        change_BHWTC = self.projection(tokens_NTC).view(batch, height, width, num_frames, channels)
        return video_BCTHW + change_BHWTC.permute(0, 4, 3, 1, 2)


class TemporalDownsample(TemporalLayer):
    """Conv1D over time, initialised to the identity, followed by a stride of 2: T frames become T/2 (T even)."""

    def __init__(self, channels: int, frames: int = 3) -> None:
        super().__init__()
        self.conv_time = _identity(_TimeConv(channels, frames, stride=2))

    def forward(self, video_BCTHW: Tensor) -> Tensor:
        """At init frame t of the output is frame 2t of the input."""
        return self.conv_time(video_BCTHW)


class TemporalUpsample(TemporalLayer):
    """Frame duplication, followed by a Conv1D over time, initialised to the identity: T frames become 2T."""

    def __init__(self, channels: int, frames: int = 3) -> None:
        super().__init__()
        self.conv_time = _identity(_TimeConv(channels, frames))

    def forward(self, video_BCTHW: Tensor) -> Tensor:
        """At init frames 2t and 2t+1 of the output are frame t of the input."""
        return self.conv_time(_duplicated(video_BCTHW))


def fold(video_BCTHW: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B*T, C, H, W); a view where memory is channels-last."""
    return video_BCTHW.transpose(1, 2).flatten(0, 1)


def unfold(frames_NCHW: Tensor, batch: int) -> Tensor:
    """(B*T, C, H, W) -> (B, C, T, H, W), always a view."""
    return frames_NCHW.unflatten(0, (batch, -1)).transpose(1, 2)


def _duplicated(video_BCTHW: Tensor) -> Tensor:
    """Every frame twice, in channels-last memory (repeat_interleave would leave it)."""
    frames_BTHWC = video_BCTHW.permute(0, 2, 3, 4, 1)
    return frames_BTHWC[:, :, None].expand(-1, -1, 2, -1, -1, -1).flatten(1, 2).permute(0, 4, 1, 2, 3)


class _TimeConv(nn.Module):
    """Conv1D over time with every border frame repeated: a video that does not change stays so at its ends."""

    def __init__(self, channels: int, frames: int, stride: int = 1) -> None:
        super().__init__()
        if frames % 2 == 0:
            raise ValueError(f"frames of a temporal convolution: an odd number expected, given {frames}")
        self.conv = nn.Conv2d(channels, channels, (frames, 1), stride=(stride, 1))
        self.pad = frames // 2

    def forward(self, video_BCTHW: Tensor) -> Tensor:
        height = video_BCTHW.shape[3]
        first, last = video_BCTHW[:, :, :1], video_BCTHW[:, :, -1:]
        padded = torch.cat([first] * self.pad + [video_BCTHW] + [last] * self.pad, dim=2)
        return self.conv(padded.flatten(3)).unflatten(3, (height, -1))


class _FrameLayer(nn.Module):
    """Attention over T with rotary positions, attention to the text, mlp: each added to the tokens it was given."""

    def __init__(self, channels: int, head_width: int, expansion: int, text_width: int) -> None:
        super().__init__()
        if channels % 2:
            raise ValueError(f"channels of a temporal attention: an even number expected, given {channels}")
        self.head_width = max(d for d in range(2, min(head_width, channels) + 1, 2) if channels % d == 0)
        self.norm = nn.LayerNorm(channels)
        self.to_qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.to_out = nn.Linear(channels, channels)
        self.text = _TextAttention(channels, self.head_width, text_width) if text_width else None
        self.mlp = None
        if expansion:
            hidden = expansion * channels
            self.mlp = nn.Sequential(
                nn.LayerNorm(channels), nn.Linear(channels, hidden), nn.GELU(), nn.Linear(hidden, channels)
            )

    def forward(self, tokens_NTC: Tensor, text_BLD: Tensor | None) -> Tensor:
        qkv_NTC = self.to_qkv(self.norm(tokens_NTC))
        qkv_3NHTD = qkv_NTC.unflatten(2, (3, -1, self.head_width)).permute(2, 0, 3, 1, 4)
        query, key, value = qkv_3NHTD.unbind()
        cos_TD, sin_TD = _rotary(query.shape[2], self.head_width, query.device)
        mixed_NHTD = F.scaled_dot_product_attention(_rotate(query, cos_TD, sin_TD), _rotate(key, cos_TD, sin_TD), value)
        tokens_NTC = tokens_NTC + self.to_out(mixed_NHTD.transpose(1, 2).flatten(2))
        if self.text is not None and text_BLD is not None:
            tokens_NTC = tokens_NTC + self.text(tokens_NTC, text_BLD)
        return tokens_NTC if self.mlp is None else tokens_NTC + self.mlp(tokens_NTC)


class _TextAttention(nn.Module):
    """What the text says to each token of a video; N tokens of B videos, all tokens of a video in a row."""

    def __init__(self, channels: int, head_width: int, text_width: int) -> None:
        super().__init__()
        self.head_width = head_width
        self.norm = nn.LayerNorm(channels)
        self.to_query = nn.Linear(channels, channels, bias=False)
        self.to_key_value = nn.Linear(text_width, 2 * channels, bias=False)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, tokens_NTC: Tensor, text_BLD: Tensor) -> Tensor:
        batch = text_BLD.shape[0]
        query_BHTD = self._heads(self.to_query(self.norm(tokens_NTC)).view(batch, -1, tokens_NTC.shape[2]))
        key_value_BLC = self.to_key_value(text_BLD)
        key_BHLD, value_BHLD = (self._heads(half) for half in key_value_BLC.chunk(2, dim=2))
        heard_BHTD = F.scaled_dot_product_attention(query_BHTD, key_BHLD, value_BHLD)
        return self.to_out(heard_BHTD.transpose(1, 2).flatten(2)).view(tokens_NTC.shape)

    def _heads(self, tokens_BTC: Tensor) -> Tensor:
        return tokens_BTC.unflatten(2, (-1, self.head_width)).transpose(1, 2)


def _rotary(num_frames: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine of t * base^(-2i/width), each (T, width/2)."""
    rate_D = _ROTARY_BASE ** (-torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
    angle_TD = torch.arange(num_frames, device=device, dtype=torch.float32)[:, None] * rate_D
    return angle_TD.cos(), angle_TD.sin()


def _rotate(heads_NHTD: Tensor, cos_TD: Tensor, sin_TD: Tensor) -> Tensor:
    """Turn the pair (i, i + width/2) of each frame's vector by its angle."""
    first, second = heads_NHTD.float().chunk(2, dim=-1)
    turned = torch.cat([first * cos_TD - second * sin_TD, first * sin_TD + second * cos_TD], dim=-1)
    return turned.to(heads_NHTD.dtype)


def _zero(layer: L) -> L:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _identity(layer: _TimeConv) -> _TimeConv:
    nn.init.dirac_(layer.conv.weight)
    assert layer.conv.bias is not None
    nn.init.zeros_(layer.conv.bias)
    return layer
