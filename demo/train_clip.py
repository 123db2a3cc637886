"""Train the demo's CLIP: a real open_clip model, a third of a million parameters, on frames of the demo world.

    python -m demo.train_clip --out demo/weights/clip

A few minutes on two cores. The folder is one that `open_clip.create_model_and_transforms("local-dir:FOLDER")` and
`open_clip.get_tokenizer("local-dir:FOLDER")` load. Motion cannot be seen on single frames; colour, shape, size and
background can.

Shape letters: N frames or captions, D width of the common space.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from demo.captions import vocabulary, words
from demo.frames import FrameBatch, degrade, draw_frames
from demo.scene import BACKGROUNDS, SIZES, Scene
from demo.training_command import parsed, training_parser
from pipelines.pixels import to_unit
from pipelines.progress import track
from pipelines.storage import write_whole

FRAME_PX = 32
_CONTEXT_LENGTH = 24
_SPECIAL = ("<pad>", "<unk>", "<start>")
_END = "<end>"
_MAX_LOGIT_SCALE = 50.0


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights."""

    steps: int = 1400
    frames_per_step: int = 96
    lr: float = 2e-3
    warmup_share: float = 0.08
    weight_decay: float = 0.02
    seed: int = 0


def model_config() -> dict[str, Any]:
    """open_clip's own description of the model; the end token has the highest number, which pooling relies on."""
    vision = {"image_size": FRAME_PX, "layers": 3, "width": 64, "head_width": 32, "patch_size": 4}
    text = {
        "context_length": _CONTEXT_LENGTH,
        "vocab_size": len(_vocabulary()),
        "hf_tokenizer_name": "demo-words",
        "width": 64,
        "heads": 2,
        "layers": 3,
    }
    return {"embed_dim": 64, "vision_cfg": vision, "text_cfg": text}


def save_tokenizer(folder: Path) -> None:
    """Write a word tokenizer of the demo's captions: lower case, unknown words to `<unk>`, padded with `<pad>`."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    numbers = {word: number for number, word in enumerate(_vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"<start> $A {_END}", special_tokens=[(word, numbers[word]) for word in ("<start>", _END)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<start>",
        eos_token=_END,
        model_max_length=_CONTEXT_LENGTH,
    )
    fast.save_pretrained(folder)


def train(out: Path, recipe: Recipe) -> None:
    """Train from nothing and write the folder."""
    import open_clip

    config: dict[str, Any] = {
        "model_cfg": model_config(),
        "preprocess_cfg": {"size": FRAME_PX, "mean": [0.5] * 3, "std": [0.5] * 3},
    }
    write_whole(out / "open_clip_config.json", (json.dumps(config, indent=2) + "\n").encode())
    save_tokenizer(out)
    tokenizer: Any = open_clip.get_tokenizer(f"local-dir:{out}")
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model: Any = open_clip.CLIP(**config["model_cfg"])
    optimizer = torch.optim.AdamW(_groups(model, recipe), lr=recipe.lr, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, recipe.steps, pct_start=recipe.warmup_share)
    rng, noise = random.Random(recipe.seed), np.random.default_rng(recipe.seed)
    for step in track(range(recipe.steps), "training CLIP"):
        loss = _loss(model, tokenizer, draw_frames(rng, recipe.frames_per_step, FRAME_PX), noise)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, np.log(_MAX_LOGIT_SCALE))
        if step % 100 == 0 or step == recipe.steps - 1:
            print(f"step {step} loss {loss.item():.3f} scale {model.logit_scale.exp().item():.1f}", flush=True)
    _save_weights(model, out)


def as_input(frames_NHWC: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 frames to the range -1..1 that both models take: (N, C, H, W) float32."""
    return to_unit(frames_NHWC).permute(0, 3, 1, 2)


def is_true(caption_words: frozenset[str], scene: Scene) -> bool:
    """Whether what a caption says of colour, shape, size and background (what one frame shows) holds in a scene."""
    if scene.color not in caption_words or scene.shape not in caption_words:
        return False
    named = {word for word in caption_words if word in BACKGROUNDS or word in SIZES}
    return named <= {scene.background, scene.size}


def _loss(model: Any, tokenizer: Any, batch: FrameBatch, noise: np.random.Generator) -> torch.Tensor:
    """CLIP's symmetric contrastive loss; all captions that are true of a frame share its probability."""
    image_ND, text_ND, scale = model(as_input(degrade(batch.frames_NHWC, noise)), tokenizer(batch.captions))
    said = [frozenset(words(caption)) for caption in batch.captions]
    truth = torch.tensor([[is_true(words_, scene) for words_ in said] for scene in batch.scenes], dtype=torch.float32)
    logits = scale * image_ND @ text_ND.T
    to_text = F.cross_entropy(logits, truth / truth.sum(1, keepdim=True))
    to_image = F.cross_entropy(logits.T, truth.T / truth.T.sum(1, keepdim=True))
    return (to_text + to_image) / 2


def _groups(model: Any, recipe: Recipe) -> list[dict[str, Any]]:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]


def _save_weights(model: Any, out: Path) -> None:
    from safetensors.torch import save

    tensors = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    write_whole(out / "open_clip_model.safetensors", save(tensors, {"format": "pt"}))


def _vocabulary() -> list[str]:
    return [*_SPECIAL, *vocabulary(), _END]


def main() -> None:
    """Parse the command line and train."""
    arguments = parsed(training_parser(__doc__, "demo/weights/clip", Recipe.steps))
    train(arguments.out, Recipe(steps=arguments.steps, seed=arguments.seed))


if __name__ == "__main__":
    main()
