"""All that makes a video besides its request, resolved once by the driver and sent to the actors."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from pipelines.generation.config import GenerateConfig
from pipelines.generation.inputs import Geometry
from pipelines.generation.requests import TASKS, Request
from pipelines.storage import sha256_file
from stunet.backbone import find_backbone, weights_digest
from stunet.inflate import InflationConfig
from stunet.lora import find_style
from stunet.super_resolution import SsrConfig
from stunet.weights import Metadata, check_backbone, digest, find, read_metadata

_FRAMES = 16
_FPS = 8.0
_RESULT = "result"


class RecipeError(ValueError):
    """A geometry or a task that cannot be made; the message names the key or the request."""


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
    size_px: int
    windows: SsrConfig
    sampler: Mapping[str, Any]


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
    """For the record: digests of checkpoints and backbones, and what training wrote about itself."""

    def paths(self, prompt_id: str) -> tuple[Path, Path]:
        """Where a request's video and its record lie."""
        folder = Path(self.out)
        return folder / f"{prompt_id}.mp4", folder / f"{prompt_id}.json"

    def record(self, request: Request, result: Mapping[str, Any] | None = None) -> bytes:
        """All that made the video, as JSON: the same request and recipe give the same bytes.

        Args:
            request: Whose video.
            result: What is known of it once it is made: what was done to the inputs, and measurements.
        """
        made_by: dict[str, Any] = {
            **{key: value for key, value in request.items() if value is not None},
            "input_digests": _digests(request),
            **self.origin,
            "num_frames": self.num_frames,
            "fps": self.fps,
            "size_px": self.size_px,
            "sampler": dict(self.sampler),
            "precision": self.precision,
        }
        if self.is_enlarged(request) and self.ssr is not None:
            sizes = {"size_px": self.ssr.size_px, **asdict(self.ssr.windows)}
            made_by["ssr"] = {**made_by.get("ssr", {}), **sizes, "sampler": dict(self.ssr.sampler)}
        if TASKS[request["task"]].is_conditioned:
            made_by["paste_known"] = self.paste_known
        if result is not None:
            made_by[_RESULT] = dict(result)
        return json.dumps(made_by, indent=2, ensure_ascii=False).encode() + b"\n"

    def is_enlarged(self, request: Request) -> bool:
        """Whether its video passes the second model."""
        return self.then_enlarge or request["task"] == "super_resolution"

    def num_steps(self, request: Request) -> int:
        """Denoising steps that its video takes, of both models."""
        steps = int(self.sampler["steps"])
        first = {"super_resolution": 0, "stylisation": round((request["strength"] or 0) * steps)}
        second = int(self.ssr.sampler["steps"]) if self.ssr is not None and self.is_enlarged(request) else 0
        return first.get(request["task"], steps) + second

    def is_finished(self, request: Request) -> bool:
        """The video is there, and was made by this very request and recipe (the record is written last)."""
        video, record = self.paths(request["prompt_id"])
        if not (video.is_file() and record.is_file()):
            return False
        made_by = json.loads(record.read_bytes())
        made_by.pop(_RESULT, None)
        return made_by == json.loads(self.record(request))

    @property
    def rate(self) -> Fraction:
        """Frames per second as a fraction of small numbers: 30000/1001 for 29.97."""
        return Fraction(self.fps).limit_denominator(1001)

    @property
    def geometry(self) -> Geometry:
        """What inputs are fitted to."""
        return Geometry(self.num_frames, self.rate, self.size_px)


