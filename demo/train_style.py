"""Train a style for the demo: a LoRA of its image U-Net on frames in another look, in diffusers' format.

    python -m demo.train_style --out demo/weights/style/night.safetensors

A few minutes on one core. In this look shapes are pale on a dark blue ground: the frame's colours are halved towards
white on the shape and the ground is night. The captions stay the same, so that nothing but the look is learned.

Shape letters: B batch, C channels, T frames (here one), H height, W width.
"""

import random
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from demo.captions import caption
from demo.render import render_each
from demo.scene import MOVING_S, Scene, draw_scene
from demo.train_clip import FRAME_PX, as_input
from demo.training_command import parsed, training_parser, with_backbone
from pipelines.progress import track
from pipelines.storage import write_whole
from stunet.backbone import load_backbone
from stunet.objective import ObjectiveConfig, draw, loss, noised

NIGHT = (24, 28, 64)
"""The ground of every frame, sRGB."""


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights."""

    steps: int = 200
    frames_per_step: int = 32
    rank: int = 8
    lr: float = 3e-3
    seed: int = 0
    objective: ObjectiveConfig = field(default_factory=lambda: ObjectiveConfig(text_dropout=0.12))


class Adapted(nn.Module):
    """A layer and its LoRA: W x + B A x, B zero at first (arXiv 2106.09685)."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int) -> None:
        super().__init__()
        self.layer = layer
        if isinstance(layer, nn.Conv2d):
            shape: dict[str, Any] = {
                "kernel_size": layer.kernel_size,
                "stride": layer.stride,
                "padding": layer.padding,
                "bias": False,
            }
            self.down: nn.Module = nn.Conv2d(layer.in_channels, rank, **shape)
            self.up: nn.Module = nn.Conv2d(rank, layer.out_channels, 1, bias=False)
        else:
            self.down = nn.Linear(layer.in_features, rank, bias=False)
            self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.zeros_(next(self.up.parameters()))

    def forward(self, features: Tensor) -> Tensor:
        """As the layer's."""
        return self.layer(features) + self.up(self.down(features))


def at_night(scene: Scene) -> Scene:
    """The scene in the look of the style."""
    red, green, blue = ((level + 255) // 2 for level in scene.color_rgb)
    return replace(scene, background_rgb=NIGHT, color_rgb=(red, green, blue))


def draw_styled(rng: random.Random, num_frames: int) -> tuple[NDArray[np.uint8], list[str]]:
    """Frames in the style, and the captions of the same scenes by day."""
    scenes = [draw_scene(rng) for _ in range(num_frames)]
    times_s = [rng.uniform(0, MOVING_S) for _ in scenes]
    frames_NHWC = render_each([at_night(scene) for scene in scenes], times_s, FRAME_PX, FRAME_PX)
    return frames_NHWC, [caption(scene, rng) for scene in scenes]


def train(backbone: Path, out: Path, recipe: Recipe) -> None:
    """Train the LoRA and write it."""
    loaded = load_backbone(backbone)
    unet: Any = loaded.unet.requires_grad_(False)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        adapted = _adapt(unet, recipe.rank)
    parameters = [value for one in adapted.values() for part in (one.down, one.up) for value in part.parameters()]
    for value in parameters:
        value.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, recipe.steps, pct_start=0.1)
    rng, smooth = random.Random(recipe.seed), None
    for step in track(range(recipe.steps), "training style"):
        frames_NHWC, captions = draw_styled(rng, recipe.frames_per_step)
        video_BCTHW = as_input(frames_NHWC).unsqueeze(2)
        indices = range(step * recipe.frames_per_step, (step + 1) * recipe.frames_per_step)
        drawn = draw(recipe.seed, indices, (3, 1, FRAME_PX, FRAME_PX), 1000, recipe.objective)
        prompts = ["" if gone else text for gone, text in zip(drawn.is_dropped_B.tolist(), captions, strict=True)]
        noisy_BCTHW = noised(video_BCTHW, drawn, loaded.scheduler)
        guess = unet(noisy_BCTHW.squeeze(2), drawn.timestep_B, loaded.text_encoder.encode(prompts).hidden_BLD).sample
        value = loss(guess.unsqueeze(2), video_BCTHW, drawn, loaded.scheduler, recipe.objective).mean()
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        smooth = value.item() if smooth is None else 0.97 * smooth + 0.03 * value.item()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1}/{recipe.steps} loss {smooth:.5f}", flush=True)
    _save(adapted, out)


def _adapt(unet: Any, rank: int) -> dict[str, Adapted]:
    """Put a LoRA on every convolution of the residual blocks, on the last one, and on the text's value layers."""
    adapted: dict[str, Adapted] = {}
    for name, layer in list(unet.named_modules()):
        is_chosen = name.endswith((".conv1", ".conv2", "attn2.to_v")) or name in ("conv_in", "conv_out")
        if is_chosen and isinstance(layer, nn.Linear | nn.Conv2d):
            parent, _, leaf = name.rpartition(".")
            adapted[name] = Adapted(layer, rank)
            setattr(unet.get_submodule(parent) if parent else unet, leaf, adapted[name])
    return adapted


def _save(adapted: dict[str, Adapted], out: Path) -> None:
    from safetensors.torch import save

    tensors: dict[str, Tensor] = {}
    for name, one in adapted.items():
        for part, layer in (("lora_A", one.down), ("lora_B", one.up)):
            tensors[f"unet.{name}.{part}.weight"] = layer.state_dict()["weight"].half().contiguous()
    write_whole(out, save(tensors, {"format": "pt"}))


def main() -> None:
    """Parse the command line and train."""
    arguments = parsed(with_backbone(training_parser(__doc__, "demo/weights/style/night.safetensors", Recipe.steps)))
    train(arguments.backbone, arguments.out, Recipe(steps=arguments.steps, seed=arguments.seed))


if __name__ == "__main__":
    main()
