"""Sizes, channels and levels of noise that a backbone cannot take are told by key, before Ray starts."""

import json
from pathlib import Path

import pytest

from pipelines.config import ConfigError, load_config
from pipelines.generation.config import GenerateConfig
from pipelines.generation.resolve import make_recipe
from pipelines.generation.sizes import RecipeError, check_size, upscaler_sides

SD = {"block_out_channels": [320, 640, 1280, 1280], "down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]}
IF = {"block_out_channels": [192, 384, 576, 768], "down_block_types": ["ResnetDownsampleBlock2D"] * 4}
VAE = {"block_out_channels": [128, 256, 512, 512], "latent_channels": 4}


def folder(tmp_path: Path, unet: dict[str, object], vae: dict[str, object] | None = None, kind: str = "") -> Path:
    parts = {"unet": {"sample_size": 64, "in_channels": 4, **unet}} | ({} if vae is None else {"vae": vae})
    for name, content in parts.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(content))
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": kind}))
    return tmp_path


def test_a_size_that_the_vae_does_not_make_is_refused_with_the_nearest_ones(tmp_path):
    place = folder(tmp_path, SD, VAE)
    check_size(104, place, "size_px")
    message = r"size_px: a multiple of 8 is expected \(the VAE shrinks by that\), given 100; nearest: 96 and 104"
    with pytest.raises(RecipeError, match=message):
        check_size(100, place, "size_px")


def test_a_size_that_the_unet_cannot_halve_is_refused_where_its_blocks_are_exact(tmp_path):
    place = folder(tmp_path, IF)
    check_size(72, place, "ssr.size_px")
    message = r"ssr\.size_px: a multiple of 8 is expected \(the U-Net halves its side\), given 68; nearest: 64 and 72"
    with pytest.raises(RecipeError, match=message):
        check_size(68, place, "ssr.size_px")


def test_stable_diffusion_takes_every_even_size_in_pixels(tmp_path):
    place = folder(tmp_path, SD)
    check_size(34, place, "size_px")
    with pytest.raises(RecipeError, match=r"size_px: an even number is expected .* given 35; nearest: 34 and 36"):
        check_size(35, place, "size_px")


@pytest.mark.parametrize(
    ("kind", "trained", "low_px", "size_px", "sides"),
    [
        ("", {}, None, None, (32, 64)),
        ("", {}, 48, None, (48, 96)),
        ("", {}, None, 128, (64, 128)),
        ("", {}, 20, 128, (20, 128)),
        ("IFSuperResolutionPipeline", {}, None, None, (16, 64)),
        ("", {"size_px": 64, "low_size_px": 8}, None, None, (8, 64)),
        ("", {"size_px": 64, "recipe": {"upscaling": {"low_size_px": 16}}}, 32, None, (32, 128)),
    ],
)
def test_an_upscaler_enlarges_by_the_factor_that_it_was_trained_on(tmp_path, kind, trained, low_px, size_px, sides):
    assert upscaler_sides(low_px, size_px, folder(tmp_path, SD, kind=kind), trained) == sides


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["ssr.noise_level=1000"], r"ssr\.noise_level: 0 to 999 expected, given 1000"),
        (["ssr.size_px=65"], r"ssr\.size_px: an even number is expected .* given 65"),
        (["ssr.backbone={root}/backbone"], r"ssr\.backbone: backbone: a U-Net of 6 input channels .*given one of 3"),
        (["backbone={root}/upscaler"], r"backbone: upscaler: a U-Net of 3 input channels .*given one of 6"),
        (["sampler.steps=1001"], r"sampler: steps: at most the schedule's 1000 timesteps expected, given 1001"),
        (["ssr.steps=1001"], r"ssr: steps: at most the schedule's 1000 timesteps expected, given 1001"),
    ],
)
def test_what_the_models_cannot_do_is_refused_before_one_is_loaded(root, overrides, message):
    place = root / "demo" / "weights"
    words = [f"backbone={place}/backbone", f"ssr.backbone={place}/upscaler", "out=o", "prompt=a"]
    config = load_config(GenerateConfig, None, [*words, *(word.format(root=place) for word in overrides)])
    with pytest.raises(RecipeError, match=message):
        make_recipe(config)


def test_a_batch_of_no_window_is_refused():
    with pytest.raises(ConfigError, match=r"windows_per_batch"):
        load_config(GenerateConfig, None, ["out=o", "prompt=a", "ssr.windows_per_batch=0"])
