"""Stylised generation by weight interpolation (Lumiere, section 4).

The spatial weights move towards those of an image model that was fine-tuned on a style; temporal weights are untouched.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from stunet.inflate import STUNet, image_state_dict


class StyleError(ValueError):
    """A style that cannot be applied; the message names alpha or the weight."""


def interpolate(unet_state: Mapping[str, Tensor], style_state: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """W = alpha W_style + (1 - alpha) W_orig, weight by weight; the ends are exact.

    Args:
        unet_state: The image U-Net's state dict.
        style_state: Of the same U-Net, fine-tuned on a style.
        alpha: 0 (original) to 1 (style); the paper uses 0.5 to 1.

    Raises:
        StyleError: `alpha` outside [0, 1], or a weight that is missing or of another shape.
    """
    if not 0.0 <= alpha <= 1.0:
        raise StyleError(f"alpha: 0 to 1 expected, given {alpha}")
    different = sorted(unet_state.keys() ^ style_state.keys())
    if different:
        raise StyleError(f"style: the U-Net's own weights are expected, {different[0]} is not in both")
    for name, value in unet_state.items():
        if style_state[name].shape != value.shape:
            raise StyleError(f"style: {name}: {tuple(value.shape)} expected, given {tuple(style_state[name].shape)}")
    return {name: torch.lerp(value, style_state[name].to(value), alpha) for name, value in unet_state.items()}


@torch.no_grad()
def apply_image_state(stunet: STUNet, state: Mapping[str, Tensor]) -> None:
    """Put an image U-Net's weights into a STUNet, and so into the image U-Net that shares them."""
    for name, value in image_state_dict(stunet).items():
        value.copy_(state[name])
