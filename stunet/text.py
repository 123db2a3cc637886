"""Frozen text encoders: prompts to what the image U-Net was trained with.

Shape letters: B batch, L text tokens, D text width, P width of a whole prompt's embedding.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

_OPEN_CLIP = "open_clip_text.json"
_LOCAL = "local-dir:"
_HUB = "hf-hub:"
_LAYERS = ("last", "penultimate")
_KINDS = {"clip_text_model": "CLIPTextModel", "t5": "T5EncoderModel"}
_MOST_TOKENS = 77
"""T5 has no length of its own; DeepFloyd IF was trained with as many tokens as CLIP has."""
_EMPTY_IS_ZERO = "force_zeros_for_empty_prompt"


class TextError(ValueError):
    """A text encoder that cannot be loaded; the message names the folder."""


@dataclass(frozen=True)
class Text:
    """Prompts as the U-Net reads them.

    Attributes:
        hidden_BLD: One state a token.
        pooled_BP: One embedding a prompt; None where the U-Net takes none: all but SDXL's.
    """

    hidden_BLD: Tensor
    pooled_BP: Tensor | None = None

    def to(self, dtype: torch.dtype) -> "Text":
        """The same in a model's precision."""
        return Text(self.hidden_BLD.to(dtype), None if self.pooled_BP is None else self.pooled_BP.to(dtype))

    def conditions(self, size: tuple[int, int]) -> dict[str, Any]:
        """What else the U-Net's forward takes: nothing, or SDXL's embedding and sizes (arXiv 2307.01952, section 2.2).

        The sizes are `time_ids`, (B, 6): that of the original, the corner at which it was cropped, and that of the
        result. Here original and result are the video, cropped nowhere. They are whole numbers, exact in any precision.

        Args:
            size: (height, width) of the video in pixels.
        """
        if self.pooled_BP is None:
            return {}
        sizes_6 = torch.tensor([*size, 0, 0, *size], device=self.pooled_BP.device)
        return {
            "added_cond_kwargs": {"text_embeds": self.pooled_BP, "time_ids": sizes_6.repeat(len(self.pooled_BP), 1)}
        }


class OpenClipText(nn.Module):
    """The text tower of an open_clip model: hidden states of all tokens, after the final norm.

    Args:
        model: What open_clip made; it is taken over, not copied.
        tokenizer: open_clip's.
        layer: Whose states: those of the `last` transformer block, or of the `penultimate` one, as Stable Diffusion 2
            was trained with OpenCLIP ViT-H/14 (clip skip). Both pass the final norm.
    """

    def __init__(self, model: Any, tokenizer: Any, layer: Literal["last", "penultimate"] = "last") -> None:
        super().__init__()
        tower = getattr(model, "text", model)  # CustomTextCLIP keeps it in a module, CLIP in itself
        self.token_embedding = tower.token_embedding
        self.positional_embedding = tower.positional_embedding
        self.transformer = tower.transformer
        if layer == "penultimate":
            self.transformer.resblocks = self.transformer.resblocks[:-1]
        self.ln_final = tower.ln_final
        self.register_buffer("attention_mask", tower.attn_mask, persistent=False)
        self.tokenizer = tokenizer
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Text:
        """One row a prompt."""
        tokens_BL = self.tokenizer(list(prompts)).to(self.positional_embedding.device)
        hidden_BLD = self.token_embedding(tokens_BL) + self.positional_embedding
        return Text(self.ln_final(self.transformer(hidden_BLD, attn_mask=self.attention_mask)))


class TransformersText(nn.Module):
    """A transformers text model of a diffusers folder, CLIP or T5: last hidden states of all tokens.

    Args:
        model: A CLIPTextModel or a T5EncoderModel.
        tokenizer: Its own.
        is_masked: Whether the model leaves padding out.
        is_lowered: Whether prompts are stripped and lower-cased first, as DeepFloyd IF's were in training.
    """

    def __init__(self, model: nn.Module, tokenizer: Any, is_masked: bool, is_lowered: bool = False) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.is_masked = is_masked
        self.is_lowered = is_lowered
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Text:
        """One row a prompt."""
        if self.is_lowered:
            prompts = [prompt.lower().strip() for prompt in prompts]
        words = _words(self.tokenizer, prompts, self.model)
        # As the image models were trained: T5 does not look at padding, CLIP does.
        mask = {"attention_mask": words.attention_mask} if self.is_masked else {}
        return Text(self.model(input_ids=words.input_ids, **mask).last_hidden_state)


