"""Train the demo's text encoder: a real transformers T5 encoder, on captions alone, as Imagen's was on text alone.

    python -m demo.train_text --out demo/weights/backbone

Half a minute on one core. It learns to tell every word of a caption of which some are hidden, so its states keep all
words. A CLIP's do not: one that was trained on single frames forgets what no frame shows, and of the demo's CLIP no
probe reads the direction of motion (24 % of 8, docs/generation.md); a video model has nothing to follow then. Written
are OUT/text_encoder and OUT/tokenizer, as in the folder of any diffusers pipeline with T5.

Shape letters: B captions, L tokens, D width.
"""

import json
import random
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from demo.captions import caption
from demo.scene import draw_scene
from demo.train_clip import save_tokenizer
from demo.training_command import parsed, training_parser
from pipelines.progress import track
from pipelines.storage import write_whole

_PAD, _UNKNOWN = 0, 1


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights."""

    steps: int = 1500
    captions_per_step: int = 128
    hidden_share: float = 0.25
    lr: float = 2e-3
    seed: int = 0


def model_config(vocabulary_size: int) -> dict[str, Any]:
    """Transformers' own description of the encoder."""
    return {
        "vocab_size": vocabulary_size,
        "d_model": 64,
        "d_kv": 32,
        "d_ff": 128,
        "num_layers": 2,
        "num_heads": 2,
        "dropout_rate": 0.0,
        "feed_forward_proj": "gated-gelu",
        "pad_token_id": _PAD,
        "is_encoder_decoder": False,
        "use_cache": False,
    }


def train(out: Path, recipe: Recipe) -> None:
    """Train from nothing and write both folders."""
    from transformers import AutoTokenizer, T5Config, T5EncoderModel

    save_tokenizer(out / "tokenizer")
    tokenizer: Any = AutoTokenizer.from_pretrained(out / "tokenizer")
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        model: Any = T5EncoderModel(T5Config(**model_config(len(tokenizer))))
        head = nn.Linear(64, len(tokenizer))
    parameters = [*model.parameters(), *head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, recipe.steps, pct_start=0.1)
    rng, chance = random.Random(recipe.seed), torch.Generator().manual_seed(recipe.seed)
    for step in track(range(recipe.steps), "training text encoder"):
        captions = [caption(draw_scene(rng), rng) for _ in range(recipe.captions_per_step)]
        words = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")
        loss = _loss(model, head, words, recipe.hidden_share, chance)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        if step % 250 == 0 or step == recipe.steps - 1:
            print(f"step {step} loss {loss.item():.3f}", flush=True)
    _save(model, out / "text_encoder")


def _loss(model: Any, head: nn.Module, words: Any, hidden_share: float, chance: torch.Generator) -> Tensor:
    """Cross-entropy of all words, hidden and not; hidden ones can only be guessed from the others."""
    tokens_BL, mask_BL = words.input_ids, words.attention_mask
    is_hidden_BL = torch.rand(tokens_BL.shape, generator=chance) < hidden_share
    given_BL = torch.where(is_hidden_BL, _UNKNOWN, tokens_BL)
    states_BLD = model(input_ids=given_BL, attention_mask=mask_BL).last_hidden_state
    return F.cross_entropy(head(states_BLD).transpose(1, 2), torch.where(mask_BL > 0, tokens_BL, -100))


def _save(model: Any, folder: Path) -> None:
    """The encoder's files, weights in half precision."""
    from safetensors.torch import save

    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as aside:
        model.save_pretrained(aside)
        config = json.loads((Path(aside) / "config.json").read_text())
    # One tensor under one name: the embedding is known by two.
    tensors = {name: t.half().contiguous() for name, t in model.state_dict().items() if name != "shared.weight"}
    if "encoder.embed_tokens.weight" not in tensors:
        tensors["shared.weight"] = model.state_dict()["shared.weight"].half().contiguous()
    write_whole(folder / "config.json", (json.dumps(config, indent=2) + "\n").encode())
    write_whole(folder / "model.safetensors", save(tensors, {"format": "pt"}))


def main() -> None:
    """Parse the command line and train."""
    arguments = parsed(training_parser(__doc__, "demo/weights/backbone", Recipe.steps))
    train(arguments.out, Recipe(steps=arguments.steps, seed=arguments.seed))


if __name__ == "__main__":
    main()
