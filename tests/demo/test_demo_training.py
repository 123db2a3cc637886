"""The scripts that trained the demo's weights, for a few steps."""

from pathlib import Path

import pytest
import torch

from demo.scene import Scene, draw_scene
from demo.train_clip import Recipe as ClipRecipe
from demo.train_clip import is_true
from demo.train_clip import train as train_clip
from demo.train_text import Recipe as TextRecipe
from demo.train_text import train as train_text
from demo.train_unet import Recipe, learning_rate
from demo.train_unet import train as train_unet
from stunet.backbone import load_backbone


def scene() -> Scene:
    import dataclasses
    import random

    return dataclasses.replace(draw_scene(random.Random(0), "star", "red"), background="tan", size="small")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("a red star moving left", True),
        ("a small red star on a tan background", True),
        ("a large red star", False),
        ("red star on a grey background", False),
        ("blue star", False),
        ("red circle", False),
    ],
)
def test_a_caption_is_true_of_a_frame_where_all_that_one_frame_shows_is_right(words: str, expected: bool) -> None:
    assert is_true(frozenset(words.split()), scene()) is expected


def test_the_learning_rate_warms_up_and_falls_to_a_fiftieth() -> None:
    recipe = Recipe(steps=1000, warmup_steps=100, lr=1.0)
    assert learning_rate(0, recipe) == pytest.approx(0.01)
    highest = max(range(1000), key=lambda step: learning_rate(step, recipe))
    assert 90 <= highest <= 100
    assert learning_rate(highest, recipe) == pytest.approx(1.0, abs=0.03)
    assert learning_rate(1000, recipe) == pytest.approx(0.02)


@pytest.mark.slow
def test_all_scripts_write_folders_that_load_and_the_same_weights_for_one_seed(tmp_path: Path) -> None:
    digests = []
    for name in ("first", "again"):
        clip, backbone = tmp_path / name / "clip", tmp_path / name / "backbone"
        train_clip(clip, ClipRecipe(steps=20, frames_per_step=8))
        train_text(backbone, TextRecipe(steps=5, captions_per_step=8))
        train_unet(backbone, Recipe(steps=2, frames_per_worker=2))
        loaded = load_backbone(backbone)
        assert loaded.text_encoder.encode(["a red star"]).hidden_BLD.shape == (1, 24, 64)
        assert all(torch.isfinite(parameter).all() for parameter in loaded.unet.parameters())
        digests.append((loaded.digest, (clip / "open_clip_model.safetensors").read_bytes()))
    assert digests[0] == digests[1]