class PairedText(nn.Module):
    """SDXL's two CLIP text models of transformers (arXiv 2307.01952, section 2.1).

    Args:
        first: A CLIPTextModel and its tokenizer.
        second: A CLIPTextModelWithProjection and its tokenizer.
        is_empty_zero: Whether the empty prompt is zeros, as SDXL was trained without text, or what the models make of
            it.
    """

    def __init__(self, first: tuple[nn.Module, Any], second: tuple[nn.Module, Any], is_empty_zero: bool) -> None:
        super().__init__()
        self.first, self.tokenizer = first
        self.second, self.tokenizer_2 = second
        self.is_empty_zero = is_empty_zero
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Text:
        """One row a prompt: states before the last layer, side by side, and the second model's projected embedding."""
        one = self.first(_words(self.tokenizer, prompts, self.first).input_ids, output_hidden_states=True)
        two = self.second(_words(self.tokenizer_2, prompts, self.second).input_ids, output_hidden_states=True)
        hidden_BLD = torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1)
        pooled_BP = two.text_embeds
        if self.is_empty_zero:
            is_empty_B = torch.tensor([not prompt for prompt in prompts], device=pooled_BP.device)
            hidden_BLD = hidden_BLD.masked_fill(is_empty_B[:, None, None], 0)
            pooled_BP = pooled_BP.masked_fill(is_empty_B[:, None], 0)
        return Text(hidden_BLD, pooled_BP)


TextEncoder = OpenClipText | TransformersText | PairedText


def load_text_encoder(backbone: Path) -> TextEncoder:
    """The text encoder of a diffusers folder.

    `text_encoder/open_clip_text.json` names an open_clip model: `{"model": "local-dir:../../clip"}`, a path relative to
    that file's folder, `{"model": "hf-hub:organisation/model"}`, or a name of open_clip with its weights,
    `{"model": "ViT-H-14", "pretrained": "laion2b_s32b_b79k", "layer": "penultimate"}`: `pretrained` is a tag of
    open_clip or a .safetensors file relative to that folder, `layer` is `last` (the default) or `penultimate`, as
    Stable Diffusion 2 was trained.

    Without that file `text_encoder/` and `tokenizer/` are transformers' CLIP, or T5 (DeepFloyd IF). With
    `text_encoder_2/` and `tokenizer_2/` they are SDXL's two CLIPs. There the empty prompt is zeros, unless
    `model_index.json` says that `force_zeros_for_empty_prompt` is false; diffusers' own default is true.

    A T5 of DeepFloyd IF (a `_class_name` in `model_index.json` that begins with IF) reads prompts in lower case.

    Raises:
        TextError: Something of this is not there, cannot be read, or is of another kind; the message names it.
    """
    if (backbone / "text_encoder_2").is_dir():
        first = _transformers_model(backbone, "", {"clip_text_model": "CLIPTextModel"})
        second = _transformers_model(backbone, "_2", {"clip_text_model": "CLIPTextModelWithProjection"})
        return PairedText(first[:2], second[:2], bool(_index(backbone).get(_EMPTY_IS_ZERO, True)))
    folder = backbone / "text_encoder"
    if (folder / _OPEN_CLIP).is_file():
        return _open_clip_text(folder / _OPEN_CLIP)
    if not (folder / "config.json").is_file():
        raise TextError(f"{folder}: {_OPEN_CLIP} or transformers' config.json is expected, neither is there")
    model, tokenizer, kind = _transformers_model(backbone, "", _KINDS)
    is_if = str(_index(backbone).get("_class_name", "")).startswith("IF")
    return TransformersText(model, tokenizer, is_masked=kind == "t5", is_lowered=kind == "t5" and is_if)


