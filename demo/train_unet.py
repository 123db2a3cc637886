"""Train the demo's image U-Net: diffusers' own UNet2DConditionModel on single captioned frames, in pixel space.

    python -m demo.train_unet --out demo/weights/backbone

About twenty minutes on one core. Text is read by the encoder that `demo.train_text` wrote into the same folder, frozen;
it reaches the U-Net by cross-attention and, pooled, with the timestep, as in Imagen and DeepFloyd IF. The folder is one
that `stunet.backbone.load_backbone` loads; it is written whole now and then, with the moving average of the weights.
Same recipe: same weights.

Shape letters: B batch, C channels, T frames (here one), H height, W width, L text tokens, D text width.
"""

import copy
import json
import random
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from demo.frames import draw_frames
from demo.train_clip import FRAME_PX, as_input
from demo.training_command import parsed, training_parser
from pipelines.storage import write_whole
from stunet.objective import ObjectiveConfig, draw, loss, noised
from stunet.text import load_text_encoder

UNET: dict[str, Any] = {
    "sample_size": FRAME_PX,
    "in_channels": 3,
    "out_channels": 3,
    "layers_per_block": 1,
    "block_out_channels": (16, 32, 64, 96),
    "down_block_types": ("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    "cross_attention_dim": 64,
    "attention_head_dim": 2,
    "norm_num_groups": 8,
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 4,
}
SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
}
_STEPS_PER_SAVE = 200
_STEPS_PER_LINE = 100


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights."""

    steps: int = 1200
    workers: int = 1
    frames_per_worker: int = 64
    lr: float = 1.5e-3
    warmup_steps: int = 200
    weight_decay: float = 0.01
    ema_decay: float = 0.999
    seed: int = 0
    objective: ObjectiveConfig = field(default_factory=lambda: ObjectiveConfig(text_dropout=0.12))


def train(out: Path, recipe: Recipe) -> None:
    """Train from nothing and write the rest of the folder.

    Args:
        out: The folder; its text encoder is there.
        recipe: What to do.
    """
    _write_frame(out)
    with tempfile.TemporaryDirectory(prefix="train-unet-") as folder:
        spawn: Any = mp.spawn  # pyright: ignore[reportPrivateImportUsage]  # public, but not in __all__
        spawn(_work, (recipe, out, f"file://{folder}/meet"), nprocs=recipe.workers)


def learning_rate(step: int, recipe: Recipe) -> float:
    """A linear warm-up, then half a cosine to 2 % of the peak."""
    progress = torch.tensor(step / recipe.steps * torch.pi)
    return recipe.lr * min(1.0, (step + 1) / recipe.warmup_steps) * float(0.51 + 0.49 * progress.cos())


def _work(rank: int, recipe: Recipe, out: Path, meeting_place: str) -> None:
    """One process: every step on frames of its own, the same weights as the others."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting_place, rank=rank, world_size=recipe.workers)
    torch.manual_seed(recipe.seed)
    unet: Any = UNet2DConditionModel(**UNET)
    average = copy.deepcopy(unet).requires_grad_(False)
    parallel = DistributedDataParallel(unet, gradient_as_bucket_view=True)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=recipe.lr, betas=(0.9, 0.99), weight_decay=recipe.weight_decay)
    batches = _Batches(rank, recipe, out)
    start_s, smooth = time.monotonic(), None
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, recipe)
        value = batches.loss(parallel, step)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        _follow(average, unet, min(recipe.ema_decay, (step + 1) / (step + 10)))
        smooth = value.item() if smooth is None else 0.99 * smooth + 0.01 * value.item()
        if rank == 0 and (step + 1) % _STEPS_PER_LINE == 0:
            print(f"step {step + 1}/{recipe.steps} loss {smooth:.5f} {time.monotonic() - start_s:.0f} s", flush=True)
        if rank == 0 and ((step + 1) % _STEPS_PER_SAVE == 0 or step + 1 == recipe.steps):
            save_unet(average, out)
    dist.destroy_process_group()


class _Batches:
    """Draws a worker's frames and measures the loss on them."""

    def __init__(self, rank: int, recipe: Recipe, out: Path) -> None:
        self._rng = random.Random(f"{recipe.seed}:{rank}")
        self._rank, self._recipe = rank, recipe
        self._text = load_text_encoder(out)
        self._schedule: Any = DDPMScheduler(**SCHEDULE)

    def loss(self, unet: Any, step: int) -> Tensor:
        """Mean loss of one step's frames."""
        recipe = self._recipe
        batch = draw_frames(self._rng, recipe.frames_per_worker, FRAME_PX)
        frames_BCTHW = as_input(batch.frames_NHWC).unsqueeze(2)
        first = (step * recipe.workers + self._rank) * recipe.frames_per_worker
        indices = range(first, first + recipe.frames_per_worker)
        drawn = draw(
            recipe.seed, indices, (3, 1, FRAME_PX, FRAME_PX), SCHEDULE["num_train_timesteps"], recipe.objective
        )
        is_dropped = drawn.is_dropped_B.tolist()
        prompts = ["" if dropped else text for dropped, text in zip(is_dropped, batch.captions, strict=True)]
        noisy_BCTHW = noised(frames_BCTHW, drawn, self._schedule)
        guess_BCHW = unet(noisy_BCTHW.squeeze(2), drawn.timestep_B, self._text.encode(prompts).hidden_BLD).sample
        loss_B = loss(guess_BCHW.unsqueeze(2), frames_BCTHW, drawn, self._schedule, recipe.objective)
        return loss_B.float().mean()


def save_unet(unet: Any, out: Path) -> None:
    """Write a U-Net's weights whole, in half precision."""
    from safetensors.torch import save

    tensors = {name: tensor.half().contiguous() for name, tensor in unet.state_dict().items()}
    write_whole(out / "unet" / "diffusion_pytorch_model.safetensors", save(tensors, {"format": "pt"}))


def _write_frame(out: Path) -> None:
    """Everything of the diffusers folder but the weights and the text encoder."""
    unet: Any = UNet2DConditionModel(**UNET)
    index = {
        "_class_name": "IFPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "scheduler": ["diffusers", "DDPMScheduler"],
        "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
    }
    files = {
        "model_index.json": index,
        "unet/config.json": json.loads(unet.to_json_string()),
        "scheduler/scheduler_config.json": json.loads(DDPMScheduler(**SCHEDULE).to_json_string()),
    }
    for name, content in files.items():
        write_whole(out / name, (json.dumps(content, indent=2) + "\n").encode())


@torch.no_grad()
def _follow(average: Any, unet: Any, decay: float) -> None:
    """The new average: decay times the old one and (1 - decay) times the weights."""
    for old, new in zip(average.parameters(), unet.parameters(), strict=True):
        old.lerp_(new, 1 - decay)


def main() -> None:
    """Parse the command line and train."""
    arguments = parsed(training_parser(__doc__, "demo/weights/backbone", Recipe.steps))
    train(arguments.out, Recipe(steps=arguments.steps, seed=arguments.seed))


if __name__ == "__main__":
    main()
