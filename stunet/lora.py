"""A style from a file: a fine-tuned U-Net, or a LoRA (arXiv 2106.09685) in diffusers' format, as an image state dict.

A LoRA is fused: W' = W + scale B A for every layer that it names. Then a style is a state dict like any other, and
`style.interpolate` is all there is to it.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from stunet.style import StyleError

_WEIGHTS = "diffusion_pytorch_model.safetensors"
_INDEX = f"{_WEIGHTS}.index.json"
_PARTS = {
    ".lora_A.weight": "a",
    ".lora_B.weight": "b",
    ".lora.down.weight": "a",
    ".lora.up.weight": "b",
    "_lora.down.weight": "a",
    "_lora.up.weight": "b",
    ".alpha": "alpha",
}
"""Endings that diffusers has written over the years."""
_KOHYA = ("lora_unet_", "lora_te_", "lora_te1_", "lora_te2_")
_DORA = ("lora_magnitude_vector", "dora_scale")
_TEXT = ("text_encoder", "text_model")
_METADATA = "lora_adapter_metadata"


class _Stored(NamedTuple):
    tensors: dict[str, Tensor]
    header: Mapping[str, str]


@dataclass(frozen=True)
class LoraSettings:
    """How a LoRA was trained, as far as its tensors do not say it.

    Attributes:
        alpha: Of all layers but those that a pattern names; None: each layer's rank.
        alpha_by_pattern: peft's `alpha_pattern`: a layer's name or its end, as a regular expression; the first one
            counts. (`rank_pattern` is not needed: a layer's rank is a shape.)
        is_rank_stabilised: The scale is alpha / sqrt(rank) (rsLoRA, arXiv 2312.03732) instead of alpha / rank.
    """

    alpha: float | None = None
    alpha_by_pattern: Mapping[str, float] = field(default_factory=dict[str, float])
    is_rank_stabilised: bool = False

    def scale(self, layer: str, rank: int, own_alpha: float | None) -> float:
        """What the product of a layer's halves is multiplied by; `own_alpha` is a tensor's of the file."""
        found = (value for pattern, value in self.alpha_by_pattern.items() if _names(pattern, layer))
        alpha = own_alpha if own_alpha is not None else next(found, self.alpha)
        if alpha is None:
            return 1.0
        return alpha / (math.sqrt(rank) if self.is_rank_stabilised else rank)


def load_style(path: str | Path, unet_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The image state dict of a style.

    Args:
        path: A diffusers folder (or its `unet/`), sharded or not, a safetensors file of a U-Net, or one of a LoRA.
        unet_state: The image U-Net's; a LoRA is added to it.

    Raises:
        StyleError: No such file, not safetensors, a LoRA of layers that the U-Net has not, or one of another kind
            (kohya's format, DoRA, with biases); the message names them.
    """
    files = style_files(path)
    stored = [_read(file) for file in files]
    tensors = {name: tensor for one in stored for name, tensor in one.tensors.items()}
    name = str(files[0])
    if any(key.startswith(_KOHYA) for key in tensors):
        raise StyleError(
            f"style {name}: diffusers' format of a LoRA is expected (keys such as unet.<layer>.lora_A.weight), given "
            f"kohya's ({min(tensors)}); diffusers' `load_lora_weights` and `save_lora_weights` turn one into the other"
        )
    if not any(key.endswith(ending) for key in tensors for ending in _PARTS if ending != ".alpha"):
        return tensors
    return fused(unet_state, tensors, name, _settings(stored[0].header, name))


def find_style(path: str | Path) -> Path:
    """The file of a style; of one in several files, the index that names them.

    Raises:
        StyleError: There is none.
    """
    folder = Path(path)
    names = (_WEIGHTS, f"unet/{_WEIGHTS}", "pytorch_lora_weights.safetensors", _INDEX, f"unet/{_INDEX}")
    for file in (folder, *(folder / name for name in names)):
        if file.is_file():
            return file
    raise StyleError(f"style {path}: a diffusers folder or a .safetensors file is expected, there is none")


def style_files(path: str | Path) -> list[Path]:
    """The files of a style's weights, one or, of a sharded U-Net, several, in the order of their names.

    Raises:
        StyleError: There are none, or one that the index names is missing.
    """
    file = find_style(path)
    if not file.name.endswith(".index.json"):
        return [file]
    names = sorted(set(json.loads(file.read_text())["weight_map"].values()))
    for name in names:
        if not (file.parent / name).is_file():
            raise StyleError(f"style {file}: {name} is named in it and is not there")
    return [file.parent / name for name in names]


def fused(
    unet_state: Mapping[str, Tensor], lora: Mapping[str, Tensor], name: str, settings: LoraSettings | None = None
) -> dict[str, Tensor]:
    """The state dict with a LoRA in it: W + scale B A, scale = alpha / rank; alpha is the rank where none is told.

    Args:
        unet_state: The image U-Net's.
        lora: Keys such as `unet.mid_block.attentions.0.proj_in.lora_A.weight`; those of a text encoder are left out.
        name: Of the file, for messages.
        settings: From the file's header; None where it says nothing.

    Raises:
        StyleError: Half a pair, a layer that is not there or has another shape, tensors of another kind, or nothing
            for the U-Net.
    """
    pairs = dict(_pairs(lora, name))
    if not pairs:
        raise StyleError(f"{name}: a LoRA for the U-Net is expected, none of its keys are the U-Net's")
    state = dict(unet_state)
    for layer, parts in pairs.items():
        key = f"{layer}.weight"
        if key not in state:
            raise StyleError(f"{name}: {layer}: the U-Net has no such layer")
        if not {"a", "b"} <= parts.keys():
            raise StyleError(f"{name}: {layer}: both halves of a LoRA expected, given one")
        own_alpha = float(parts["alpha"]) if "alpha" in parts else None
        scale = (settings or LoraSettings()).scale(layer, len(parts["a"]), own_alpha)
        change = _product(parts["a"].float(), parts["b"].float())
        if change.numel() != state[key].numel():
            raise StyleError(f"{name}: {layer}: {tuple(state[key].shape)} expected, given {tuple(change.shape)}")
        state[key] = state[key] + (scale * change.view(state[key].shape)).to(state[key])
    return state


def _product(down: Tensor, up: Tensor) -> Tensor:
    """B A of linear layers, and of convolutions: A has the kernel, B is 1 x 1."""
    return torch.einsum("or,r...->o...", up.flatten(1), down)


def _pairs(lora: Mapping[str, Tensor], name: str) -> Iterator[tuple[str, dict[str, Tensor]]]:
    layers: dict[str, dict[str, Tensor]] = {}
    for key, value in lora.items():
        if key.startswith(_TEXT):
            continue
        ending = next((ending for ending in _PARTS if key.endswith(ending)), None)
        if ending is None:
            raise StyleError(f"{name}: {key}: {_why_not(key)}")
        layer = key.removeprefix("unet.").removesuffix(ending).replace(".processor.", ".")
        layer = f"{layer}.0" if layer.endswith(".to_out") else layer  # as old files have it
        layers.setdefault(layer, {})[_PARTS[ending]] = value
    return iter(layers.items())


def _why_not(key: str) -> str:
    if any(part in key for part in _DORA):
        return "a DoRA (arXiv 2402.09353) is not a sum of a weight and a product, it cannot be fused here"
    if key.endswith(".bias"):
        return "the halves of a LoRA are expected, a bias of them (lora_bias) cannot be fused here"
    return f"a key that ends in one of {', '.join(_PARTS)} is expected"


def _settings(header: Mapping[str, str], name: str) -> LoraSettings:
    """Settings of a file that diffusers wrote with those of its adapter in the header.

    Its pipelines write those of all their models, each under the model's name; a U-Net alone writes its own.
    """
    told: dict[str, Any] = json.loads(header.get(_METADATA, "{}"))
    own = {key.removeprefix("unet."): value for key, value in told.items() if not key.startswith(_TEXT)}
    for key, kind in (("use_dora", "a DoRA"), ("lora_bias", "a LoRA with biases")):
        if own.get(key):
            raise StyleError(f"{name}: {kind} ({key} in its header) cannot be fused here")
    alpha = own.get("lora_alpha")
    by_pattern = {pattern: float(value) for pattern, value in (own.get("alpha_pattern") or {}).items()}
    return LoraSettings(None if alpha is None else float(alpha), by_pattern, bool(own.get("use_rslora")))


def _names(pattern: str, layer: str) -> bool:
    """Whether one of peft's patterns is a layer's whole name or the end of it behind a dot."""
    return re.fullmatch(rf"(.*\.)?({pattern})", layer) is not None


def _read(file: Path) -> _Stored:
    try:
        with safe_open(file, framework="pt") as stored:
            names: list[str] = stored.keys()
            return _Stored({name: stored.get_tensor(name) for name in names}, stored.metadata() or {})
    except SafetensorError as error:
        raise StyleError(f"style {file}: not a readable safetensors file: {error}") from error
