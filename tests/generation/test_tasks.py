"""Every task end to end on the demo's backbone with random temporal weights: what is kept, said and changed."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from pipelines.config import load_config
from pipelines.generation.config import GenerateConfig
from pipelines.generation.maker import Made, VideoMaker
from pipelines.generation.refusal import Refusal
from pipelines.generation.requests import Request, read_requests
from pipelines.generation.resolve import check_tasks, make_recipe
from pipelines.generation.sizes import RecipeError
from pipelines.pixels import to_frames
from pipelines.video_file import read_video, write_mp4
from stunet import weights
from stunet.backbone import load_backbone
from stunet.inflate import InflationConfig, inflate, temporal_parameters

# diffusers' DPM-Solver++ hands tensors to numpy 2 in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
LAYER = "mid_block.attentions.0.transformer_blocks.0.attn2.to_v"


@pytest.fixture(scope="module")
def backbone(root: Path) -> Path:
    return root / "demo" / "weights" / "backbone"


@pytest.fixture(scope="module")
def files(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conditioned checkpoint with random weights, an image, a video, a style."""
    folder = tmp_path_factory.mktemp("files")
    loaded = load_backbone(backbone)
    stunet = inflate(loaded.unet, InflationConfig(temporal_factor=2, attention_layers=1, is_conditioned=True))
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in temporal_parameters(stunet).items():
            if ".projection." in name or ".known." in name:
                value.normal_(std=0.02, generator=rng)
    extra = {"num_frames": 4, "fps": 8, "size_px": 32, "dataset_version": 7}
    weights.save(stunet, folder / "model", loaded.name, loaded.digest, extra)
    pixels = np.random.default_rng(0).integers(0, 255, (4, 32, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels[0]).save(folder / "image.png")
    write_mp4(folder / "video.mp4", pixels, 8, crf=0)
    width = loaded.unet.state_dict()[f"{LAYER}.weight"].shape
    draw = torch.Generator().manual_seed(1)
    lora = {
        f"unet.{LAYER}.lora_A.weight": torch.randn(2, width[1], generator=draw),
        f"unet.{LAYER}.lora_B.weight": torch.randn(width[0], 2, generator=draw),
    }
    save_file(lora, folder / "lora.safetensors")
    return folder


@pytest.fixture(scope="module")
def make(backbone: Path, files: Path):
    """`make(task, *overrides)`: the one request of a configuration, made."""
    makers: dict[tuple[str, ...], VideoMaker] = {}

    def settings(*overrides: str) -> GenerateConfig:
        words = (f"backbone={backbone}", f"checkpoint={files}/model", f"out={files}/out", "prompt=a red star")
        return load_config(GenerateConfig, None, (*words, "sampler.steps=2", *overrides))

    def run(*overrides: str) -> Made:
        config = settings(*overrides)
        recipe = make_recipe(config)
        requests = read_requests(config)
        check_tasks(recipe, requests)
        key = tuple(word for word in overrides if word.startswith(("sampler", "paste", "ssr", "then", "precision")))
        maker = makers.setdefault(key, VideoMaker(recipe))
        return maker.make(requests)[0]

    run.settings = settings
    return run


def test_an_image_becomes_the_first_frame_and_how_well_it_came_back_is_told(make, files):
    made = make("task=image_to_video", f"image={files}/image.png")
    image = np.asarray(Image.open(files / "image.png"))[:, 8:40]
    frames = to_frames(made.video_CTHW)
    assert frames.shape == (4, 32, 32, 3)
    assert (frames[0] == image).all(), "known pixels are pasted"
    assert (frames[1] != image).any()
    assert made.result["inputs"] == ["image: cropped from 48x32 to its middle 32x32"]
    raw = make("task=image_to_video", f"image={files}/image.png", "paste_known=false")
    error = (to_frames(raw.video_CTHW)[0].astype(float) - image) ** 2
    assert raw.result["known_psnr_db"] == made.result["known_psnr_db"]
    assert made.result["known_psnr_db"] == pytest.approx(10 * np.log10(255**2 / error.mean()), abs=0.2)


@pytest.mark.parametrize("task", ["inpainting", "object_replacement"])
def test_what_is_outside_the_mask_stays_and_what_is_inside_is_made_anew(make, files, task):
    made = make(f"task={task}", f"video={files}/video.mp4", "mask='8,0,16,32'")
    frames, given = to_frames(made.video_CTHW), read_video(files / "video.mp4").frames_THWC[:, :, 8:40]
    assert (frames[:, :, 16:] == given[:, :, 16:]).all()
    assert (frames[:, :, :16] != given[:, :, :16]).mean() > 0.5
    assert made.result["known_psnr_db"] > 0


def test_outpainting_keeps_the_video_on_its_place_of_the_canvas(make, files):
    made = make("task=outpainting", f"video={files}/video.mp4", "mask='0,16,16,16'")
    frames = to_frames(made.video_CTHW)
    assert made.result["inputs"] == [
        "video: cropped from 48x32 to its middle 32x32",
        "video: scaled from 32x32 to 16x16",
        "video: 16x16 pixels of it lie 0 from the left and 16 from the top of the canvas of 32x32",
    ]
    whole = make("task=outpainting", f"video={files}/video.mp4", "mask='0,0,32,32'")
    assert (to_frames(whole.video_CTHW) == read_video(files / "video.mp4").frames_THWC[:, :, 8:40]).all()
    assert frames.shape == (4, 32, 32, 3)


def test_a_cinemagraph_stands_still_outside_its_mask_and_moves_inside(make, files):
    made = make("task=cinemagraph", f"image={files}/image.png", "mask='8,0,16,32'")
    frames = to_frames(made.video_CTHW)
    assert (frames[:, :, 16:] == frames[:1, :, 16:]).all()
    assert (frames[1:, :, :16] != frames[:1, :, :16]).any()


def test_stylisation_of_strength_0_returns_the_input_and_of_more_moves_away(make, files):
    given = read_video(files / "video.mp4").frames_THWC[:, :, 8:40]
    nothing = make("task=stylisation", f"video={files}/video.mp4", "strength=0")
    assert (to_frames(nothing.video_CTHW) == given).all()
    much = make("task=stylisation", f"video={files}/video.mp4", "strength=1")
    assert (to_frames(much.video_CTHW) != given).mean() > 0.5


def test_a_strength_of_no_step_returns_the_input_untouched_by_a_vae_and_says_so(make, files, sdxl):
    words = ("task=stylisation", f"video={files}/video.mp4", "frames=4")
    pixels = make(*words, "strength=0.2")
    latents = make(
        *words, "strength=0.2", "sampler.guidance_scale=2", f"backbone={sdxl}", "checkpoint=null", "size_px=32"
    )
    given = read_video(files / "video.mp4").frames_THWC[:, :, 8:40]
    for made in (pixels, latents):
        assert (to_frames(made.video_CTHW) == given).all()
        assert made.result["inputs"][-1] == "strength 0.2 of 2 steps is no step: the video comes back as it is"
    some = make(*words, "strength=0.3")
    assert (to_frames(some.video_CTHW) != given).any()


def test_a_style_changes_the_video_its_absence_after_it_leaves_no_trace_and_alpha_0_is_none(make, files):
    plain = make()
    style = make(f"style={files}/lora.safetensors", "alpha=0.8")
    again = make()
    none = make(f"style={files}/lora.safetensors", "alpha=0")
    assert not torch.equal(style.video_CTHW, plain.video_CTHW)
    assert torch.equal(again.video_CTHW, plain.video_CTHW)
    assert torch.equal(none.video_CTHW, plain.video_CTHW)
    refused = make(f"style={files}/image.png")
    assert isinstance(refused, Refusal)
    assert refused[:2] == ("0000", "StyleError")
    assert "image.png: not a readable safetensors file" in refused.reason
    assert torch.equal(make().video_CTHW, plain.video_CTHW), "what was refused leaves no trace"


def test_bf16_makes_nearly_the_same_video(make):
    plain, half = make(), make("precision=bf16")
    assert half.video_CTHW.dtype == torch.float32
    assert (half.video_CTHW - plain.video_CTHW).abs().mean() < 0.05


def test_a_task_that_the_checkpoint_was_not_trained_for_is_refused_by_the_requests_name(make, files):
    config = make.settings("checkpoint=null", "task=image_to_video", f"image={files}/image.png")
    with pytest.raises(RecipeError, match=r"request 0000: image_to_video expects a checkpoint .*is_conditioned=true"):
        check_tasks(make_recipe(config), read_requests(config))


def test_the_record_tells_all_that_made_a_video_and_what_came_of_it(make, files):
    config = make.settings(
        "task=image_to_video", f"image={files}/image.png", f"style={files}/lora.safetensors", "seed=4"
    )
    recipe, request = make_recipe(config), read_requests(config)[0]
    record = json.loads(recipe.record(request, {"known_psnr_db": 20.0}))
    assert record["checkpoint"]["digest"] == weights.digest(files / "model")
    assert record["checkpoint"]["dataset_version"] == 7
    assert set(record["input_digests"]) == {"image", "style"}
    assert (record["seed"], record["alpha"], record["sampler"]["scheduler"]) == (4, 0.7, "dpm++")
    assert record["result"] == {"known_psnr_db": 20.0}
    for path, data in zip(recipe.paths("0000"), (b"mp4", recipe.record(request, {"known_psnr_db": 20.0})), strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    assert recipe.is_finished(request)
    other: Request = {**request, "alpha": 0.9}
    assert not recipe.is_finished(other)
    image = np.asarray(Image.open(files / "image.png")).copy()
    Image.fromarray(255 - image).save(files / "image.png")
    assert not recipe.is_finished(request), "the image is another one now"
    Image.fromarray(image).save(files / "image.png")
