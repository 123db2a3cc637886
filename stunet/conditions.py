"""What is known of a video: <J, C, M> of section 4, the noisy video J joined with a masked video C and a mask M.

M is 1 where the content is known. Shape letters: B batch, C channels, T frames, H height, W width.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Known(NamedTuple):
    """C and M."""

    video_BCTHW: Tensor
    mask_B1THW: Tensor

    @property
    def beside(self) -> Tensor:
        """What stands behind the noisy video on the channels, (B, C + 1, T, H, W)."""
        return torch.cat(tuple(self), dim=1)


def nothing(video_BCTHW: Tensor) -> Known:
    """C and M of zeros, like a video: text alone decides."""
    return Known(torch.zeros_like(video_BCTHW), torch.zeros_like(video_BCTHW[:, :1]))


def image_to_video(image_BCHW: Tensor, num_frames: int) -> Known:
    """C: the image in frame 0, blank elsewhere; M = 1 on frame 0."""
    batch, channels, height, width = image_BCHW.shape
    video = image_BCHW.new_zeros(batch, channels, num_frames, height, width)
    mask = image_BCHW.new_zeros(batch, 1, num_frames, height, width)
    video[:, :, 0], mask[:, :, 0] = image_BCHW, 1
    return Known(video, mask)


def inpainting(video_BCTHW: Tensor, fill_B1THW: Tensor) -> Known:
    """C: the video without the region to fill (1 in `fill`); M = 0 there. Object replacement is the same."""
    _check(fill_B1THW, (video_BCTHW.shape[0], 1, *video_BCTHW.shape[2:]), "fill")
    mask = 1 - fill_B1THW
    return Known(video_BCTHW * mask, mask)


def outpainting(video_BCTHW: Tensor, size: tuple[int, int], place: tuple[int, int]) -> Known:
    """C: the video on a blank canvas; M = 1 on the video.

    Args:
        video_BCTHW: What is known.
        size: (H, W) of the canvas.
        place: (top, left) of the video on it, in pixels.

    Raises:
        ValueError: The video does not fit on the canvas at this place.
    """
    batch, channels, num_frames, height, width = video_BCTHW.shape
    (top, left), bottom, right = place, place[0] + height, place[1] + width
    if min(top, left) < 0 or bottom > size[0] or right > size[1]:
        raise ValueError(f"place: {height}x{width} at {place} expected to fit into {size[0]}x{size[1]}")
    video = video_BCTHW.new_zeros(batch, channels, num_frames, *size)
    mask = video_BCTHW.new_zeros(batch, 1, num_frames, *size)
    video[..., top:bottom, left:right], mask[..., top:bottom, left:right] = video_BCTHW, 1
    return Known(video, mask)


def cinemagraph(image_BCHW: Tensor, moving_B1HW: Tensor, num_frames: int) -> Known:
    """C: the image in every frame; M = 1 on frame 0, and outside the moving region on the others."""
    _check(moving_B1HW, (image_BCHW.shape[0], 1, *image_BCHW.shape[2:]), "moving")
    video = image_BCHW[:, :, None].repeat(1, 1, num_frames, 1, 1)
    mask = (1 - moving_B1HW)[:, :, None].repeat(1, 1, num_frames, 1, 1)
    mask[:, :, 0] = 1
    return Known(video, mask)


def known_psnr(video_BCTHW: Tensor, known: Known) -> list[float | None]:
    """Peak signal-to-noise ratio in dB of each video where it is known, pixels in [-1, 1]; None: nothing is known."""
    error_B = ((video_BCTHW - known.video_BCTHW).square() * known.mask_B1THW).flatten(1).sum(1).double()
    count_B = known.mask_B1THW.flatten(1).sum(1).double() * video_BCTHW.shape[1]
    ratios = zip(error_B.tolist(), count_B.tolist(), strict=True)
    return [10 * math.log10(4 / max(error / count, 1e-12)) if count else None for error, count in ratios]


def pasted(video_BCTHW: Tensor, known: Known) -> Tensor:
    """The video with what is known put in its place: a mask between 0 and 1 mixes."""
    return torch.lerp(video_BCTHW, known.video_BCTHW.to(video_BCTHW), known.mask_B1THW.to(video_BCTHW))


def joined(noisy_BCTHW: Tensor, known: Known) -> Tensor:
    """<J, C, M>, (B, 2C + 1, T, H, W)."""
    return torch.cat([noisy_BCTHW, known.beside], dim=1)


def _check(mask: Tensor, shape: tuple[int, ...], name: str) -> None:
    if tuple(mask.shape) != shape:
        raise ValueError(f"{name}: a mask of shape {shape} expected, given {tuple(mask.shape)}")