def make_recipe(config: GenerateConfig) -> Recipe:
    """Find the weights, check that they belong to the backbones, and settle the geometry.

    Raises:
        BackboneError: A backbone's folder has no weights.
        WeightsError: No temporal weights in a checkpoint's folder, or those of another backbone.
        RecipeError: An odd `size_px`.
    """
    model, metadata, origin = _model(config.backbone, config.checkpoint)
    num_frames, fps, size_px = _geometry(config, metadata, Path(model.backbone))
    ssr = None
    if config.ssr.backbone is not None:
        ssr, origin["ssr"] = _enlargement(config, config.ssr.backbone)
    return Recipe(
        model=model,
        ssr=ssr,
        then_enlarge=config.then_enlarge,
        out=str(Path(config.out).resolve()),
        num_frames=num_frames,
        fps=fps,
        size_px=size_px,
        sampler=config.sampler.model_dump(),
        paste_known=config.paste_known,
        precision=config.precision,
        batch_size=config.batch_size,
        threads=config.cpus_per_actor,
        device="cuda" if config.gpus_per_actor else "cpu",
        origin=origin,
    )


def check_tasks(recipe: Recipe, requests: Sequence[Request]) -> None:
    """Refuse, before any video is made, what the models cannot do.

    Raises:
        RecipeError: A task that needs C and M with a model that takes none, or an upscaler where there is none.
    """
    for request in requests:
        where = f"request {request['prompt_id']}: {request['task']}"
        if TASKS[request["task"]].is_conditioned and not recipe.model.inflation.is_conditioned:
            raise RecipeError(
                f"{where} expects a checkpoint that was trained with inflation.is_conditioned=true, the given was not"
            )
        if recipe.is_enlarged(request) and recipe.ssr is None:
            raise RecipeError(f"{where} expects an upscaler in `ssr.backbone`, none is given")


def _model(path: str, checkpoint: str | None) -> tuple[ModelFiles, Metadata | None, dict[str, Any]]:
    """A backbone with its weights, and what the record tells of both."""
    place = str(find_backbone(path))
    found = weights_digest(place)
    backbone = {"name": Path(place).name, "digest": found}
    origin: dict[str, Any] = {"backbone": backbone, "checkpoint": None}
    if checkpoint is None:
        return ModelFiles(place, None, InflationConfig()), None, origin
    weights = find(checkpoint)
    metadata = read_metadata(weights)
    check_backbone(metadata, weights, found, backbone["name"])
    origin["checkpoint"] = {"digest": digest(weights), **metadata.extra}
    return ModelFiles(place, str(weights.resolve()), metadata.inflation), metadata, origin


def _enlargement(config: GenerateConfig, backbone: str) -> tuple[Enlargement, dict[str, Any]]:
    settings = config.ssr
    model, _, origin = _model(backbone, settings.checkpoint)
    size_px = settings.size_px or _image_size_px(Path(model.backbone))
    if size_px % 2:
        raise RecipeError(f"ssr.size_px: an even number is expected, given {size_px}")
    sampler = {"steps": settings.steps, "guidance_scale": settings.guidance_scale}
    windows = SsrConfig(settings.window, settings.overlap, settings.noise_level)
    return Enlargement(model, size_px, windows, sampler), origin


def _geometry(config: GenerateConfig, metadata: Metadata | None, backbone: Path) -> tuple[int, float, int]:
    trained = metadata.extra if metadata else {}
    size_px = config.size_px or trained.get("size_px") or _image_size_px(backbone)
    if size_px % 2:
        raise RecipeError(f"size_px: an even number is expected (H.264 halves the colour planes), given {size_px}")
    num_frames = config.frames or trained.get("num_frames") or _FRAMES
    return int(num_frames), float(config.fps or trained.get("fps") or _FPS), int(size_px)


def _image_size_px(backbone: Path) -> int:
    """What the image U-Net was trained on, through the VAE where there is one."""
    unet = json.loads((backbone / "unet" / "config.json").read_text())
    vae = backbone / "vae" / "config.json"
    halvings = len(json.loads(vae.read_text())["block_out_channels"]) - 1 if vae.is_file() else 0
    return int(unet["sample_size"]) * 2**halvings


def _digests(request: Request) -> dict[str, str]:
    """sha256 of each file that the request names."""
    files = {name: Path(path) for name in ("image", "video", "mask") if (path := request[name]) is not None}
    digests = {name: sha256_file(path) for name, path in files.items() if path.is_file()}
    if request["style"] is not None:
        digests["style"] = sha256_file(find_style(request["style"]))
    return digests
