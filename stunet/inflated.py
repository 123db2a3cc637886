"""An image layer on every frame of a video and a temporal layer behind it: what `inflate` puts in place of each leaf.

Shape letters: B batch, C channels, T frames, H height, W width, N frames of all videos, L text tokens, D text width.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stunet.temporal import TemporalAttention, TemporalLayer, fold, unfold

_TEXT = "encoder_hidden_states"
"""By this name diffusers' blocks hand the text to their layers."""


class Inflated(nn.Module):
    """One image layer on every frame, then one temporal layer on the video.

    The temporal layer computes in the precision of its own weights, whatever the image layer's is.
    """

    is_checkpointed = False
    """See `checkpoint_activations`."""

    def __init__(self, spatial: nn.Module, temporal: TemporalLayer | None = None) -> None:
        super().__init__()
        self.spatial = spatial
        self.temporal = temporal

    def forward(self, video_BCTHW: Tensor, *conditions: Any, **named: Any) -> Any:
        """The image layer's call, with (B, C, T, H, W) for (B, C, H, W); conditions are per video."""
        if self.is_checkpointed and torch.is_grad_enabled():
            return checkpoint(self._through, video_BCTHW, *conditions, use_reentrant=False, **named)
        return self._through(video_BCTHW, *conditions, **named)

    def _through(self, video_BCTHW: Tensor, *conditions: Any, **named: Any) -> Any:
        batch, num_frames = video_BCTHW.shape[0], video_BCTHW.shape[2]
        made = self.spatial(
            fold(video_BCTHW),
            *_per_frame(conditions, num_frames),
            **{k: _per_frame(v, num_frames) for k, v in named.items()},
        )
        text_BLD = named.get(_TEXT)
        if isinstance(made, tuple):
            return (self._in_time(made[0], batch, text_BLD), *made[1:])
        return self._in_time(made, batch, text_BLD)

    def _in_time(self, frames_NCHW: Tensor, batch: int, text_BLD: Tensor | None) -> Tensor:
        video_BCTHW = unfold(frames_NCHW, batch)
        if self.temporal is None:
            return video_BCTHW
        own = self.temporal.dtype
        if isinstance(self.temporal, TemporalAttention):
            made_BCTHW = self.temporal(video_BCTHW.to(own), None if text_BLD is None else text_BLD.to(own))
        else:
            made_BCTHW = self.temporal(video_BCTHW.to(own))
        return made_BCTHW.to(video_BCTHW.dtype)


class Widened(Inflated):
    """The first convolution on <J, C, M> (section 4): the image's own on J, a new one, zero at init, on C and M.

    Together they are one convolution with more input channels. Without C and M, where nothing is known, it takes J.
    """

    def __init__(self, spatial: nn.Conv2d) -> None:
        super().__init__(spatial)
        size, padding = spatial.kernel_size[0], spatial.padding[0]
        assert isinstance(padding, int)
        known = nn.Conv2d(spatial.in_channels + 1, spatial.out_channels, size, padding=padding, bias=False)
        nn.init.zeros_(known.weight)
        self.known = known.to(spatial.weight.device)

    def forward(self, video_BCTHW: Tensor, *conditions: Any, **named: Any) -> Any:
        """(B, C, T, H, W) or (B, 2C + 1, T, H, W)."""
        assert isinstance(self.spatial, nn.Conv2d)
        channels = self.spatial.in_channels
        made_BCTHW = super().forward(video_BCTHW[:, :channels], *conditions, **named)
        if video_BCTHW.shape[1] == channels:
            return made_BCTHW
        beside_NCHW = fold(video_BCTHW[:, channels:]).to(self.known.weight.dtype)
        return made_BCTHW + unfold(self.known(beside_NCHW), video_BCTHW.shape[0]).to(made_BCTHW.dtype)


def _per_frame(condition: Any, num_frames: int) -> Any:
    """Repeat per-video tensors, wherever they sit in tuples and mappings, for every frame."""
    if isinstance(condition, Tensor):
        return condition if num_frames == 1 else condition.repeat_interleave(num_frames, dim=0)
    if isinstance(condition, torch.Size):  # upsample_size, (T, H, W): T is not the image layer's to choose
        return condition[-2:]
    if isinstance(condition, dict):
        return {key: _per_frame(value, num_frames) for key, value in condition.items()}
    if isinstance(condition, tuple | list):
        return type(condition)(_per_frame(value, num_frames) for value in condition)
    return condition
