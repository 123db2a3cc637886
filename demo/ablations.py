"""The paper's ablations in the demo's world: one thing changed at a time, all at an equal number of steps.

    python -m demo.ablations --steps 400 --out out/ablations
    python -m demo.ablations --steps 400 --only random       # one of them; another process may do the others

All variants see the same clips, noise and timesteps, so that their losses can be subtracted step by step. OUT gets
losses.png, the moving mean of each, and the held-out loss of the averaged weights is printed. Windows of
super-resolution with and without overlap are measured by `python -m demo.measure_upscaler`.
"""

import json
import statistics
from dataclasses import replace
from pathlib import Path

import torch
from matplotlib.figure import Figure

from demo.clips import clip_of, held_out
from demo.train_stunet import Recipe, train_stunet
from demo.training_command import parsed, training_parser, with_backbone
from pipelines.training.batches import Batch
from pipelines.training.learner import Learner, Model
from stunet.backbone import load_backbone
from stunet.weights import load_stunet

_LAST = 100
_SMOOTH = 0.97
_CLIPS_AT_ONCE, _HELD_OUT = 8, 40


def variants(steps: int) -> dict[str, Recipe]:
    """The recipe, and what it becomes with one thing changed."""
    whole = Recipe(steps=steps)
    return {
        "recipe": whole,
        "random": replace(whole, init="random"),
        "no-resampling": replace(whole, inflation=whole.inflation.model_copy(update={"temporal_factor": 1})),
        "text-unseen": replace(whole, inflation=whole.inflation.model_copy(update={"attends_text": False})),
    }


def losses_of(folder: Path) -> list[float]:
    """The training loss of every step; none where nothing was trained."""
    path = folder / "losses.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line)["loss"] for line in lines]


def held_out_loss(folder: Path, backbone: Path, recipe: Recipe) -> float:
    """Mean over clips that training never saw and nine fixed timesteps, of the averaged weights."""
    loaded = load_backbone(backbone)
    model = Model(loaded, load_stunet(loaded, folder / "model"))
    learner, held = Learner(model, recipe.objective, recipe.tasks, recipe.seed, torch.device("cpu")), held_out()
    losses: list[float] = []
    for start in range(0, _HELD_OUT, _CLIPS_AT_ONCE):
        part, samples = held[start : start + _CLIPS_AT_ONCE], range(start, start + _CLIPS_AT_ONCE)
        batch = Batch(torch.stack([clip_of(one.scene) for one in part]), [one.caption for one in part], samples)
        losses.append(float(learner.fixed_losses(batch).mean()))
    return statistics.fmean(losses)


def plot(curves: dict[str, list[float]], path: Path) -> None:
    """Moving means over steps, on a logarithmic axis."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    for name, losses in curves.items():
        smooth, drawn = losses[0], list[float]()
        for loss in losses:
            smooth = _SMOOTH * smooth + (1 - _SMOOTH) * loss
            drawn.append(smooth)
        axes.plot(drawn, label=name)
    axes.set(xlabel="step", ylabel="loss (moving mean)", yscale="log")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Train what is not trained yet, print and draw."""
    parser = with_backbone(training_parser(__doc__, "out/ablations", 400))
    parser.add_argument("--only", choices=tuple(variants(1)), help="train one alone")
    arguments = parsed(parser)
    recipes, out = variants(arguments.steps), arguments.out
    for name, recipe in recipes.items():
        if arguments.only in (None, name) and len(losses_of(out / name)) < arguments.steps:
            train_stunet(out / name, arguments.backbone, recipe)
    curves = {name: losses for name in recipes if len(losses := losses_of(out / name)) >= arguments.steps}
    plot(curves, out / "losses.png")
    for name, losses in curves.items():
        apart = [own - other for own, other in zip(losses, curves.get("recipe", losses), strict=True)][-_LAST:]
        spread = statistics.stdev(apart) / len(apart) ** 0.5
        held = held_out_loss(out / name, arguments.backbone, recipes[name])
        print(
            f"{name:<14} last {_LAST} steps {statistics.fmean(losses[-_LAST:]):.5f}, over the recipe's "
            f"{statistics.fmean(apart):+.5f} (standard error {spread:.5f}); held out {held:.5f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
