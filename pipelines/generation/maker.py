"""The actor that holds the models: requests in, mp4 files and their records out.

Shape letters: B videos, C channels, T frames, H height, W width.
"""

import itertools
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.generation.enlarger import Enlarger
from pipelines.generation.knowledge import Knowledge, Source, knowledge, low_source, source
from pipelines.generation.made import Made
from pipelines.generation.model import LoadedModel, device_name
from pipelines.generation.provenance import versions
from pipelines.generation.recipe import Recipe
from pipelines.generation.refusal import InputError, Refusal
from pipelines.generation.requests import Request, kind
from pipelines.generation.steps import BatchSteps, Tell
from pipelines.pixels import to_frames
from pipelines.storage import write_whole
from pipelines.video_file import encode_mp4
from stunet.backbone import BackboneError
from stunet.conditions import Known, known_psnr, pasted
from stunet.edit import sdedit
from stunet.inflate import InflationError
from stunet.sampler import SamplerConfig, guided, make_scheduler, sample
from stunet.style import StyleError
from stunet.text import TextError
from stunet.thresholding import thresholded
from stunet.weights import WeightsError

_REFUSALS = (InputError, StyleError)
_UNLOADABLE = (BackboneError, InflationError, TextError, WeightsError)


class Given(NamedTuple):
    """A request with its inputs read."""

    request: Request
    inputs: Knowledge | Source


