"""Requests to mp4 files on a real Ray: deterministic, resumable, with a record of all that made them."""

import json
import time
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from pipelines.config import load_config
from pipelines.generation.config import GenerateConfig
from pipelines.generation.maker import VideoMaker
from pipelines.generation.requests import read_requests
from pipelines.generation.resolve import make_recipe
from pipelines.generation.run import generate
from pipelines.generation.sizes import RecipeError
from pipelines.video_file import read_video
from stunet import weights
from stunet.backbone import load_backbone
from stunet.inflate import InflationConfig, inflate, temporal_parameters

pytestmark = [
    # diffusers' DPM-Solver++ hands tensors to numpy 2 in the old way.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    # Ray Data sets options of its own that it has deprecated.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),
]
PROMPTS = "prompt_id,prompt,seed\nred,a red circle moves left,\nblue,a blue star moves up,5\ngreen,a green square,\n"


@pytest.fixture(scope="module")
def backbone(root: Path) -> Path:
    return root / "demo" / "weights" / "backbone"


@pytest.fixture(scope="module")
def checkpoint(backbone, tmp_path_factory) -> Path:
    """A run's folder whose temporal weights are random."""
    run = tmp_path_factory.mktemp("run")
    loaded = load_backbone(backbone)
    stunet = inflate(loaded.unet, InflationConfig(temporal_factor=4, attention_layers=1))
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in temporal_parameters(stunet).items():
            if ".projection." in name:
                value.normal_(std=0.02, generator=rng)
    extra = {"run": "test", "step": 3, "num_frames": 4, "fps": 12.5, "size_px": 32}
    weights.save(stunet, run / "model", loaded.name, loaded.digest, extra)
    return run


@pytest.fixture
def config(backbone, tmp_path, tracking):
    def make(*overrides: str) -> GenerateConfig:
        (tmp_path / "prompts.csv").write_text(PROMPTS)
        source = () if any(word.startswith("prompt=") for word in overrides) else (f"requests={tmp_path}/prompts.csv",)
        words = (f"backbone={backbone}", f"out={tmp_path}/videos", "sampler.steps=2", *source, *overrides)
        return load_config(GenerateConfig, None, words).model_copy(update={"tracking": tracking})

    return make


def run(config):
    return generate(config, nullcontext, time.perf_counter)


def files(config) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(config.out).iterdir()}


@pytest.mark.slow
def test_each_request_becomes_a_video_with_a_record_and_a_second_run_makes_none(local_ray, config, checkpoint):
    settings = config(f"checkpoint={checkpoint}")
    assert run(settings)[:2] == (3, 0)
    first = files(settings)
    assert sorted(first) == ["blue.json", "blue.mp4", "green.json", "green.mp4", "red.json", "red.mp4"]
    video = read_video(first["red.mp4"])
    assert video.frames_THWC.shape == (4, 32, 32, 3)
    assert video.fps == Fraction(25, 2)
    record = json.loads(first["blue.json"])
    assert (record["prompt_id"], record["prompt"], record["seed"]) == ("blue", "a blue star moves up", 5)
    assert record["checkpoint"]["digest"] == weights.digest(checkpoint / "model")
    assert record["checkpoint"]["step"] == 3
    assert record["sampler"]["steps"] == 2
    modified = {path: path.stat().st_mtime_ns for path in Path(settings.out).iterdir()}
    second = run(settings)
    assert second[:2] == (0, 3)
    assert {path: path.stat().st_mtime_ns for path in Path(settings.out).iterdir()} == modified
    logged = {entry.path for entry in MlflowClient(settings.tracking.uri).list_artifacts(second.run_id)}
    assert {"videos.png", "xt_slices.png", "tables", "videos"} <= logged

    (Path(settings.out) / "red.json").unlink()  # as after a kill between the two files
    (Path(settings.out) / "green.mp4").unlink()
    assert run(settings)[:2] == (2, 1)
    assert files(settings) == first, "made again in another batch of requests: the same bytes"


