"""How well a caption fits its frames: the mean cosine between its open_clip embedding and those of k frames.

Shape letters: H height, W width, C channels (RGB), K frames looked at, D the embedding's width.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.config import AlignConfig

_LOCAL = "local-dir:"


class AlignmentModelError(ValueError):
    """An alignment model that cannot be loaded; the message names it."""


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
        self._torch, self._device = torch, device
        self._model: Any = model.eval()
        self._preprocess: Any = preprocess
        self._tokenizer: Any = tokenizer

    def score(self, frames_KHWC: NDArray[np.uint8], caption: str) -> float:
        """Mean cosine, -1..1, of the caption and the clip's frames that are looked at."""
        from PIL import Image

        images = [self._preprocess(Image.fromarray(frame_HWC)) for frame_HWC in frames_KHWC]
        with self._torch.inference_mode():
            image_KD = self._model.encode_image(self._torch.stack(images).to(self._device), normalize=True)
            text_1D = self._model.encode_text(self._tokenizer([caption]).to(self._device), normalize=True)
        return float((image_KD @ text_1D.T).mean())


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
