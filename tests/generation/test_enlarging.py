"""Videos through the demo's upscaler: a user's own, and what the first model made."""

import json
from collections.abc import Callable
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.config import load_config
from pipelines.generation.config import GenerateConfig
from pipelines.generation.maker import VideoMaker
from pipelines.generation.requests import RequestError, read_requests
from pipelines.generation.resolve import make_recipe
from pipelines.video_file import read_video, write_mp4
from stunet.sampler import SamplerConfig

# diffusers' DPM-Solver++ hands tensors to numpy 2 in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
Settings = Callable[..., GenerateConfig]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """own.mp4: 20 frames of 32 pixels at 12 fps; large.mp4: 5 frames, 96 x 64."""
    folder = tmp_path_factory.mktemp("clips")
    frames = np.zeros((20, 32, 32, 3), np.uint8)
    for t in range(20):
        frames[t, 8:24, t : t + 12] = 220
    write_mp4(folder / "own.mp4", frames, 12, crf=0)
    write_mp4(folder / "large.mp4", frames[:5].repeat(2, 1).repeat(3, 2), 8, crf=0)
    return folder


@pytest.fixture
def settings(root: Path, clips: Path, tmp_path: Path) -> Settings:
    def make(*overrides: str) -> GenerateConfig:
        place = root / "demo" / "weights"
        words = [f"backbone={place}/backbone", f"checkpoint={place}/stunet", f"out={tmp_path}/videos", "prompt=a star"]
        words += [f"ssr.backbone={place}/upscaler", "sampler.steps=2", "ssr.steps=2"]
        return load_config(GenerateConfig, None, [*words, *overrides])

    return make


def enlarge(config: GenerateConfig):
    return VideoMaker(make_recipe(config)).make(read_requests(config))[0]


def test_a_users_video_is_enlarged_at_its_own_length_and_rate_on_several_windows(settings, clips, tmp_path):
    config = settings("task=super_resolution", f"video={clips}/own.mp4")
    maker, requests = VideoMaker(make_recipe(config)), read_requests(config)
    maker({"request": np.array([json.dumps(requests[0])])})
    video = read_video(tmp_path / "videos" / "0000.mp4")
    assert (video.frames_THWC.shape, video.fps) == ((20, 64, 64, 3), 12)
    given = read_video(clips / "own.mp4").frames_THWC.repeat(2, 1).repeat(2, 2)
    nearness = np.corrcoef(video.frames_THWC.reshape(20, -1), given.reshape(20, -1))[:20, 20:]
    assert nearness.argmax(axis=1).tolist() == list(range(20)), "each frame shows its own"
    result = json.loads((tmp_path / "videos" / "0000.json").read_text())["result"]
    assert result["enlarged"] == "32 to 64 pixels a side"
    assert (result["inputs"], result["num_frames"], result["fps"], result["windows"]) == ([], 20, 12, 2)
    assert result["seam_ratio"] > 0
    assert result["device"] == "cpu"


def test_a_video_of_another_size_is_brought_to_what_the_upscaler_was_trained_on_or_to_what_is_told(settings, clips):
    trained = enlarge(settings("task=super_resolution", f"video={clips}/large.mp4"))
    assert trained.video_CTHW.shape == (3, 5, 64, 64)
    assert trained.result["inputs"] == [
        "video: cropped from 96x64 to its middle 64x64",
        "video: scaled from 64x64 to 32x32",
        "video: scaled down to the side that goes into the upscaler; "
        "ssr.low_size_px=64 enlarges all of its pixels to 128",
    ]
    told = enlarge(settings("task=super_resolution", f"video={clips}/large.mp4", "ssr.low_size_px=64"))
    assert told.video_CTHW.shape == (3, 5, 128, 128)
    assert told.result["inputs"] == ["video: cropped from 96x64 to its middle 64x64"]
    assert told.result["enlarged"] == "64 to 128 pixels a side"


