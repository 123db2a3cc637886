"""A small world to train in: a real data set of moving squares and a real, random backbone folder."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from deltalake import write_deltalake
from safetensors.torch import save_file

from pipelines.curation.catalog import catalog_path
from pipelines.curation.records import Sample
from pipelines.curation.shards import write_shard
from pipelines.video_file import encode_mp4

NUM_CLIPS, NUM_FRAMES, SIZE_PX, FPS = 11, 4, 16, 8


def moving_square(index: int) -> np.ndarray:
    frames_THWC = np.zeros((NUM_FRAMES, SIZE_PX, SIZE_PX, 3), np.uint8)
    for t in range(NUM_FRAMES):
        left = (index + t) % (SIZE_PX - 6)
        frames_THWC[t, 4:10, left : left + 6, index % 3] = 230
    return frames_THWC


def make_dataset(root: Path) -> None:
    """Eleven kept clips in three shards and one that was rejected."""
    samples = [
        Sample(f"clip-{i:02d}", encode_mp4(moving_square(i), Fraction(FPS), crf=0), f"square number {i}", {})
        for i in range(NUM_CLIPS)
    ]
    groups = [samples[first : first + 4] for first in range(0, NUM_CLIPS, 4)]
    placed = [at for index, group in enumerate(groups) for at in write_shard(root / "shards", index, group)]
    rows = [
        {
            "key": at.key,
            "caption": sample.caption,
            "verdict": "kept",
            "shard": at.shard,
            "offset": at.mp4.offset,
            "bytes": at.mp4.num_bytes,
            "num_frames": NUM_FRAMES,
            "size_px": SIZE_PX,
            "fps": float(FPS),
        }
        for sample, at in zip(samples, placed, strict=True)
    ]
    rejected = dict.fromkeys(rows[0], None) | {"caption": "a still one", "verdict": "still"}
    write_deltalake(catalog_path(root), pa.Table.from_pylist([*rows, rejected]))


def make_backbone(folder: Path) -> None:
    """A random U-Net of two levels on pixels with a random open_clip text tower."""
    import open_clip
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=SIZE_PX,
            in_channels=3,
            out_channels=3,
            layers_per_block=1,
            block_out_channels=(8, 16),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=16,
            attention_head_dim=2,
            norm_num_groups=4,
        )
        clip_config = {
            "embed_dim": 16,
            "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
            "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
        }
        clip = open_clip.CLIP(**clip_config)
    unet.save_pretrained(folder / "unet")
    DDPMScheduler(beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction").save_pretrained(
        folder / "scheduler"
    )
    (folder / "text_encoder").mkdir()
    (folder / "text_encoder" / "open_clip_text.json").write_text(json.dumps({"model": "local-dir:../clip"}))
    (folder / "clip").mkdir()
    preprocess = {"size": 16, "mean": [0.5] * 3, "std": [0.5] * 3}
    (folder / "clip" / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": clip_config, "preprocess_cfg": preprocess})
    )
    save_file(
        {k: v.contiguous() for k, v in clip.state_dict().items()}, folder / "clip" / "open_clip_model.safetensors"
    )


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Root of a data set of small clips."""
    root = tmp_path_factory.mktemp("data") / "squares"
    make_dataset(root)
    return root


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backbone folder."""
    folder = tmp_path_factory.mktemp("backbone")
    make_backbone(folder)
    return folder
