"""A request that cannot be used costs itself only, is told, and is tried again."""

import json
import os
import subprocess
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from pipelines.config import load_config
from pipelines.generation.config import GenerateConfig
from pipelines.generation.made import Made
from pipelines.generation.maker import MakerActor, VideoMaker
from pipelines.generation.refusal import Refusal
from pipelines.generation.requests import RequestError, read_requests
from pipelines.generation.resolve import make_recipe
from pipelines.generation.run import generate, gpus_per_actor
from pipelines.generation.sizes import RecipeError
from pipelines.video_file import read_video

pytestmark = [
    # diffusers' DPM-Solver++ hands tensors to numpy 2 in the old way.
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"),
    # Ray Data sets options of its own that it has deprecated.
    pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context"),
]
ROWS = """prompt_id,task,prompt,image,mask,style
star,image_to_video,a yellow star moves right,star.png,,
torn,image_to_video,a yellow star moves right,torn.png,,
beside,cinemagraph,a yellow star moves right,star.png,"70,0,4,4",
alien,text_to_video,a red star moves left,,,alien.safetensors
plain,text_to_video,a red star moves left,,,
"""


@pytest.fixture
def folder(root: Path, tmp_path: Path) -> Path:
    """Five requests, three of which cannot be used."""
    picture = (root / "docs" / "images" / "star.png").read_bytes()
    (tmp_path / "star.png").write_bytes(picture)
    (tmp_path / "torn.png").write_bytes(picture[: len(picture) // 2])
    (tmp_path / "alien.safetensors").write_bytes(b"no weights")
    (tmp_path / "requests.csv").write_text(ROWS)
    return tmp_path


@pytest.fixture
def settings(root: Path, folder: Path, tracking):
    def make(*overrides: str) -> GenerateConfig:
        place = root / "demo" / "weights"
        words = [f"backbone={place}/backbone", f"checkpoint={place}/stunet", f"requests={folder}/requests.csv"]
        words += [f"out={folder}/videos", "sampler.steps=2", "frames=4", "batch_size=4"]
        return load_config(GenerateConfig, None, [*words, *overrides]).model_copy(update={"tracking": tracking})

    return make


def outcomes(maker: VideoMaker, config: GenerateConfig) -> dict[str, Made | Refusal]:
    requests = read_requests(config)
    return {request["prompt_id"]: one for request, one in zip(requests, maker.make(requests), strict=True)}


def test_what_cannot_be_used_is_refused_with_its_reason_and_its_batch_mates_are_made(settings):
    told: list[int] = []
    maker = VideoMaker(make_recipe(settings()), told.append)
    made = outcomes(maker, settings())
    refused = {name: one for name, one in made.items() if isinstance(one, Refusal)}
    assert {name: one.error for name, one in refused.items()} == {
        "torn": "InputError",
        "beside": "InputError",
        "alien": "StyleError",
    }
    assert all(name == one.prompt_id for name, one in refused.items())
    assert "torn.png: not a readable image" in refused["torn"].reason
    assert refused["beside"].reason == "mask '70,0,4,4': a box inside the input of 32x32 pixels is expected"
    assert "alien.safetensors: not a readable safetensors file" in refused["alien"].reason
    assert sum(told) == 5 * 2, "the bar reaches its end"
    plain = [request for request in read_requests(settings()) if request["prompt_id"] == "plain"]
    assert torch.equal(maker.make(plain)[0].video_CTHW, made["plain"].video_CTHW), "as without the others"


def test_why_there_is_no_video_is_written_beside_the_others_until_there_is_one(settings, folder):
    maker = VideoMaker(make_recipe(settings()))
    batch = {"request": np.array([json.dumps(request) for request in read_requests(settings())])}
    rows = maker(batch)
    assert rows["error"].tolist() == ["", "InputError", "InputError", "StyleError", ""]
    there = sorted(path.name for path in (folder / "videos").iterdir())
    assert there == [
        *("alien.error.json", "beside.error.json", "plain.json", "plain.mp4", "star.json", "star.mp4"),
        "torn.error.json",
    ]
    told = json.loads((folder / "videos" / "torn.error.json").read_text())
    assert (told["task"], told["error"]) == ("image_to_video", "InputError")
    assert "not a readable image" in told["reason"]
    (folder / "torn.png").write_bytes((folder / "star.png").read_bytes())
    maker(batch)
    assert not (folder / "videos" / "torn.error.json").exists()
    assert (folder / "videos" / "torn.mp4").exists()


def test_what_nobody_foresaw_is_no_refusal(settings):
    maker, request = VideoMaker(make_recipe(settings())), read_requests(settings())[0]
    del request["image"]  # `read_requests` makes no such row
    with pytest.raises(AssertionError):
        maker.make([request])


def test_a_model_that_cannot_be_loaded_is_told_by_each_batch(settings, root, tmp_path):
    broken = tmp_path / "backbone"
    for name in ("unet", "scheduler"):
        (broken / name).mkdir(parents=True)
        for file in (root / "demo" / "weights" / "backbone" / name).iterdir():
            (broken / name / file.name).symlink_to(file)
    recipe = make_recipe(settings(f"backbone={broken}", "checkpoint=null"))
    rows = MakerActor(recipe, lambda _: None)({"request": np.array(["{}", "{}"])})
    assert len(rows["fault"]) == 2
    assert "text_encoder" in rows["fault"][0]


def test_a_name_that_an_error_file_could_have_is_refused(folder):
    (folder / "requests.csv").write_text("prompt_id,prompt\na.error,x\n")
    with pytest.raises(RequestError, match=r"no `\.error` at its end, given 'a\.error'"):
        read_requests(load_config(GenerateConfig, None, ["out=o", f"requests={folder}/requests.csv"]))


def test_gpus_are_taken_where_there_are_any_unless_it_is_said():
    assert gpus_per_actor(None, {"CPU": 8.0, "GPU": 2.0}) == 1
    assert gpus_per_actor(None, {"CPU": 8.0}) == 0
    assert gpus_per_actor(0, {"GPU": 2.0}) == 0
    assert gpus_per_actor(1, {"CPU": 8.0}) == 1


def test_a_record_that_cannot_be_read_or_a_style_that_is_gone_is_no_finished_video(settings, folder):
    recipe, requests = make_recipe(settings()), read_requests(settings())
    alien = requests[3]
    for path, data in zip(recipe.paths("alien"), (b"mp4", recipe.record(alien)), strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    assert recipe.is_finished(alien)
    (folder / "alien.safetensors").unlink()
    assert not recipe.is_finished(alien)
    recipe.paths("plain")[0].write_bytes(b"mp4")
    recipe.paths("plain")[1].write_bytes(b"{")
    assert not recipe.is_finished(requests[4])


def test_a_style_is_read_once_for_all_requests_and_again_once_it_changes(settings, folder):
    recipe, request = make_recipe(settings()), read_requests(settings())[3]
    style = folder / "alien.safetensors"
    first = json.loads(recipe.record(request))["input_digests"]["style"]
    before = style.stat()
    style.write_bytes(b"NO WEIGHTS")  # the same size; with the time put back nothing tells that it changed
    os.utime(style, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert json.loads(recipe.record(request))["input_digests"]["style"] == first, "it is not read again"
    os.utime(style, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert json.loads(recipe.record(request))["input_digests"]["style"] != first


def test_text_encoder_and_vae_are_in_the_record_and_versions_and_device_make_nothing_anew(settings, root, tmp_path):
    request = read_requests(settings())[4]
    recipe = make_recipe(settings("checkpoint=null"))
    other = tmp_path / "backbone"
    for file in (root / "demo" / "weights" / "backbone").rglob("*"):
        if file.is_file():
            target = other / file.relative_to(root / "demo" / "weights" / "backbone")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    assert make_recipe(settings("checkpoint=null", f"backbone={other}")).record(request) == recipe.record(request)
    (other / "text_encoder" / "model.safetensors").write_bytes(b"another encoder")
    changed = json.loads(make_recipe(settings("checkpoint=null", f"backbone={other}")).record(request))
    own = json.loads(recipe.record(request))
    assert changed["backbone"]["digest"] == own["backbone"]["digest"]
    assert changed["backbone"]["rest_digest"] != own["backbone"]["rest_digest"]
    for path, data in zip(recipe.paths("plain"), (b"mp4", recipe.record(request, {"device": "other"})), strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    assert recipe.is_finished(request)


@pytest.mark.slow
def test_a_run_makes_all_others_tells_what_was_refused_and_tries_only_that_again(local_ray, settings, folder):
    def run():
        return generate(settings(), nullcontext, time.perf_counter)

    first = run()
    assert first[:2] == (2, 0)
    assert [one.prompt_id for one in first.refused] == ["torn", "beside", "alien"]
    client = MlflowClient(settings().tracking.uri)
    assert {"videos.png", "tables"} <= {entry.path for entry in client.list_artifacts(first.run_id)}
    assert {entry.path for entry in client.list_artifacts(first.run_id, "tables")} == {
        "tables/requests.json",
        "tables/refused.json",
    }
    metrics = client.get_run(first.run_id).data.metrics
    assert (metrics["videos_made"], metrics["videos_refused"]) == (2, 3)
    (folder / "torn.png").write_bytes((folder / "star.png").read_bytes())
    second = run()
    assert second[:2] == (1, 2)
    assert [one.prompt_id for one in second.refused] == ["beside", "alien"]
    assert not (folder / "videos" / "torn.error.json").exists()


@pytest.mark.slow
def test_a_run_whose_model_cannot_be_loaded_says_why(local_ray, settings, root, tmp_path):
    broken = tmp_path / "backbone"
    for name in ("unet", "scheduler"):
        (broken / name).mkdir(parents=True)
        for file in (root / "demo" / "weights" / "backbone" / name).iterdir():
            (broken / name / file.name).symlink_to(file)
    (tmp_path / "requests.csv").write_text("prompt\na star\n")
    with pytest.raises(RecipeError, match="text_encoder"):
        generate(settings(f"backbone={broken}", "checkpoint=null"), nullcontext, time.perf_counter)


@pytest.mark.slow
def test_the_job_ends_with_status_1_and_names_what_was_refused_once_all_others_are_made(root, python, folder):
    """And super-resolution through the job, its video longer than a window."""
    rows = "prompt_id,task,prompt,image,video,mask\nlarge,super_resolution,a star,,clip.mp4,\n"
    (folder / "clip.mp4").write_bytes((root / "docs" / "images" / "clip.mp4").read_bytes())
    (folder / "requests.csv").write_text(rows + 'beside,cinemagraph,a star,star.png,,"70,0,4,4"\n')
    words = ["--config", "jobs/configs/tasks.yaml", f"requests={folder}/requests.csv", f"out={folder}/videos"]
    words += ["ssr.backbone=demo/weights/upscaler", "ssr.steps=2", "ssr.window=8", f"tracking.artifacts={folder}/a"]
    words += [f"tracking.uri=sqlite:///{folder}/mlflow.db"]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    command = [python, "jobs/generate.py", *words]
    done = subprocess.run(command, cwd=root, env=environment, timeout=500, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "made 1 videos" in done.stdout
    last = done.stderr.strip().splitlines()[-2:]
    assert last[0] == "beside: InputError: mask '70,0,4,4': a box inside the input of 32x32 pixels is expected"
    assert last[1] == f"1 requests have no video; each one's reason is in {folder}/videos/PROMPT_ID.error.json"
    assert "Traceback" not in done.stderr
    video = read_video(folder / "videos" / "large.mp4")
    assert (video.frames_THWC.shape, video.fps) == ((16, 64, 64, 3), 8)
    result = json.loads((folder / "videos" / "large.json").read_text())["result"]
    assert result["windows"] == 3
    assert result["seam_ratio"] > 0
