"""The demo's recipe: what it trains on, that it goes on where it was stopped, and what is held out."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from demo.asked import recoloured, tasks
from demo.captions import caption
from demo.clips import NUM_FRAMES, RenderedClips, clip_of, held_out
from demo.fidelity import fidelity, said
from demo.measure_upscaler import clips, quality
from demo.scene import COLORS, MOTIONS, SHAPES, draw_scene
from demo.train_stunet import Recipe, randomise, train_stunet
from demo.train_style import NIGHT, draw_styled
from demo.train_style import Recipe as StyleRecipe
from demo.train_style import train as train_style
from demo.train_text import Recipe as TextRecipe
from demo.train_text import train as train_text
from pipelines.pixels import to_frames
from pipelines.training.config import InflationSettings
from stunet.backbone import load_backbone
from stunet.inflate import inflate, temporal_parameters
from stunet.lora import load_style
from stunet.super_resolution import SsrConfig, enlarged
from stunet.weights import load_stunet


def test_held_out_scenes_show_every_shape_colour_and_motion_and_their_captions_are_true() -> None:
    held = held_out()
    assert len({one.caption for one in held}) == len(held) == 200
    assert {one.scene.shape for one in held} == set(SHAPES)
    assert {one.scene.color for one in held} == set(COLORS)
    assert {one.scene.motion for one in held} == set(MOTIONS)
    for one in held[::20]:
        assert fidelity(to_frames(clip_of(one.scene)), one.caption)["motion"] == 1.0


def test_a_recoloured_caption_names_another_colour_and_keeps_all_else() -> None:
    for held in held_out():
        wanted, now = said(held.caption), said(recoloured(held))
        assert now.color in COLORS
        assert now.color != wanted.color
        assert (now.shape, now.motion) == (wanted.shape, wanted.motion)


@pytest.mark.parametrize("name", tasks())
def test_what_a_task_tells_the_model_is_true_of_the_clip(name: str) -> None:
    held = held_out()[:3]
    videos = torch.stack([clip_of(one.scene) for one in held])
    asked = tasks()[name](held, videos)
    assert len(asked.captions) == 3
    if asked.known is None:
        assert name.startswith(("text", "style", "stylisation"))
        return
    first = asked.known.mask_B1THW[:, :, 0].expand_as(videos[:, :, 0]).bool()
    assert torch.equal(asked.known.video_BCTHW[:, :, 0][first], videos[:, :, 0][first])
    assert 0 < asked.known.mask_B1THW.mean() < 1


def test_the_truth_has_no_seams_and_shows_what_its_captions_say() -> None:
    shown = clips(held_out()[:4])
    row = quality(shown.large, shown, SsrConfig(window=8, overlap=2))
    assert row["psnr_db"] == pytest.approx(10 * np.log10(4e12))
    assert (row["color"], row["shape"], row["motion"]) == (1.0, 1.0, 1.0)
    assert row["seam_ratio"] == pytest.approx(1.0, abs=0.15)
    assert row["psnr_db"] > quality(enlarged(shown.small, (64, 64)), shown, SsrConfig(window=8, overlap=2))["psnr_db"]


def test_training_never_sees_a_held_out_caption_and_draws_each_sample_by_its_number() -> None:
    clips, held = RenderedClips(seed=0, clips_per_step=50), {one.caption for one in held_out()}
    whole = [batch for batches in clips.steps(0, 4) for batch in batches]
    seen = [words for batch in whole for words in batch.captions]
    assert len(seen) == 200
    assert not held & set(seen)
    rest = next(clips.steps(150, 1))[0]
    assert rest.captions == seen[150:]
    assert rest.samples == range(150, 200)
    assert torch.equal(rest.video_BCTHW, whole[3].video_BCTHW)
    assert rest.video_BCTHW.shape == (50, 3, NUM_FRAMES, 32, 32)


def test_the_ablations_random_start_changes_what_the_identity_keeps(root: Path) -> None:
    backbone = load_backbone(root / "demo" / "weights" / "backbone")
    stunet = inflate(backbone.unet)
    trainable = temporal_parameters(stunet)
    before = {name: value.detach().clone() for name, value in trainable.items()}
    randomise(trainable, seed=1)
    changed = {name for name in trainable if not torch.equal(trainable[name], before[name])}
    assert {name for name in trainable if name.endswith("projection.weight")} <= changed
    assert any("downsamplers" in name for name in changed)
    assert any("upsamplers" in name for name in changed)


def test_frames_of_the_style_are_night_and_captions_are_those_of_the_day() -> None:
    frames, captions = draw_styled(random.Random(0), 8)
    assert (frames[:, 0, 0] == NIGHT).mean() > 0.8
    rng = random.Random(0)
    scenes = [draw_scene(rng) for _ in range(8)]
    assert {scene.color for scene in scenes} & set(" ".join(captions).split())
    assert caption(scenes[0], random.Random(1)) != ""


@pytest.mark.slow
def test_training_goes_on_from_its_checkpoint_and_ends_in_the_same_weights(root: Path, tmp_path: Path) -> None:
    backbone = root / "demo" / "weights" / "backbone"
    inflation = InflationSettings(temporal_factor=2, attention_layers=1, is_conditioned=True)
    recipe = Recipe(steps=4, clips_per_step=2, inflation=inflation)
    torch.set_num_threads(1)
    train_stunet(tmp_path / "whole", backbone, recipe, save_every=2)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "stop").touch()
    train_stunet(tmp_path / "parts", backbone, recipe, save_every=2)
    losses = (tmp_path / "parts" / "losses.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in losses] == [1], "it was asked to stop, and did after its step"
    (tmp_path / "parts" / "stop").unlink()
    train_stunet(tmp_path / "parts", backbone, recipe, save_every=2)
    whole, parts = (load_file(tmp_path / name / "model" / "temporal.safetensors") for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    assert load_stunet(load_backbone(backbone), tmp_path / "parts" / "model").config.is_conditioned


@pytest.mark.slow
def test_the_styles_script_writes_a_lora_that_fits_and_is_the_same_for_one_seed(root: Path, tmp_path: Path) -> None:
    backbone = root / "demo" / "weights" / "backbone"
    for name in ("first", "again"):
        train_style(backbone, tmp_path / name, StyleRecipe(steps=2, frames_per_step=2, rank=2))
    assert (tmp_path / "first").read_bytes() == (tmp_path / "again").read_bytes()
    state = load_backbone(backbone).unet.state_dict()
    style = load_style(tmp_path / "first", state)
    assert style.keys() == state.keys()
    assert any(not torch.equal(style[name], state[name]) for name in state)


@pytest.mark.slow
def test_the_text_encoders_script_writes_one_that_keeps_the_words_of_motion(tmp_path: Path) -> None:
    for name in ("first", "again"):
        train_text(tmp_path / name, TextRecipe(steps=30, captions_per_step=16))
    files = [tmp_path / name / "text_encoder" / "model.safetensors" for name in ("first", "again")]
    assert files[0].read_bytes() == files[1].read_bytes()
    from stunet.text import load_text_encoder

    encoder = load_text_encoder(tmp_path / "first")
    left, right = encoder.encode(["a red star moves left", "a red star moves right"]).hidden_BLD
    assert np.abs((left - right).numpy()).max() > 0.1
