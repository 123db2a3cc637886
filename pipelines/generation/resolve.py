"""A configuration to a recipe: weights are found and held against their backbones, sizes and samplers are settled.

Whatever can be refused without loading a model is refused here, before Ray starts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

from pipelines.generation.config import GenerateConfig
from pipelines.generation.footage import Wish
from pipelines.generation.provenance import rest_digest
from pipelines.generation.recipe import Enlargement, ModelFiles, Recipe
from pipelines.generation.requests import TASKS, Request
from pipelines.generation.sizes import (
    RecipeError,
    check_size,
    image_size_px,
    input_channels,
    latent_channels,
    num_noise_levels,
    upscaler_sides,
)
from stunet.backbone import BackboneError, backbone_name, backbone_schedule, find_backbone, weights_digest
from stunet.inflate import InflationConfig
from stunet.sampler import SamplerConfig, make_scheduler
from stunet.super_resolution import SsrConfig
from stunet.thresholding import check_space
from stunet.weights import Metadata, check_backbone, check_schedule, digest, find, read_metadata

_FRAMES = 16
_FPS = 8.0
_LOW_CHANNELS = 3


def make_recipe(config: GenerateConfig) -> Recipe:
    """Find the weights, check that they belong to the backbones, and settle the geometry.

    Raises:
        BackboneError: A backbone's folder lacks a file.
        WeightsError: No temporal weights in a checkpoint's folder, or those of another backbone.
        RecipeError: A size that the backbone does not make, a sampler that its schedule does not take, or an image
            model where an upscaler is needed, or the other way round.
    """
    model, metadata, origin = _model(config.backbone, config.checkpoint)
    folder = Path(model.backbone)
    _check_channels(folder, latent_channels(folder), "backbone")
    num_frames, fps, size_px = _geometry(config, metadata, folder)
    sampler = config.sampler.model_dump()
    _check_sampler(sampler, folder, "sampler")
    return Recipe(
        model=model,
        ssr=None if config.ssr.backbone is None else _enlargement(config, config.ssr.backbone),
        then_enlarge=config.then_enlarge,
        out=str(Path(config.out).resolve()),
        num_frames=num_frames,
        fps=fps,
        size_px=size_px,
        sampler=sampler,
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
    place = find_backbone(path)
    found = weights_digest(place)
    inflation, weights, metadata, told = InflationConfig(), None, None, None
    if checkpoint is not None:
        folder = find(checkpoint)
        metadata = read_metadata(folder)
        check_backbone(metadata, folder, found, backbone_name(place))
        check_schedule(metadata, folder, backbone_schedule(place))
        inflation, weights = metadata.inflation, str(folder.resolve())
        told = {"digest": digest(folder), **metadata.extra}
    for file in ("unet/config.json", "scheduler/scheduler_config.json"):
        if not (place / file).is_file():
            raise BackboneError(f"{path}: a diffusers folder is expected, {file} is missing")
    backbone = {"name": backbone_name(place), "digest": found, "rest_digest": rest_digest(place)}
    return ModelFiles(str(place), weights, inflation), metadata, {"backbone": backbone, "checkpoint": told}


def _enlargement(config: GenerateConfig, backbone: str) -> Enlargement:
    settings = config.ssr
    model, metadata, origin = _model(backbone, settings.checkpoint)
    folder = Path(model.backbone)
    _check_channels(folder, latent_channels(folder) + _LOW_CHANNELS, "ssr.backbone")
    sides = upscaler_sides(settings.low_size_px, settings.size_px, folder, metadata.extra if metadata else {})
    check_size(sides.size_px, folder, "ssr.size_px")
    num_levels = num_noise_levels(folder)
    if settings.noise_level >= num_levels:
        raise RecipeError(f"ssr.noise_level: 0 to {num_levels - 1} expected, given {settings.noise_level}")
    sampler = asdict(SamplerConfig(steps=settings.steps, guidance_scale=settings.guidance_scale))
    _check_sampler(sampler, folder, "ssr")
    return Enlargement(
        model=model,
        low_px=sides.low_px,
        size_px=sides.size_px,
        windows=SsrConfig(settings.window, settings.overlap, settings.noise_level, settings.windows_per_batch),
        back_projections=settings.back_projections,
        sampler=sampler,
        wish=Wish(
            config.frames,
            None if config.fps is None else Fraction(config.fps).limit_denominator(1001),
            settings.max_frames,
        ),
        origin=origin,
    )


def _geometry(config: GenerateConfig, metadata: Metadata | None, backbone: Path) -> tuple[int, float, int]:
    trained = metadata.extra if metadata else {}
    size_px = int(config.size_px or trained.get("size_px") or image_size_px(backbone))
    check_size(size_px, backbone, "size_px")
    num_frames = config.frames or trained.get("num_frames") or _FRAMES
    return int(num_frames), float(config.fps or trained.get("fps") or _FPS), size_px


def _check_channels(backbone: Path, expected: int, key: str) -> None:
    taken = input_channels(backbone)
    if taken != expected:
        raise RecipeError(
            f"{key}: {backbone.name}: a U-Net of {expected} input channels is expected "
            f"({'an image model' if key == 'backbone' else 'an upscaler'}), given one of {taken}"
        )


def _check_sampler(settings: Mapping[str, Any], backbone: Path, key: str) -> None:
    """Let the sampler say what it does not take."""
    schedule = json.loads((backbone / "scheduler" / "scheduler_config.json").read_text())
    if "beta_schedule" not in schedule:
        return  # `load_backbone` tells
    try:
        sampler = SamplerConfig(**settings)
        check_space(sampler.thresholding, latent_channels(backbone))
        make_scheduler(DDPMScheduler.from_config(schedule), sampler)
    except ValueError as error:
        raise RecipeError(f"{key}: {error}") from error