def _transformers_model(backbone: Path, number: str, kinds: Mapping[str, str]) -> tuple[nn.Module, Any, str]:
    """The model of `text_encoder<number>/`, the tokenizer of `tokenizer<number>/`, and which of the kinds it is."""
    folder, words = backbone / f"text_encoder{number}", backbone / f"tokenizer{number}"
    if not (folder / "config.json").is_file():
        raise TextError(f"{folder}: a transformers model is expected, config.json is missing")
    kind = json.loads((folder / "config.json").read_text()).get("model_type")
    if kind not in kinds:
        raise TextError(f"{folder}/config.json: model_type {' or '.join(kinds)} expected, given {kind!r}")
    if not (words / "tokenizer_config.json").is_file():
        raise TextError(f"{words}: the tokenizer of {folder.name} is expected, tokenizer_config.json is missing")
    import transformers

    model_type: Any = getattr(transformers, kinds[kind])
    model = model_type.from_pretrained(folder, use_safetensors=True).float()
    return model, transformers.AutoTokenizer.from_pretrained(words), kind


def _words(tokenizer: Any, prompts: Sequence[str], model: nn.Module) -> Any:
    """Token numbers and their mask, (B, L) each, on the model's device."""
    words = tokenizer(
        list(prompts),
        padding="max_length",
        truncation=True,
        max_length=min(tokenizer.model_max_length, _MOST_TOKENS),
        return_tensors="pt",
    )
    return words.to(next(model.parameters()).device)


def _index(backbone: Path) -> dict[str, Any]:
    """What `model_index.json` says; nothing where there is none."""
    file = backbone / "model_index.json"
    return json.loads(file.read_text()) if file.is_file() else {}


def _open_clip_text(file: Path) -> OpenClipText:
    import open_clip

    told = json.loads(file.read_text())
    layer = told.get("layer", "last")
    if layer not in _LAYERS:
        raise TextError(f"{file}: layer: {' or '.join(_LAYERS)} expected, given {layer!r}")
    name = _open_clip_name(file, str(told.get("model", "")))
    pretrained = _pretrained(file, name, told.get("pretrained"))
    try:
        # Required: without weights open_clip would give a random model, and say so in its log alone.
        model = open_clip.create_model(name, pretrained=pretrained, device="cpu", require_pretrained=True)
        tokenizer = open_clip.get_tokenizer(name)
    except (RuntimeError, OSError, ValueError, KeyError, SafetensorError) as error:
        given = name if pretrained is None else f"{name} with the weights {pretrained}"
        raise TextError(f"{file}: open_clip cannot load {given}: {error}") from error
    return OpenClipText(model, tokenizer, layer)


def _open_clip_name(file: Path, name: str) -> str:
    """The key `model`, with the folder of `local-dir:` made absolute."""
    if not name:
        raise TextError(f"{file}: the key `model` is expected")
    if not name.startswith(_LOCAL):
        return name
    folder = (file.parent / name.removeprefix(_LOCAL)).resolve()
    if not (folder / "open_clip_config.json").is_file():
        raise TextError(f"{file}: model {name!r} has no open_clip_config.json")
    return f"{_LOCAL}{folder}"


def _pretrained(file: Path, name: str, pretrained: str | None) -> str | None:
    """The key `pretrained`: a tag of open_clip, or a file of weights next to `file`; None where `model` has its own."""
    if name.startswith((_LOCAL, _HUB)):
        if pretrained is not None:
            raise TextError(f"{file}: pretrained: {name!r} has weights of its own, given {pretrained!r} too")
        return None
    if not pretrained:
        raise TextError(
            f"{file}: pretrained: a tag of open_clip or a .safetensors file is expected with model {name!r}, "
            f"given {pretrained!r}; without it the text encoder would be random"
        )
    if not pretrained.endswith(".safetensors"):
        return pretrained
    weights = (file.parent / pretrained).resolve()
    if not weights.is_file():
        raise TextError(f"{file}: pretrained: there is no file {weights}")
    return str(weights)
