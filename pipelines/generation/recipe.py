"""All that makes a video besides its request, resolved once by the driver and sent to the actors."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from pipelines.generation.config import GenerateConfig
from pipelines.generation.requests import Request
from stunet.backbone import weights_digest
from stunet.inflate import InflationConfig
from stunet.weights import Metadata, WeightsError, check_backbone, digest, read_metadata

_FRAMES = 16
_FPS = 8.0


class RecipeError(ValueError):
    """A geometry that cannot be made; the message names the key."""


@dataclass(frozen=True)
class Recipe:
    """Paths are absolute: actors run in another folder."""

    backbone: str
    weights: str | None
    """Folder of temporal.safetensors; None for the un-trained inflation."""
    out: str
    num_frames: int
    fps: float
    size_px: int
    sampler: Mapping[str, Any]
    inflation: InflationConfig
    batch_size: int
    threads: int
    device: str
    origin: Mapping[str, Any]
    """For the record: digests of checkpoint and backbone, and what training wrote about itself."""

    def paths(self, prompt_id: str) -> tuple[Path, Path]:
        """Where a request's video and its record lie."""
        folder = Path(self.out)
        return folder / f"{prompt_id}.mp4", folder / f"{prompt_id}.json"

    def record(self, request: Request) -> bytes:
        """All that made the video, as JSON: the same request and recipe give the same bytes."""
        made_by = {
            **request,
            **self.origin,
            "num_frames": self.num_frames,
            "fps": self.fps,
            "size_px": self.size_px,
            "sampler": dict(self.sampler),
        }
        return json.dumps(made_by, indent=2, ensure_ascii=False).encode() + b"\n"

    def is_finished(self, request: Request) -> bool:
        """The video is there, and was made by this very request and recipe (the record is written last)."""
        video, record = self.paths(request["prompt_id"])
        return video.is_file() and record.is_file() and record.read_bytes() == self.record(request)

    @property
    def rate(self) -> Fraction:
        """Frames per second as a fraction of small numbers: 30000/1001 for 29.97."""
        return Fraction(self.fps).limit_denominator(1001)


def make_recipe(config: GenerateConfig) -> Recipe:
    """Find the weights, check that they belong to the backbone, and settle the geometry.

    Raises:
        BackboneError: The backbone's folder has no weights.
        WeightsError: No temporal weights in the checkpoint's folder, or those of another backbone.
        RecipeError: An odd `size_px`.
    """
    backbone_digest = weights_digest(config.backbone)
    backbone = {"name": Path(config.backbone).resolve().name, "digest": backbone_digest}
    weights, metadata = None, None
    origin: dict[str, Any] = {"backbone": backbone, "checkpoint": None}
    if config.checkpoint is not None:
        weights = find_weights(config.checkpoint)
        metadata = read_metadata(weights)
        check_backbone(metadata, weights, backbone_digest, backbone["name"])
        origin["checkpoint"] = {"digest": digest(weights), **metadata.extra}
    num_frames, fps, size_px = _geometry(config, metadata)
    return Recipe(
        backbone=str(Path(config.backbone).resolve()),
        weights=None if weights is None else str(weights.resolve()),
        out=str(Path(config.out).resolve()),
        num_frames=num_frames,
        fps=fps,
        size_px=size_px,
        sampler=config.sampler.model_dump(),
        inflation=metadata.inflation if metadata else InflationConfig(),
        batch_size=config.batch_size,
        threads=config.cpus_per_actor,
        device="cuda" if config.gpus_per_actor else "cpu",
        origin=origin,
    )


def find_weights(checkpoint: str) -> Path:
    """The folder of temporal.safetensors: the given one, or `model/` of a run's folder.

    Raises:
        WeightsError: Neither has it.
    """
    for folder in (Path(checkpoint), Path(checkpoint) / "model"):
        if (folder / "temporal.safetensors").is_file():
            return folder
    raise WeightsError(f"checkpoint {checkpoint}: temporal.safetensors is expected in it or in its model/")


def inflation_record(recipe: Recipe) -> dict[str, Any]:
    """The inflation, for the tracker."""
    return asdict(recipe.inflation)


def _geometry(config: GenerateConfig, metadata: Metadata | None) -> tuple[int, float, int]:
    trained = metadata.extra if metadata else {}
    size_px = config.size_px or trained.get("size_px") or _image_size_px(Path(config.backbone))
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
