"""How well a caption fits its frames: the mean cosine between its open_clip embedding and those of k frames.

Beside it each clip is scored with another clip's caption. These wrong scores are the baseline: what a model says where
nothing fits, from which a threshold can be set (`pipelines.curation.baseline`).

Shape letters: H height, W width, C channels (RGB), K frames looked at, D the embedding's width, N clips.
"""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.config import AlignConfig

_LOCAL, _HUB = "local-dir:", "hf-hub:"


class AlignmentModelError(ValueError):
    """An alignment model that cannot be loaded; the message names it."""


class Alignable(NamedTuple):
    """What is looked at of a clip."""

    frames_KHWC: NDArray[np.uint8]
    """(K, H, W, 3) RGB."""
    caption: str
    wrong_caption: str | None
    """Another clip's."""


class Alignment(NamedTuple):
    """Mean cosines, -1..1."""

    score: float
    wrong_score: float | None
    """With the wrong caption, where there is one."""


class Aligner:
    """An open_clip model, loaded once a worker."""

    def __init__(self, config: AlignConfig, device: str = "cpu") -> None:
        """Load `config.model`.

        Raises:
            AlignmentModelError: open_clip does not know the model or its weights.
        """
        import open_clip
        import torch

        if config.model is None:
            raise AlignmentModelError("align.model: a model expected, given null")
        try:
            model, _, preprocess = open_clip.create_model_and_transforms(
                config.model, pretrained=config.pretrained, device=device
            )
            tokenizer = open_clip.get_tokenizer(config.model)
        except (RuntimeError, OSError, ValueError, KeyError) as error:
            raise AlignmentModelError(f"align.model {config.model} ({config.pretrained}): {error}") from error
        self._torch, self._device, self._clips_per_batch = torch, device, config.clips_per_batch
        self._model: Any = model.eval()
        self._preprocess: Any = preprocess
        self._tokenizer: Any = tokenizer

    def scores(self, clips: Sequence[Alignable]) -> list[Alignment]:
        """Score clips with their own captions and with wrong ones, `clips_per_batch` at a time.

        Scores are rounded to 4 digits: the last bits may depend on the batch that a clip was in.
        """
        alignments: list[Alignment] = []
        for start in range(0, len(clips), self._clips_per_batch):
            batch = clips[start : start + self._clips_per_batch]
            # One clip alone goes through other kernels: 2 of 1280 scores were 0.0001 off, none in batches of 2 to 128.
            alignments += self._batch(batch) if len(batch) > 1 else self._batch([*batch, *batch])[:1]
        return alignments

    def _batch(self, clips: Sequence[Alignable]) -> list[Alignment]:
        from PIL import Image

        torch = self._torch
        images = [self._preprocess(Image.fromarray(frame_HWC)) for clip in clips for frame_HWC in clip.frames_KHWC]
        texts = [clip.caption for clip in clips] + [clip.wrong_caption or "" for clip in clips]
        with torch.inference_mode():
            image_D = self._model.encode_image(torch.stack(images).to(self._device), normalize=True)
            text_ND = self._model.encode_text(self._tokenizer(texts).to(self._device), normalize=True)
            of_clips = image_D.split([len(clip.frames_KHWC) for clip in clips])
            mean_ND = torch.stack([of_clip_KD.mean(dim=0) for of_clip_KD in of_clips])
            right_N, wrong_N = (
                (mean_ND * own_ND).sum(dim=1).float().cpu().numpy() for own_ND in text_ND.split(len(clips))
            )
        return [
            Alignment(_rounded(right), None if clip.wrong_caption is None else _rounded(wrong))
            for clip, right, wrong in zip(clips, right_N, wrong_N, strict=True)
        ]


def _rounded(score: Any) -> float:
    return round(float(score), 4)


def located(config: AlignConfig) -> AlignConfig:
    """The same model, checked, its files as absolute paths: workers run in folders of their own.

    Raises:
        AlignmentModelError: open_clip does not know the model or its weights, and they are no folder or file.
    """
    if config.model is None or config.model.startswith(_HUB):
        return config
    if config.model.startswith(_LOCAL):
        folder = Path(config.model.removeprefix(_LOCAL))
        if not (folder / "open_clip_config.json").is_file():
            raise AlignmentModelError(f"align.model {config.model}: a folder with open_clip_config.json expected")
        return config.model_copy(update={"model": f"{_LOCAL}{folder.resolve()}"})
    return config.model_copy(update={"pretrained": _weights(config.model, config.pretrained)})


def _weights(model: str, pretrained: str | None) -> str:
    """The tag, or the path made absolute."""
    import open_clip

    name = model.replace("/", "-")  # as open_clip reads it
    if name not in open_clip.list_models():
        near = ", ".join(get_close_matches(name, open_clip.list_models())) or "ViT-B-32"
        raise AlignmentModelError(f"align.model {model}: a name such as {near}, or local-dir:FOLDER expected")
    if pretrained is not None and open_clip.is_pretrained_cfg(name, pretrained):
        return pretrained
    if pretrained is not None and Path(pretrained).is_file():
        return str(Path(pretrained).resolve())
    tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none is known"
    raise AlignmentModelError(
        f"align.pretrained {pretrained}: a file, or a tag of {model}'s weights expected; its tags: {tags}"
    )
