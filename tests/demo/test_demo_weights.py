"""The committed weights: they load as any other model does, are small, and know the demo's world."""

from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch

from demo.captions import vocabulary
from demo.measure_weights import WEIGHTS, draw_captions, draw_images, measure_clip, measure_images, sheet
from demo.train_clip import FRAME_PX, as_input
from demo.train_unet import UNET
from stunet.backbone import load_backbone

CLIP = f"local-dir:{WEIGHTS / 'clip'}"


def test_all_weights_together_take_at_most_twelve_megabytes_and_hold_no_pickle() -> None:
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12_000_000
    assert (WEIGHTS / "clip" / "open_clip_model.safetensors").stat().st_size <= 2_000_000
    assert {path.suffix for path in files} == {".json", ".safetensors"}


def test_open_clip_loads_the_clip_and_its_preprocessing_is_that_of_training() -> None:
    model, _, preprocess = open_clip.create_model_and_transforms(CLIP)
    assert isinstance(model, open_clip.CLIP)
    import numpy as np
    from PIL import Image

    frame_HWC = np.random.default_rng(0).integers(0, 255, (FRAME_PX, FRAME_PX, 3), dtype=np.uint8)
    prepared: Any = preprocess
    torch.testing.assert_close(prepared(Image.fromarray(frame_HWC)), as_input(frame_HWC[None])[0])


def test_the_tokenizer_knows_the_words_of_captions_and_calls_others_unknown() -> None:
    tokenizer: Any = open_clip.get_tokenizer(CLIP)
    pad, unknown, start, end = 0, 1, 2, len(vocabulary()) + 3
    tokens = tokenizer(["", "Red hexagon up-right", "red " * 100])
    assert tokens.shape == (3, 24)
    assert tokens[0].tolist() == [start, end] + [pad] * 22
    assert tokens[1].tolist()[2] == unknown
    assert unknown not in tokens[2].tolist()
    assert tokens[2].tolist()[-1] == end
    assert tokenizer(["red"])[0, 1] == tokenizer(["RED"])[0, 1]
    assert unknown not in tokenizer([" ".join(vocabulary()[:20])])[0].tolist()


def test_the_clip_tells_right_captions_from_wrong_ones() -> None:
    quality = measure_clip(WEIGHTS / "clip", num_frames=192)
    assert quality.retrieval >= 0.95
    assert quality.auc_other >= 0.999
    assert min(quality.auc_color, quality.auc_shape) >= 0.99
    assert quality.right[0] > 0.7 > quality.wrong[1]


def test_the_backbone_is_the_unet_that_its_script_describes() -> None:
    backbone = load_backbone(WEIGHTS / "backbone")
    assert backbone.vae is None
    assert backbone.scheduler.config["prediction_type"] == "v_prediction"
    assert backbone.text_encoder.encode(["", "a red circle"]).hidden_BLD.shape == (2, 24, 64)
    config = {name: tuple(v) if isinstance(v, list) else v for name, v in backbone.unet.config.items()}
    assert {name: config[name] for name in UNET} == UNET


def test_images_are_the_same_for_one_seed() -> None:
    first, again, other = (draw_images(WEIGHTS / "backbone", ["a red star"], 2, seed=seed) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()
    assert sheet(first).size == (960, 96)


@pytest.mark.slow
def test_colour_and_shape_are_read_out_of_the_images_of_a_hundred_captions(tmp_path: Path) -> None:
    batch = draw_captions(100)
    quality = measure_images(draw_images(WEIGHTS / "backbone", batch.captions), batch.scenes)
    assert quality.color >= 0.90
    assert quality.shape >= 0.75