def test_the_same_seed_gives_the_same_frames_wherever_in_a_batch_it_stands(config, checkpoint):
    settings = config(f"checkpoint={checkpoint}", "batch_size=2")
    maker = VideoMaker(make_recipe(settings))
    red, blue, green = read_requests(settings)
    first = maker.make([red, blue])
    again = maker.make([green, red]), maker.make([blue])
    assert torch.equal(again[0][1].video_CTHW, first[0].video_CTHW)
    assert torch.equal(again[1][0].video_CTHW, first[1].video_CTHW)
    assert not torch.equal(first[0].video_CTHW, first[1].video_CTHW)


def test_every_denoising_step_of_every_video_is_told(config):
    recipe, told = make_recipe(config("batch_size=2")), []
    red, blue, green = read_requests(config())
    maker = VideoMaker(recipe, told.append)
    maker.make([red, blue])
    assert told == [2, 2], "two steps of two videos"
    maker.make([green])
    assert told == [2, 2, 1, 1], "what fills a batch is not counted"


def test_another_seed_or_sampler_is_not_taken_for_the_finished_video(config):
    recipe = make_recipe(config())
    request = read_requests(config())[0]
    for path, data in zip(recipe.paths("red"), (b"mp4", recipe.record(request, {"inputs": []})), strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    assert recipe.is_finished(request)
    assert not recipe.is_finished(request | {"seed": 1})
    assert not make_recipe(config("sampler.guidance_scale=2")).is_finished(request)


def test_geometry_comes_from_the_configuration_the_checkpoint_or_the_unet(config, checkpoint):
    untrained, trained = make_recipe(config()), make_recipe(config(f"checkpoint={checkpoint}/model", "frames=9"))
    assert (untrained.num_frames, untrained.fps, untrained.size_px) == (16, 8.0, 32)
    assert (trained.num_frames, trained.fps, trained.size_px) == (9, 12.5, 32)
    assert trained.model.inflation == InflationConfig(temporal_factor=4, attention_layers=1)
    with pytest.raises(RecipeError, match="size_px: an even number is expected .* given 33"):
        make_recipe(config("size_px=33"))


def test_a_folder_without_weights_and_weights_of_another_backbone_are_refused(config, checkpoint, tmp_path):
    with pytest.raises(weights.WeightsError, match=r"temporal\.safetensors is expected in it or in its model/"):
        make_recipe(config(f"checkpoint={tmp_path}"))
    other = tmp_path / "other" / "unet"
    other.mkdir(parents=True)
    (other / "diffusion_pytorch_model.safetensors").write_bytes(b"other weights")
    with pytest.raises(weights.WeightsError, match="belong to the backbone 'backbone' .*, not to 'other'"):
        make_recipe(config(f"checkpoint={checkpoint}", f"backbone={other.parent}"))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_backbone_with_two_text_encoders_makes_the_video_of_a_prompt(sdxl, config, precision):
    settings = config(f"backbone={sdxl}", "frames=4", "prompt=a red star", f"precision={precision}")
    recipe = make_recipe(settings)
    assert recipe.size_px == 16, "8 of the U-Net through a VAE that halves"
    request = read_requests(settings)[0]
    maker = VideoMaker(recipe)
    maker({"request": np.array([json.dumps(request)])})
    video = read_video(files(settings)[f"{request['prompt_id']}.mp4"])
    assert video.frames_THWC.shape == (4, 16, 16, 3)
    made, other = maker.make([request, {**request, "prompt_id": "other", "prompt": "a blue circle"}])
    assert made.video_CTHW.isfinite().all()
    assert not torch.equal(made.video_CTHW, other.video_CTHW), "the prompt is heard"


@pytest.mark.slow
def test_a_request_is_made_by_actors_that_load_two_text_encoders(local_ray, sdxl, config):
    settings = config(f"backbone={sdxl}", "frames=4", "prompt=a red star")
    assert run(settings)[:2] == (1, 0)
    assert sorted(Path(path).suffix for path in files(settings)) == [".json", ".mp4"]