def test_frames_and_fps_are_the_configurations_where_it_has_some(settings, clips):
    made = enlarge(settings("task=super_resolution", f"video={clips}/own.mp4", "frames=4", "fps=6"))
    assert (made.video_CTHW.shape[1], made.fps) == (4, Fraction(6))
    cut = enlarge(settings("task=super_resolution", f"video={clips}/own.mp4", "ssr.max_frames=3"))
    assert cut.video_CTHW.shape[1] == 3
    assert cut.result["inputs"] == ["video: cut to the first 3 of 20 frames (ssr.max_frames)"]


def test_what_another_task_made_is_enlarged_too_and_a_few_windows_at_a_time_make_the_same(settings):
    words = ("then_enlarge=true", "frames=8", "ssr.window=4", "batch_size=2")
    whole, parts = enlarge(settings(*words)), enlarge(settings(*words, "ssr.windows_per_batch=1"))
    assert whole.video_CTHW.shape == (3, 8, 64, 64)
    assert (whole.result["enlarged"], whole.result["windows"]) == ("32 to 64 pixels a side", 3)
    torch.testing.assert_close(parts.video_CTHW, whole.video_CTHW, atol=1e-4, rtol=0)
    small = enlarge(settings("frames=8"))
    means = (torch.nn.functional.avg_pool3d(whole.video_CTHW, (1, 2, 2)) - small.video_CTHW).abs().mean()
    assert means < 0.2, "it shows what the first model made"


def test_an_enlarged_video_agrees_with_the_small_one_where_it_is_brought_back_to_it(settings):
    small = enlarge(settings("frames=8")).video_CTHW

    def lacking(rounds: int) -> float:
        made = enlarge(settings("then_enlarge=true", "frames=8", f"ssr.back_projections={rounds}")).video_CTHW
        return float((torch.nn.functional.avg_pool3d(made, (1, 2, 2)) - small).square().mean())

    assert lacking(2) < 0.3 * lacking(0)


@pytest.mark.parametrize(
    ("windows", "why"),
    [
        (("ssr.window=3", "ssr.overlap=2"), "between all frames a window begins or ends"),
        (("ssr.window=16",), "the video is one window"),
    ],
)
def test_where_seams_cannot_be_compared_the_video_is_made_and_the_ratio_is_left_out(settings, windows, why):
    made = enlarge(settings("then_enlarge=true", "frames=6", *windows))
    assert made.result["seam_ratio"] is None
    assert made.result["seam_ratio_is_null"] == why


def test_a_style_of_a_model_that_is_not_used_is_refused(settings, clips, root):
    style = root / "demo" / "weights" / "style" / "night.safetensors"
    with pytest.raises(RequestError, match=r"super_resolution takes no `style`, which is of the first model"):
        read_requests(settings("task=super_resolution", f"video={clips}/own.mp4", f"style={style}"))


def test_a_record_names_the_models_that_made_its_video_and_no_other(settings, clips):
    def record(*overrides: str) -> dict[str, object]:
        config = settings(*overrides)
        return json.loads(make_recipe(config).record(read_requests(config)[0]))

    assert record() == record("ssr.backbone=null"), "an upscaler that is not used"
    assert record("ssr.windows_per_batch=1", "then_enlarge=true") == record("then_enlarge=true"), "memory alone"
    enlarged = record("then_enlarge=true")
    assert enlarged["ssr"]["sampler"].keys() == {field.name for field in fields(SamplerConfig)}
    assert {"window", "overlap", "noise_level", "size_px", "back_projections"} <= enlarged["ssr"].keys()
    assert set(enlarged["ssr"]["backbone"]) == {"name", "digest", "rest_digest"}
    own = record("task=super_resolution", f"video={clips}/own.mp4")
    assert "sampler" not in own
    assert own == record("task=super_resolution", f"video={clips}/own.mp4", "sampler.steps=9", "checkpoint=null")
    assert (own["ssr"]["low_size_px"], own["ssr"]["num_frames"], own["ssr"]["max_frames"]) == (32, None, 240)
