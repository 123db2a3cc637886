"""Frozen text encoders: prompts to one hidden state a token, as the image U-Net was trained with.

Shape letters: B batch, L text tokens, D text width.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

_OPEN_CLIP = "open_clip_text.json"
_LOCAL = "local-dir:"
_KINDS = {"clip_text_model": "CLIPTextModel", "t5": "T5EncoderModel"}
_MOST_TOKENS = 77
"""T5 has no length of its own; DeepFloyd IF was trained with as many tokens as CLIP has."""


class TextError(ValueError):
    """A text encoder that cannot be loaded; the message names the folder."""


class OpenClipText(nn.Module):
    """The text tower of an open_clip model: last hidden states of all tokens, after the final norm."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        tower = getattr(model, "text", model)  # CustomTextCLIP keeps it in a module, CLIP in itself
        self.token_embedding = tower.token_embedding
        self.positional_embedding = tower.positional_embedding
        self.transformer = tower.transformer
        self.ln_final = tower.ln_final
        self.register_buffer("attention_mask", tower.attn_mask, persistent=False)
        self.tokenizer = tokenizer
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """(B, L, D)."""
        tokens_BL = self.tokenizer(list(prompts)).to(self.positional_embedding.device)
        hidden_BLD = self.token_embedding(tokens_BL) + self.positional_embedding
        return self.ln_final(self.transformer(hidden_BLD, attn_mask=self.attention_mask))


class TransformersText(nn.Module):
    """A transformers text model of a diffusers folder, CLIP or T5: last hidden states of all tokens."""

    def __init__(self, model: nn.Module, tokenizer: Any, is_masked: bool) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.is_masked = is_masked
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """(B, L, D)."""
        words = self.tokenizer(
            list(prompts),
            padding="max_length",
            truncation=True,
            max_length=min(self.tokenizer.model_max_length, _MOST_TOKENS),
            return_tensors="pt",
        )
        device = next(self.model.parameters()).device
        # As the image models were trained: T5 does not look at padding, CLIP does.
        mask = {"attention_mask": words.attention_mask.to(device)} if self.is_masked else {}
        return self.model(input_ids=words.input_ids.to(device), **mask).last_hidden_state


def load_text_encoder(backbone: Path) -> OpenClipText | TransformersText:
    """The text encoder of a diffusers folder.

    `text_encoder/open_clip_text.json` names an open_clip model, `{"model": "local-dir:../../clip"}`, a path relative
    to that file's folder; without it `text_encoder/` and `tokenizer/` are transformers' CLIP, or T5 (DeepFloyd IF).

    Raises:
        TextError: Neither is there, or the named model is not.
    """
    folder = backbone / "text_encoder"
    if (folder / _OPEN_CLIP).is_file():
        return _open_clip_text(folder / _OPEN_CLIP)
    if not (folder / "config.json").is_file():
        raise TextError(f"{folder}: {_OPEN_CLIP} or transformers' config.json is expected, neither is there")
    kind = json.loads((folder / "config.json").read_text()).get("model_type")
    if kind not in _KINDS:
        raise TextError(f"{folder}/config.json: model_type {' or '.join(_KINDS)} expected, given {kind!r}")
    import transformers

    model_type: Any = getattr(transformers, _KINDS[kind])
    model = model_type.from_pretrained(folder, use_safetensors=True).float()
    tokenizer = transformers.AutoTokenizer.from_pretrained(backbone / "tokenizer")
    return TransformersText(model, tokenizer, is_masked=kind == "t5")


def _open_clip_text(file: Path) -> OpenClipText:
    name = str(json.loads(file.read_text()).get("model", ""))
    if name.startswith(_LOCAL):
        folder = (file.parent / name.removeprefix(_LOCAL)).resolve()
        if not (folder / "open_clip_config.json").is_file():
            raise TextError(f"{file}: model {name!r} has no open_clip_config.json")
        name = f"{_LOCAL}{folder}"
    if not name:
        raise TextError(f"{file}: the key `model` is expected")
    model = open_clip.create_model(name, device="cpu")
    return OpenClipText(model, open_clip.get_tokenizer(name))
