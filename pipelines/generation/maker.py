"""The actor that holds the models: requests in, mp4 files and their records out.

Shape letters: B videos, C channels, T frames, H height, W width.
"""

import itertools
import json
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.generation.inputs import Geometry, fit_video
from pipelines.generation.knowledge import Knowledge, knowledge, to_tensor
from pipelines.generation.model import LoadedModel
from pipelines.generation.recipe import Enlargement, Recipe
from pipelines.generation.requests import Request, kind
from pipelines.generation.steps import BatchSteps, Tell
from pipelines.pixels import to_frames
from pipelines.storage import write_whole
from pipelines.video_file import encode_mp4
from stunet.conditions import Known, known_psnr, pasted
from stunet.edit import sdedit
from stunet.sampler import SamplerConfig, guided, make_scheduler, sample
from stunet.super_resolution import super_resolve
from stunet.thresholding import thresholded
from stunet.windows import seam_ratio


class Made(NamedTuple):
    """A video and what is known of it."""

    video_CTHW: Tensor
    """Pixels in [-1, 1]."""
    result: dict[str, Any]
    """What was done to its inputs, and measurements."""


class VideoMaker:
    """Loaded once an actor; a video may be made twice, with the same bytes.

    Args:
        recipe: What to load and how to sample.
        tell: Told how many more denoising steps of videos were made.
    """

    def __init__(self, recipe: Recipe, tell: Tell = lambda _: None) -> None:
        torch.set_num_threads(recipe.threads)
        self._recipe, self._tell = recipe, tell
        self._model = LoadedModel(recipe.model, recipe.device, recipe.precision)
        self._sampler = SamplerConfig(**recipe.sampler)
        self._enlarger = None if recipe.ssr is None else _Enlarger(recipe.ssr, recipe)

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Make the videos of a batch of requests, each as JSON in the column `request`; returns their `prompt_id`s."""
        requests: list[Request] = [json.loads(text) for text in batch["request"].tolist()]
        for request, made in zip(requests, self.make(requests), strict=True):
            video, record = self._recipe.paths(request["prompt_id"])
            write_whole(video, encode_mp4(to_frames(made.video_CTHW), self._recipe.rate))
            write_whole(record, self._recipe.record(request, made.result))
        return {"prompt_id": np.array([request["prompt_id"] for request in requests])}

    def make(self, requests: Sequence[Request]) -> list[Made]:
        """One video a request, in their order.

        A batch that is not full is filled with its last request: the bytes of a video may depend on how many are
        denoised at once (the kernels' order of additions), so that number is always the same. Requests of another kind
        or style are another batch.

        Raises:
            InputError, StyleError: A file that cannot be used.
        """
        made: dict[str, Made] = {}
        for _, group in itertools.groupby(sorted(requests, key=kind), key=kind):
            own = list(group)
            filled = [*own, *[own[-1]] * (self._recipe.batch_size - len(own))]
            self._model.wear(own[0]["style"], own[0]["alpha"])
            steps = BatchSteps(self._tell, len(own), self._recipe.num_steps(own[0]))
            for request, one in zip(own, self._make_alike(filled, steps), strict=False):
                made[request["prompt_id"]] = one
            steps.finish()
        return [made[request["prompt_id"]] for request in requests]

    def _make_alike(self, requests: list[Request], steps: BatchSteps) -> list[Made]:
        task, recipe = requests[0]["task"], self._recipe
        if task == "super_resolution":
            made = [_low(request, recipe) for request in requests]
        else:
            make = self._stylise if task == "stylisation" else self._generate
            made = make(requests, steps)
        if self._enlarger is None or not recipe.is_enlarged(requests[0]):
            return made
        return self._enlarger.enlarge(requests, made, steps)

    def _generate(self, requests: list[Request], steps: BatchSteps) -> list[Made]:
        """Text to video, with what is known beside it where the model takes that."""
        recipe, model = self._recipe, self._model
        given = [knowledge(request, recipe.geometry) for request in requests]
        known = Known(*(torch.cat(values) for values in zip(*(one.known for one in given), strict=True)))
        prompts = model.prompts([request["prompt"] for request in requests], recipe.size_px)
        if recipe.model.inflation.is_conditioned:
            prompts = prompts.beside(model.known_latents(known).beside)
        latent_BCTHW = sample(
            model.stunet,
            model.scheduler,
            prompts,
            model.shape(recipe.num_frames, recipe.size_px),
            self._sampler,
            [request["seed"] for request in requests],
            steps,
        )
        return _with_known(model.pixels(latent_BCTHW).float().cpu(), known, given, recipe.paste_known)

    def _stylise(self, requests: list[Request], steps: BatchSteps) -> list[Made]:
        """Noise a video half-way and denoise it with the prompt, in the style where one is worn."""
        recipe, model, config = self._recipe, self._model, self._sampler
        given = [fit_video(str(request["video"]), recipe.geometry) for request in requests]
        source = torch.cat([to_tensor(one.frames_THWC) for one in given])
        denoiser = guided(model.stunet, config)
        latent_BCTHW = sdedit(
            thresholded(denoiser, model.scheduler, config.thresholding, config.dynamic_quantile),
            model.prompts([request["prompt"] for request in requests], recipe.size_px),
            make_scheduler(model.scheduler, config),
            model.latents(source),
            float(cast("float", requests[0]["strength"])),
            [request["seed"] for request in requests],
            steps,
        )
        videos = source if requests[0]["strength"] == 0 else model.pixels(latent_BCTHW).float().cpu()
        return [Made(video, {"inputs": one.said}) for video, one in zip(videos, given, strict=True)]


class _Enlarger:
    """The second model."""

    def __init__(self, settings: Enlargement, recipe: Recipe) -> None:
        self._settings = settings
        self._model = LoadedModel(settings.model, recipe.device, recipe.precision)
        self._sampler = SamplerConfig(**settings.sampler)

    def enlarge(self, requests: list[Request], made: list[Made], steps: BatchSteps) -> list[Made]:
        """Each video with more pixels."""
        model, windows, size_px = self._model, self._settings.windows, self._settings.size_px
        low_BCTHW = torch.stack([one.video_CTHW for one in made]).to(model.device)
        num_frames = low_BCTHW.shape[2]
        latent_BCTHW = super_resolve(
            model.stunet,
            model.scheduler,
            model.prompts([request["prompt"] for request in requests], size_px),
            low_BCTHW,
            model.shape(num_frames, size_px),
            self._sampler,
            windows,
            [request["seed"] for request in requests],
            steps,
        )
        videos = model.pixels(latent_BCTHW).float().cpu()
        results = [{**one.result, "enlarged": f"{low_BCTHW.shape[-1]} to {size_px} pixels a side"} for one in made]
        if num_frames > windows.window:
            for video, result in zip(videos, results, strict=True):
                result["seam_ratio"] = round(seam_ratio(video[None], windows.window, windows.overlap), 3)
        return [Made(video, result) for video, result in zip(videos, results, strict=True)]


def _low(request: Request, recipe: Recipe) -> Made:
    """The video that is to be enlarged, in the size that the first model would make."""
    fitted = fit_video(str(request["video"]), Geometry(recipe.num_frames, recipe.rate, recipe.size_px))
    return Made(to_tensor(fitted.frames_THWC)[0], {"inputs": fitted.said})


def _with_known(pixels: Tensor, known: Known, given: list[Knowledge], is_pasted: bool) -> list[Made]:
    """Tell how well known pixels came back, and put them in."""
    psnr = known_psnr(pixels, known)
    videos = pasted(pixels, known) if is_pasted else pixels
    made: list[Made] = []
    for video, one, decibel in zip(videos, given, psnr, strict=True):
        told = {} if decibel is None else {"known_psnr_db": round(decibel, 2)}
        made.append(Made(video, {"inputs": one.said, **told}))
    return made
