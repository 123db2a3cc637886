"""Train the demo's image upscaler, 32 to 64 pixels: a diffusers U-Net that sees the small frame beside the noisy one.

    python -m demo.train_upscaler --out demo/weights/upscaler

A quarter of an hour on one core. As in DeepFloyd IF's second stage the small frame is enlarged, noised to a level that
is told to the U-Net as its class label, and stands behind the noisy frame on the channels. Its text encoder is the
backbone's.

Shape letters: B batch, C channels, T frames (here one), H height, W width.
"""

import json
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor, nn

from demo.captions import caption
from demo.render import render_each
from demo.scene import MOVING_S, draw_scene
from demo.train_clip import FRAME_PX, as_input
from demo.train_unet import SCHEDULE, save_unet
from demo.training_command import parsed, training_parser, with_backbone
from pipelines.progress import track
from pipelines.storage import write_whole
from stunet.objective import ObjectiveConfig, draw, loss, noised
from stunet.super_resolution import low_resolution
from stunet.text import load_text_encoder

LARGE_PX = 2 * FRAME_PX
HIGHEST_LEVEL = 200
UNET: dict[str, Any] = {
    "sample_size": LARGE_PX,
    "in_channels": 6,
    "out_channels": 3,
    "layers_per_block": 1,
    "block_out_channels": (16, 32, 48),
    "down_block_types": ("DownBlock2D", "DownBlock2D", "DownBlock2D"),
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ("UpBlock2D", "UpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 64,
    "attention_head_dim": 2,
    "norm_num_groups": 8,
    "class_embed_type": "timestep",
}


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights."""

    steps: int = 2000
    frames_per_step: int = 12
    lr: float = 2e-3
    ema_decay: float = 0.99
    seed: int = 0
    objective: ObjectiveConfig = field(default_factory=lambda: ObjectiveConfig(text_dropout=0.1))


def train(backbone: Path, out: Path, recipe: Recipe) -> None:
    """Train from nothing and write a diffusers folder."""
    _write_frame(backbone, out)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        unet: Any = UNet2DConditionModel(**UNET)
    average: Any = UNet2DConditionModel(**UNET).requires_grad_(False)
    average.load_state_dict(unet.state_dict())
    schedule, text = DDPMScheduler(**SCHEDULE), load_text_encoder(out)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=recipe.lr, weight_decay=0.01)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, recipe.steps, pct_start=0.1)
    rng = random.Random(recipe.seed)
    for step in track(range(recipe.steps), "training upscaler"):
        value = _loss(unet, schedule, text, rng, step, recipe)
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        rates.step()
        with torch.no_grad():
            for old, new in zip(average.parameters(), unet.parameters(), strict=True):
                old.lerp_(new, 1 - min(recipe.ema_decay, (step + 1) / (step + 10)))
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}/{recipe.steps} loss {value.item():.5f}", flush=True)
    save_unet(average, out)


def _loss(unet: Any, schedule: Any, text: Any, rng: random.Random, step: int, recipe: Recipe) -> Tensor:
    """Mean loss of one step's frames."""
    count = recipe.frames_per_step
    scenes = [draw_scene(rng) for _ in range(count)]
    times_s = [rng.uniform(0, MOVING_S) for _ in scenes]
    captions = [caption(scene, rng) for scene in scenes]
    large, small = (as_input(render_each(scenes, times_s, px, px)).unsqueeze(2) for px in (LARGE_PX, FRAME_PX))
    indices, shape = range(step * count, (step + 1) * count), (3, 1, LARGE_PX, LARGE_PX)
    drawn = draw(recipe.seed, indices, shape, SCHEDULE["num_train_timesteps"], recipe.objective)
    level_B = torch.tensor([rng.randrange(HIGHEST_LEVEL) for _ in scenes])
    noise = draw(recipe.seed + 1, indices, shape, SCHEDULE["num_train_timesteps"], recipe.objective).noise_BCTHW
    beside = low_resolution(small, (LARGE_PX, LARGE_PX), level_B, noise, schedule)
    given = torch.cat([noised(large, drawn, schedule), beside], dim=1).squeeze(2)
    prompts = ["" if gone else words for gone, words in zip(drawn.is_dropped_B.tolist(), captions, strict=True)]
    guess = unet(given, drawn.timestep_B, text.encode(prompts).hidden_BLD, class_labels=level_B).sample
    return loss(guess.unsqueeze(2), large, drawn, schedule, recipe.objective).mean()


def _write_frame(backbone: Path, out: Path) -> None:
    """Everything of the diffusers folder but the weights."""
    unet: Any = UNet2DConditionModel(**UNET)
    for name in ("text_encoder", "tokenizer"):
        shutil.copytree(backbone / name, out / name, dirs_exist_ok=True)
    files = {
        "unet/config.json": json.loads(unet.to_json_string()),
        "scheduler/scheduler_config.json": json.loads(DDPMScheduler(**SCHEDULE).to_json_string()),
    }
    for name, content in files.items():
        write_whole(out / name, (json.dumps(content, indent=2) + "\n").encode())


def main() -> None:
    """Parse the command line and train."""
    arguments = parsed(with_backbone(training_parser(__doc__, "demo/weights/upscaler", Recipe.steps)))
    train(arguments.backbone, arguments.out, Recipe(steps=arguments.steps, seed=arguments.seed))


if __name__ == "__main__":
    main()
