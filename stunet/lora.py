"""A style from a file: a fine-tuned U-Net, or a LoRA (arXiv 2106.09685) in diffusers' format, as an image state dict.

A LoRA is fused: W' = W + scale B A for every layer that it names. Then a style is a state dict like any other, and
`style.interpolate` is all there is to it.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from stunet.style import StyleError

_WEIGHTS = "diffusion_pytorch_model.safetensors"
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
_METADATA = "lora_adapter_metadata"


class _Stored(NamedTuple):
    tensors: dict[str, Tensor]
    header: Mapping[str, str]


def load_style(path: str | Path, unet_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The image state dict of a style.

    Args:
        path: A diffusers folder (or its `unet/`), a safetensors file of a U-Net, or one of a LoRA.
        unet_state: The image U-Net's; a LoRA is added to it.

    Raises:
        StyleError: No such file, not safetensors, or a LoRA of layers that the U-Net has not; the message names them.
    """
    file = find_style(path)
    stored = _read(file)
    if not any(name.endswith(ending) for name in stored.tensors for ending in _PARTS if ending != ".alpha"):
        return stored.tensors
    return fused(unet_state, stored.tensors, str(file), _alphas(stored.header))


def find_style(path: str | Path) -> Path:
    """The file of a style.

    Raises:
        StyleError: There is none.
    """
    folder = Path(path)
    candidates = (folder, folder / _WEIGHTS, folder / "unet" / _WEIGHTS, folder / "pytorch_lora_weights.safetensors")
    for file in candidates:
        if file.is_file():
            return file
    raise StyleError(f"style {path}: a diffusers folder or a .safetensors file is expected, there is none")


def fused(
    unet_state: Mapping[str, Tensor], lora: Mapping[str, Tensor], name: str, alphas: Mapping[str, float] | None = None
) -> dict[str, Tensor]:
    """The state dict with a LoRA in it: W + (alpha / rank) B A; alpha is the rank where none is told.

    Args:
        unet_state: The image U-Net's.
        lora: Keys such as `unet.mid_block.attentions.0.proj_in.lora_A.weight`; those of a text encoder are left out.
        name: Of the file, for messages.
        alphas: By layer, from the file's header; `""` for all others.

    Raises:
        StyleError: Half a pair, a layer that is not there or has another shape, or nothing for the U-Net.
    """
    pairs = dict(_pairs(lora))
    if not pairs:
        raise StyleError(f"{name}: a LoRA for the U-Net is expected, none of its keys are the U-Net's")
    state = dict(unet_state)
    for layer, parts in pairs.items():
        key = f"{layer}.weight"
        if key not in state:
            raise StyleError(f"{name}: {layer}: the U-Net has no such layer")
        if not {"a", "b"} <= parts.keys():
            raise StyleError(f"{name}: {layer}: both halves of a LoRA expected, given one")
        rank, told = len(parts["a"]), (alphas or {}).get(layer, (alphas or {}).get(""))
        alpha = float(parts["alpha"]) if "alpha" in parts else told
        change = _product(parts["a"].float(), parts["b"].float())
        if change.numel() != state[key].numel():
            raise StyleError(f"{name}: {layer}: {tuple(state[key].shape)} expected, given {tuple(change.shape)}")
        scale = 1.0 if alpha is None else alpha / rank
        state[key] = state[key] + (scale * change.view(state[key].shape)).to(state[key])
    return state


def _product(down: Tensor, up: Tensor) -> Tensor:
    """B A of linear layers, and of convolutions: A has the kernel, B is 1 x 1."""
    return torch.einsum("or,r...->o...", up.flatten(1), down)


def _pairs(lora: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    layers: dict[str, dict[str, Tensor]] = {}
    for key, value in lora.items():
        if key.startswith(("text_encoder", "text_model")):
            continue
        for ending, part in _PARTS.items():
            if key.endswith(ending):
                layer = key.removeprefix("unet.").removesuffix(ending).replace(".processor.", ".")
                layer = f"{layer}.0" if layer.endswith(".to_out") else layer  # as old files have it
                layers.setdefault(layer, {})[part] = value
                break
    return iter(layers.items())


def _alphas(header: Mapping[str, str]) -> dict[str, float]:
    """Alphas of a file that diffusers wrote with its adapter's settings in the header."""
    settings: dict[str, Any] = json.loads(header.get(_METADATA, "{}"))
    own = {key.removeprefix("unet."): value for key, value in settings.items() if key.startswith("unet.")}
    alphas = {layer: float(value) for layer, value in own.get("alpha_pattern", {}).items()}
    return alphas | ({"": float(own["lora_alpha"])} if "lora_alpha" in own else {})


def _read(file: Path) -> _Stored:
    try:
        with safe_open(file, framework="pt") as stored:
            names: list[str] = stored.keys()
            return _Stored({name: stored.get_tensor(name) for name in names}, stored.metadata() or {})
    except SafetensorError as error:
        raise StyleError(f"style {file}: not a readable safetensors file: {error}") from error
