"""Videos to the space that the U-Net works in, and back: pixels as they are, or a VAE frame by frame.

Shape letters: B videos, C channels, T frames, H height, W width.
"""

from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from stunet.conditions import Known

_FRAMES_AT_ONCE = 16


def shrinking(vae: AutoencoderKL | None) -> int:
    """Pixels of a side that become one latent."""
    return 1 if vae is None else 2 ** (len(vae.config["block_out_channels"]) - 1)


def latent_shape(vae: AutoencoderKL | None, num_frames: int, size_px: int) -> tuple[int, int, int, int]:
    """(C, T, H, W) of a square video in the U-Net's space."""
    if vae is None:
        return 3, num_frames, size_px, size_px
    side = size_px // shrinking(vae)
    return int(vae.config["latent_channels"]), num_frames, side, side


@torch.no_grad()
def to_latents(video_BCTHW: Tensor, vae: AutoencoderKL | None) -> Tensor:
    """Pixels in [-1, 1] to latents of unit scale: the mode of the VAE's posterior, so that no chance is in it."""
    if vae is None:
        return video_BCTHW
    scale = float(vae.config["scaling_factor"])
    frames_NCHW = video_BCTHW.transpose(1, 2).flatten(0, 1)
    coded = [
        vae.encode(part, return_dict=False)[0].mode() * scale  # pyright: ignore[reportAttributeAccessIssue]  # a tuple
        for part in frames_NCHW.split(_FRAMES_AT_ONCE)
    ]
    return torch.cat(coded).unflatten(0, (len(video_BCTHW), -1)).transpose(1, 2)


@torch.no_grad()
def to_pixels(latent_BCTHW: Tensor, vae: AutoencoderKL | None) -> Tensor:
    """The way back, to [-1, 1] except for overshoot."""
    if vae is None:
        return latent_BCTHW
    scale = float(vae.config["scaling_factor"])
    frames_NCHW = (latent_BCTHW / scale).transpose(1, 2).flatten(0, 1)
    decode: Any = vae.decode  # diffusers asks for a FloatTensor, a type that torch no longer makes
    pixels = [decode(part, return_dict=False)[0] for part in frames_NCHW.split(_FRAMES_AT_ONCE)]
    return torch.cat(pixels).unflatten(0, (len(latent_BCTHW), -1)).transpose(1, 2)


@torch.no_grad()
def known_latents(known: Known, vae: AutoencoderKL | None, device: torch.device | str) -> Known:
    """C and M in the U-Net's space, on its device: a latent is known where all of its pixels are.

    C means there what it means in pixels: where it is blank (known nowhere, and exactly 0) latents are 0, and where it
    shows something that is not known, as a cinemagraph's moving region does, they show it. Frames that are blank do not
    pass the VAE.
    """
    known = Known(*(value.to(device) for value in known))
    if vae is None:
        return known
    # No 8-bit level is 0 in [-1, 1], so that a zero in all three channels is blank.
    is_shown_B1THW = ((known.video_BCTHW != 0).any(1, keepdim=True) | (known.mask_B1THW > 0)).float()
    batch, _, num_frames, height, width = known.video_BCTHW.shape
    is_shown_N = is_shown_B1THW.transpose(1, 2).flatten(0, 1).flatten(1).any(1)
    frames_NC1HW = known.video_BCTHW.transpose(1, 2).flatten(0, 1)[is_shown_N, :, None]
    side = (height // shrinking(vae), width // shrinking(vae))
    latent_NCHW = frames_NC1HW.new_zeros(batch * num_frames, int(vae.config["latent_channels"]), *side)
    if len(frames_NC1HW):
        latent_NCHW[is_shown_N] = to_latents(frames_NC1HW, vae)[:, :, 0]
    latent_BCTHW = latent_NCHW.unflatten(0, (batch, num_frames)).transpose(1, 2)
    size = (num_frames, *side)
    return Known(latent_BCTHW * _whole(is_shown_B1THW, size), _whole(known.mask_B1THW, size))


def _whole(mask_B1THW: Tensor, size: tuple[int, int, int]) -> Tensor:
    """1 where all of a latent's pixels are."""
    return -F.adaptive_max_pool3d(-mask_B1THW, size)
