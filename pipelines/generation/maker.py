"""The actor that holds the model: requests in, mp4 files and their records out.

Shape letters: B videos, C channels, T frames, H height, W width, L text tokens, D text width.
"""

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.generation.recipe import Recipe
from pipelines.generation.requests import Request
from pipelines.storage import write_whole
from pipelines.training.latents import to_latents, to_pixels
from pipelines.video_file import encode_mp4
from stunet.backbone import load_backbone
from stunet.inflate import inflate
from stunet.sampler import SamplerConfig, sample
from stunet.weights import load


class VideoMaker:
    """Loaded once an actor; a video may be made twice, with the same bytes.

    Args:
        recipe: What to load and how to sample.
    """

    def __init__(self, recipe: Recipe) -> None:
        torch.set_num_threads(recipe.threads)
        self._recipe = recipe
        self._backbone = load_backbone(recipe.backbone)
        stunet = inflate(self._backbone.unet, recipe.inflation)
        if recipe.weights is not None:
            load(stunet, recipe.weights, self._backbone.digest, self._backbone.name)
        self._stunet = stunet.to(recipe.device).eval()
        if self._backbone.vae is not None:
            cast("torch.nn.Module", self._backbone.vae).to(recipe.device)
        self._text = self._backbone.text_encoder.to(recipe.device)
        self._null_text_BLD = self._text.encode([""])
        self._sampler = SamplerConfig(**recipe.sampler)

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Make the videos of a batch of `Request` columns; returns their `prompt_id`s."""
        columns = {key: values.tolist() for key, values in batch.items()}
        requests = [
            cast("Request", dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)
        ]
        for request, frames_THWC in zip(requests, self.make(requests), strict=True):
            video, record = self._recipe.paths(request["prompt_id"])
            write_whole(video, encode_mp4(frames_THWC, self._recipe.rate))
            write_whole(record, self._recipe.record(request))
        return {"prompt_id": batch["prompt_id"]}

    def make(self, requests: list[Request]) -> list[NDArray[np.uint8]]:
        """One (T, H, W, 3) uint8 video a request.

        A batch that is not full is filled with its last request: the bytes of a video may depend on how many are
        denoised at once (the kernels' order of additions), so that number is always the same.
        """
        filled = [*requests, *[requests[-1]] * (self._recipe.batch_size - len(requests))]
        latent_BCTHW = sample(
            self._stunet,
            self._backbone.scheduler,
            self._text.encode([request["prompt"] for request in filled]),
            self._null_text_BLD,
            self._shape(),
            self._sampler,
            [request["seed"] for request in filled],
        )
        return [to_frames(video) for video in to_pixels(latent_BCTHW[: len(requests)], self._backbone.vae)]

    def _shape(self) -> tuple[int, int, int, int]:
        side, vae = self._recipe.size_px, self._backbone.vae
        pixels_BCTHW = torch.zeros(1, 3, 1, side, side, device=self._recipe.device)
        _, channels, _, height, width = to_latents(pixels_BCTHW, vae).shape
        return channels, self._recipe.num_frames, height, width


def to_frames(video_CTHW: Tensor) -> NDArray[np.uint8]:
    """[-1, 1] to (T, H, W, 3) uint8, what is beyond it clipped."""
    scaled = video_CTHW.float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)
    return scaled.permute(1, 2, 3, 0).cpu().numpy()
