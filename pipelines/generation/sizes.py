"""Which sizes of videos a backbone makes, told from the files of its diffusers folder without loading it."""

import json
import math
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

_EVEN = 2
"""H.264 halves the colour planes."""
_EXACT_BLOCKS = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D", "SimpleCrossAttn")
"""DeepFloyd IF's: they resize by 2 exactly, and skips of odd sides do not meet; Stable Diffusion's take any side."""
_FACTORS = {"IFSuperResolutionPipeline": 4, "StableDiffusionUpscalePipeline": 4}
"""How much known upscalers enlarge, by the pipeline that `model_index.json` names."""
_FACTOR = 2


class RecipeError(ValueError):
    """A geometry, a sampler or a task that cannot be made; the message names the key or the request."""


class Sides(NamedTuple):
    """Of an upscaler's videos, in pixels."""

    low_px: int
    size_px: int


def image_size_px(backbone: Path) -> int:
    """What the image U-Net was trained on, through the VAE where there is one."""
    return int(_config(backbone, "unet")["sample_size"]) * vae_factor(backbone)


def vae_factor(backbone: Path) -> int:
    """Pixels of a side that become one latent; 1 without a VAE."""
    if not (backbone / "vae" / "config.json").is_file():
        return 1
    return 2 ** (len(_config(backbone, "vae")["block_out_channels"]) - 1)


def latent_channels(backbone: Path) -> int:
    """C of the U-Net's space."""
    has_vae = (backbone / "vae" / "config.json").is_file()
    return int(_config(backbone, "vae")["latent_channels"]) if has_vae else 3


def input_channels(backbone: Path) -> int:
    """What the image U-Net's first convolution takes."""
    return int(_config(backbone, "unet")["in_channels"])


def num_noise_levels(backbone: Path) -> int:
    """Levels of noise that an upscaler can be told: those of its schedule, and of its class labels."""
    schedule = json.loads((backbone / "scheduler" / "scheduler_config.json").read_text())
    levels = int(schedule.get("num_train_timesteps", 1000))
    return min(levels, int(_config(backbone, "unet").get("num_class_embeds") or levels))


def check_size(size_px: int, backbone: Path, key: str) -> None:
    """Refuse a side that would come out as another one, or crash in the U-Net.

    Raises:
        RecipeError: It is odd, no multiple of the VAE's factor, or one that the U-Net's halvings do not divide.
    """
    unet, vae = _config(backbone, "unet"), vae_factor(backbone)
    blocks = [*unet.get("down_block_types", ()), *unet.get("up_block_types", ())]
    is_exact = any(name.startswith(_EXACT_BLOCKS) for name in blocks)
    halvings = 2 ** (len(unet["block_out_channels"]) - 1) if is_exact else 1
    step = math.lcm(_EVEN, vae * halvings)
    if size_px % step == 0:
        return
    why = (
        {vae * halvings: "the U-Net halves its side", vae: "the VAE shrinks by that"}.get(step, "") if step > 2 else ""
    )
    expected = (
        f"a multiple of {step} is expected ({why})" if why else "an even number is expected (H.264 halves colours)"
    )
    below = size_px // step * step
    nearest = f"{below} and {below + step}" if below else f"{step}"
    raise RecipeError(f"{key}: {expected}, given {size_px}; nearest: {nearest}")


def upscaler_sides(low_px: int | None, size_px: int | None, backbone: Path, trained: Mapping[str, Any]) -> Sides:
    """From which side to which an upscaler enlarges.

    It was trained to enlarge by one factor: its weights tell from which side, else the kind of its pipeline does, else
    it is 2. One given side decides the other by that factor; without any it is what the upscaler was trained on.

    Args:
        low_px: `ssr.low_size_px`.
        size_px: `ssr.size_px`.
        backbone: The upscaler's folder.
        trained: What the training of its temporal weights wrote.
    """
    whole = image_size_px(backbone)
    factor = _factor(backbone, trained)
    if size_px is None:
        size_px = whole if low_px is None else round(low_px * factor)
    return Sides(max(1, round(size_px / factor)) if low_px is None else low_px, size_px)


def _factor(backbone: Path, trained: Mapping[str, Any]) -> Fraction:
    told = trained.get("low_size_px") or trained.get("recipe", {}).get("upscaling", {}).get("low_size_px")
    if told and trained.get("size_px"):
        return Fraction(int(trained["size_px"]), int(told))
    index = backbone / "model_index.json"
    kind = json.loads(index.read_text()).get("_class_name") if index.is_file() else None
    return Fraction(_FACTORS.get(str(kind), _FACTOR))


def _config(backbone: Path, part: str) -> dict[str, Any]:
    return json.loads((backbone / part / "config.json").read_text())
