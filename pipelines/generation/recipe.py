"""All that makes a video besides its request, resolved once by the driver and sent to the actors."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from pipelines.generation.footage import Wish
from pipelines.generation.inputs import Geometry
from pipelines.generation.provenance import file_digest
from pipelines.generation.requests import TASKS, Request
from stunet.inflate import InflationConfig
from stunet.lora import style_files
from stunet.style import StyleError
from stunet.super_resolution import SsrConfig

_RESULT = "result"
_MEMORY_ALONE = ("windows_per_batch",)


@dataclass(frozen=True)
class ModelFiles:
    """A backbone and its temporal weights. Paths are absolute: actors run in another folder."""

    backbone: str
    weights: str | None
    """Folder of temporal.safetensors; None for the un-trained inflation."""
    inflation: InflationConfig


@dataclass(frozen=True)
class Enlargement:
    """The second model and how it is used."""

    model: ModelFiles
    low_px: int
    """Side to which super_resolution's video is brought; what `then_enlarge` enlarges is as the first model made it."""
    size_px: int
    windows: SsrConfig
    back_projections: int
    """Rounds of `stunet.super_resolution.agreeing`."""
    sampler: Mapping[str, Any]
    wish: Wish
    """Length and rate of super_resolution's video."""
    origin: Mapping[str, Any]
    """For the record, as `Recipe.origin`."""


@dataclass(frozen=True)
class Recipe:
    """What the actors are made from."""

    model: ModelFiles
    ssr: Enlargement | None
    then_enlarge: bool
    out: str
    num_frames: int
    fps: float
    size_px: int
    sampler: Mapping[str, Any]
    paste_known: bool
    precision: str
    batch_size: int
    threads: int
    device: str
    origin: Mapping[str, Any]
    """For the record: digests of checkpoint and backbone, and what training wrote about itself."""

    def paths(self, prompt_id: str) -> tuple[Path, Path]:
        """Where a request's video and its record lie."""
        folder = Path(self.out)
        return folder / f"{prompt_id}.mp4", folder / f"{prompt_id}.json"

    def error_path(self, prompt_id: str) -> Path:
        """Where it is told why a request has no video."""
        return Path(self.out) / f"{prompt_id}.error.json"

    def record(self, request: Request, result: Mapping[str, Any] | None = None) -> bytes:
        """All that made the video, as JSON: the same request and recipe give the same bytes.

        What does not change the video, or should not (the device, versions of packages), belongs to `result`: another
        one of these makes no video anew.

        Args:
            request: Whose video.
            result: What is known of it once it is made: what was done to the inputs, and measurements.

        Raises:
            StyleError: The request's style has no file.
        """
        made_by: dict[str, Any] = {key: value for key, value in request.items() if value is not None}
        made_by["input_digests"] = _digests(request)
        if request["task"] != "super_resolution":
            made_by |= self._first_model()
        made_by["precision"] = self.precision
        if self.is_enlarged(request) and self.ssr is not None:
            made_by["ssr"] = _second_model(self.ssr, request)
        if TASKS[request["task"]].is_conditioned:
            made_by["paste_known"] = self.paste_known
        if result is not None:
            made_by[_RESULT] = dict(result)
        return json.dumps(made_by, indent=2, ensure_ascii=False).encode() + b"\n"

    def _first_model(self) -> dict[str, Any]:
        geometry = {"num_frames": self.num_frames, "fps": self.fps, "size_px": self.size_px}
        return {**self.origin, **geometry, "sampler": dict(self.sampler)}

    def is_enlarged(self, request: Request) -> bool:
        """Whether its video passes the second model."""
        return self.then_enlarge or request["task"] == "super_resolution"

    def num_steps(self, request: Request) -> int:
        """Denoising steps that its video takes, of both models."""
        second = int(self.ssr.sampler["steps"]) if self.ssr is not None and self.is_enlarged(request) else 0
        return self.num_steps_of_first(request) + second

    def num_steps_of_first(self, request: Request) -> int:
        """Denoising steps of the first model; a strength of a stylisation may be no step."""
        steps = int(self.sampler["steps"])
        own = {"super_resolution": 0, "stylisation": round((request["strength"] or 0) * steps)}
        return own.get(request["task"], steps)

    def is_finished(self, request: Request) -> bool:
        """The video is there, and was made by this very request and recipe (the record is written last)."""
        video, record = self.paths(request["prompt_id"])
        if not (video.is_file() and record.is_file()):
            return False
        try:
            made_by = json.loads(record.read_bytes())
            wanted = json.loads(self.record(request))
        except (json.JSONDecodeError, StyleError):
            return False  # a style that is gone is told when the video is to be made
        made_by.pop(_RESULT, None)
        return made_by == wanted

    @property
    def rate(self) -> Fraction:
        """Frames per second as a fraction of small numbers: 30000/1001 for 29.97."""
        return Fraction(self.fps).limit_denominator(1001)

    @property
    def geometry(self) -> Geometry:
        """What inputs are fitted to."""
        return Geometry(self.num_frames, self.rate, self.size_px)


def _second_model(ssr: Enlargement, request: Request) -> dict[str, Any]:
    windows = {name: value for name, value in asdict(ssr.windows).items() if name not in _MEMORY_ALONE}
    made_by = {**ssr.origin, "size_px": ssr.size_px, **windows, "back_projections": ssr.back_projections}
    made_by["sampler"] = dict(ssr.sampler)
    if request["task"] != "super_resolution":
        return made_by
    wish = ssr.wish
    given = {"num_frames": wish.num_frames, "fps": None if wish.fps is None else float(wish.fps)}
    most = {"max_frames": wish.max_frames} if wish.num_frames is None else {}
    return {**made_by, "low_size_px": ssr.low_px, **given, **most}


def _digests(request: Request) -> dict[str, str]:
    """sha256 of each file that the request names."""
    files = {name: Path(path) for name in ("image", "video", "mask") if (path := request[name]) is not None}
    digests = {name: file_digest(path) for name, path in files.items() if path.is_file()}
    if request["style"] is not None:
        digests["style"] = "+".join(file_digest(file) for file in style_files(request["style"]))
    return digests
