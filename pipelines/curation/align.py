"""How well a caption fits its frames: the mean cosine between its open_clip embedding and those of k frames.

Beside it each clip is scored with another clip's caption. These wrong scores are the baseline: what a model says where
nothing fits, from which a threshold can be set, since cosines of one open_clip model mean nothing for another.

Shape letters: H height, W width, C channels (RGB), K frames looked at, D the embedding's width, N clips.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.config import AlignConfig

_LOCAL = "local-dir:"


class AlignmentModelError(ValueError):
    """An alignment model that cannot be loaded; the message names it."""


class Alignable(NamedTuple):
    """What is looked at of a clip."""

    frames_KHWC: NDArray[np.uint8]
    """(K, H, W, 3) RGB."""
    caption: str


class Alignment(NamedTuple):
    """Mean cosines, -1..1."""

    score: float
    wrong_score: float | None
    """With the caption of another clip of the batch; None where all captions are the same."""


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
        """Score clips with their own captions and with each other's, `clips_per_batch` at a time.

        Scores are rounded to 4 digits: the last bits depend on the batch that a clip was in.
        """
        alignments: list[Alignment] = []
        for start in range(0, len(clips), self._clips_per_batch):
            alignments += self._batch(clips[start : start + self._clips_per_batch])
        return alignments

    def _batch(self, clips: Sequence[Alignable]) -> list[Alignment]:
        from PIL import Image

        torch, captions = self._torch, [clip.caption for clip in clips]
        images = [self._preprocess(Image.fromarray(frame_HWC)) for clip in clips for frame_HWC in clip.frames_KHWC]
        with torch.inference_mode():
            image_D = self._model.encode_image(torch.stack(images).to(self._device), normalize=True)
            text_ND = self._model.encode_text(self._tokenizer(captions).to(self._device), normalize=True)
            of_clips = image_D.split([len(clip.frames_KHWC) for clip in clips])
            mean_ND = torch.stack([of_clip_KD.mean(dim=0) for of_clip_KD in of_clips])
            cosine_NN = (mean_ND @ text_ND.T).float().cpu().numpy()
        wrong = [_another(captions, index) for index in range(len(clips))]
        return [
            Alignment(_rounded(cosine_NN[i, i]), None if j is None else _rounded(cosine_NN[i, j]))
            for i, j in enumerate(wrong)
        ]


def _another(captions: Sequence[str], index: int) -> int | None:
    """The next clip, round the end, whose caption is another one."""
    order = (*range(index + 1, len(captions)), *range(index))
    return next((other for other in order if captions[other] != captions[index]), None)


def _rounded(score: Any) -> float:
    return round(float(score), 4)


def located(config: AlignConfig) -> AlignConfig:
    """The same model, its local folder as an absolute path: workers run in folders of their own.

    Raises:
        AlignmentModelError: `local-dir:` names no folder.
    """
    if config.model is None or not config.model.startswith(_LOCAL):
        return config
    folder = Path(config.model.removeprefix(_LOCAL))
    if not (folder / "open_clip_config.json").is_file():
        raise AlignmentModelError(f"align.model {config.model}: a folder with open_clip_config.json expected")
    return config.model_copy(update={"model": f"{_LOCAL}{folder.resolve()}"})