class VideoMaker:
    """Loaded once an actor; a video may be made twice, with the same bytes.

    Args:
        recipe: What to load and how to sample.
        tell: Told how many more denoising steps of videos were made.

    Raises:
        BackboneError, InflationError, TextError, WeightsError: A model that cannot be loaded.
    """

    def __init__(self, recipe: Recipe, tell: Tell = lambda _: None) -> None:
        torch.set_num_threads(recipe.threads)
        self._recipe, self._tell = recipe, tell
        self._model = LoadedModel(recipe.model, recipe.device, recipe.precision)
        self._sampler = SamplerConfig(**recipe.sampler)
        self._enlarger = None if recipe.ssr is None else Enlarger(recipe.ssr, recipe.device, recipe.precision)
        self._made_with = {"device": device_name(recipe.device), "versions": versions()}

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Make the videos of a batch of requests, each as JSON in the column `request`.

        Returns:
            `prompt_id`, and `error` and `reason` of a `Refusal`; both empty where there is a video.
        """
        requests: list[Request] = [json.loads(text) for text in batch["request"].tolist()]
        outcomes = self.make(requests)
        for request, outcome in zip(requests, outcomes, strict=True):
            self._write(request, outcome)
        refusals = [one if isinstance(one, Refusal) else None for one in outcomes]
        return {
            "prompt_id": np.array([request["prompt_id"] for request in requests]),
            "error": np.array(["" if one is None else one.error for one in refusals]),
            "reason": np.array(["" if one is None else one.reason for one in refusals]),
        }

    def make(self, requests: Sequence[Request]) -> list[Made | Refusal]:
        """One video a request, in their order, or why there is none: a request that cannot be used costs itself only.

        A batch that is not full is filled with its last request: the bytes of a video may depend on how many are
        denoised at once (the kernels' order of additions), so that number is always the same. Requests of another kind
        or style are another batch; videos to enlarge, whose windows are a batch already, are made one by one.
        """
        outcomes: dict[str, Made | Refusal] = {}
        for _, group in itertools.groupby(sorted(requests, key=kind), key=kind):
            outcomes |= self._make_group(list(group))
        return [outcomes[request["prompt_id"]] for request in requests]

    def _make_group(self, requests: list[Request]) -> dict[str, Made | Refusal]:
        """Of one kind."""
        read = [self._tried(request, partial(self._read, request)) for request in requests]
        refused = [one for one in read if isinstance(one, Refusal)]
        given = [one for one in read if isinstance(one, Given)]
        if given:
            first = given[0].request
            worn = self._tried(first, partial(self._model.wear, first["style"], first["alpha"]))
            if isinstance(worn, Refusal):  # the style is that of all
                refused += [worn._replace(prompt_id=one.request["prompt_id"]) for one in given]
                given = []
        self._tell_skipped(requests[0], len(refused))
        made = dict[str, Made | Refusal]((one.prompt_id, one) for one in refused)
        if given:
            steps = BatchSteps(self._tell, len(given), self._recipe.num_steps(requests[0]))
            num_alike = 1 if requests[0]["task"] == "super_resolution" else self._recipe.batch_size
            filled = [*given, *[given[-1]] * (num_alike - len(given))]
            videos = zip(given, self._make_alike(filled, steps), strict=False)
            made |= {one.request["prompt_id"]: video for one, video in videos}
            steps.finish()
        return made

    def _read(self, request: Request) -> Given:
        recipe, task = self._recipe, request["task"]
        if task == "super_resolution":
            assert recipe.ssr is not None  # `check_tasks` has looked
            return Given(request, low_source(request, recipe.ssr))
        if task == "stylisation":
            return Given(request, source(request, recipe.geometry))
        return Given(request, knowledge(request, recipe.geometry))

    def _tried(self, request: Request, do: Callable[[], Any]) -> Any:
        """What comes of it, or the refusal of this request for what is known to be wrong with it."""
        try:
            return do()
        except _REFUSALS as error:
            return Refusal(request["prompt_id"], type(error).__name__, str(error))

    def _tell_skipped(self, like: Request, number: int) -> None:
        if number:
            self._tell(number * self._recipe.num_steps(like))

    def _write(self, request: Request, outcome: Made | Refusal) -> None:
        """The video, then its record; or why there is none."""
        recipe, prompt_id = self._recipe, request["prompt_id"]
        if isinstance(outcome, Refusal):
            told = {**request, **outcome._asdict()}
            write_whole(recipe.error_path(prompt_id), json.dumps(told, indent=2, ensure_ascii=False).encode() + b"\n")
            return
        video, record = recipe.paths(prompt_id)
        write_whole(video, encode_mp4(to_frames(outcome.video_CTHW), outcome.fps))
        write_whole(record, recipe.record(request, outcome.result | self._made_with))
        recipe.error_path(prompt_id).unlink(missing_ok=True)

    def _make_alike(self, given: list[Given], steps: BatchSteps) -> list[Made]:
        task, recipe = given[0].request["task"], self._recipe
        make = {"super_resolution": _low, "stylisation": self._stylise}.get(task, self._generate)
        made = make(given, steps)
        if self._enlarger is None or not recipe.is_enlarged(given[0].request):
            return made
        return self._enlarger.enlarge([one.request for one in given], made, steps)

    def _generate(self, given: list[Given], steps: BatchSteps) -> list[Made]:
        """Text to video, with what is known beside it where the model takes that."""
        recipe, model = self._recipe, self._model
        inputs = [cast("Knowledge", one.inputs) for one in given]
        known = Known(*(torch.cat(values) for values in zip(*(one.known for one in inputs), strict=True)))
        prompts = model.prompts([one.request["prompt"] for one in given], recipe.size_px)
        if recipe.model.inflation.is_conditioned:
            prompts = prompts.beside(model.known_latents(known).beside)
        latent_BCTHW = sample(
            model.stunet,
            model.scheduler,
            prompts,
            model.shape(recipe.num_frames, recipe.size_px),
            self._sampler,
            [one.request["seed"] for one in given],
            steps,
        )
        pixels = model.pixels(latent_BCTHW).float().cpu()
        psnr = known_psnr(pixels, known)
        videos = pasted(pixels, known) if recipe.paste_known else pixels
        told = [{} if decibel is None else {"known_psnr_db": round(decibel, 2)} for decibel in psnr]
        return [
            Made(video, recipe.rate, {"inputs": one.said, **measured})
            for video, one, measured in zip(videos, inputs, told, strict=True)
        ]

    def _stylise(self, given: list[Given], steps: BatchSteps) -> list[Made]:
        """Noise a video half-way and denoise it with the prompt, in the style where one is worn."""
        recipe, model, config = self._recipe, self._model, self._sampler
        inputs = [cast("Source", one.inputs) for one in given]
        strength = float(cast("float", given[0].request["strength"]))
        if not recipe.num_steps_of_first(given[0].request):
            nothing = f"strength {strength:g} of {config.steps} steps is no step: the video comes back as it is"
            return [Made(one.video_1CTHW[0], one.fps, {"inputs": [*one.said, nothing]}) for one in inputs]
        latent_BCTHW = sdedit(
            thresholded(guided(model.stunet, config), model.scheduler, config.thresholding, config.dynamic_quantile),
            model.prompts([one.request["prompt"] for one in given], recipe.size_px),
            make_scheduler(model.scheduler, config),
            model.latents(torch.cat([one.video_1CTHW for one in inputs])),
            strength,
            [one.request["seed"] for one in given],
            steps,
        )
        videos = model.pixels(latent_BCTHW).float().cpu()
        return [Made(video, one.fps, {"inputs": one.said}) for video, one in zip(videos, inputs, strict=True)]


class MakerActor:
    """What Ray starts: a `VideoMaker`, or the reason why its models cannot be loaded, told with each batch.

    Ray would wrap an error of its own making around one that an actor is started with.
    """

    def __init__(self, recipe: Recipe, tell: Tell) -> None:
        self._maker: VideoMaker | None = None
        self._fault = ""
        try:
            self._maker = VideoMaker(recipe, tell)
        except _UNLOADABLE as error:
            self._fault = str(error)

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """As `VideoMaker`, with a column `fault`: empty where the models were loaded."""
        num_requests = len(batch["request"])
        if self._maker is None:
            nothing = np.array([""] * num_requests)
            return {
                "prompt_id": nothing,
                "error": nothing,
                "reason": nothing,
                "fault": np.array([self._fault] * num_requests),
            }
        return {**self._maker(batch), "fault": np.array([""] * num_requests)}


def _low(given: list[Given], _: BatchSteps) -> list[Made]:
    """Videos that are to be enlarged, as they were given."""
    inputs = [cast("Source", one.inputs) for one in given]
    return [Made(one.video_1CTHW[0], one.fps, {"inputs": one.said}) for one in inputs]
