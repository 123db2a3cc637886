"""Train the demo's STUNet from its image U-Net, on clips rendered on the way: one process, no cluster.

    python -m demo.train_stunet --out out/stunet
    python -m demo.train_stunet --out out/upscaler --backbone demo/weights/upscaler

The second one learns super-resolution, as its backbone does. One thread does it; run it again and it goes on from its
newest checkpoint. OUT/model holds the averaged weights, for `jobs/generate.py checkpoint=OUT`, or `ssr.checkpoint=OUT`.
The ablations, each at the same budget:

    python -m demo.train_stunet --out out/random --steps 400 --init random
    python -m demo.train_stunet --out out/no-resampling --steps 400 --temporal-factor 1

Four things make motion learnable here (see docs/generation.md): temporal attention looks at the text, frames know
their number, the loss weighs high noise, where motion is decided, as much as low, and timesteps are shifted towards it.
"""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from demo.clips import FPS, NUM_FRAMES, RenderedClips
from demo.train_clip import FRAME_PX
from demo.train_upscaler import HIGHEST_LEVEL, LARGE_PX
from demo.training_command import parsed, training_parser, with_backbone
from pipelines.training.averaged_adamw import MOMENTS, AveragedAdamW
from pipelines.training.checkpoint import Facts, find_newest, load_checkpoint, prune, write_checkpoint
from pipelines.training.config import InflationSettings, ObjectiveSettings, TaskSettings, UpscalingSettings
from pipelines.training.engine import Outcome
from pipelines.training.learner import Learner, Model, build_model
from pipelines.training.loop import Plan, StepReport, train
from pipelines.training.state import TrainingState, fresh_state
from stunet import weights
from stunet.inflate import temporal_parameters

_CPU = torch.device("cpu")
_KEPT = 2


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights."""

    steps: int = 4000
    clips_per_step: int = 8
    lr: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    ema_decay: float = 0.998
    gradient_clipping: float = 1.0
    seed: int = 0
    init: str = "identity"
    """Of the new layers: `identity`, or `random`, the ablation."""
    size_px: int = FRAME_PX
    upscaling: UpscalingSettings = field(default_factory=UpscalingSettings)
    inflation: InflationSettings = field(
        default_factory=lambda: InflationSettings(temporal_factor=4, is_conditioned=True, attends_text=True)
    )
    objective: ObjectiveSettings = field(
        default_factory=lambda: ObjectiveSettings(timestep_shift=2.0, min_snr_gamma=None, text_dropout=0.1)
    )
    tasks: TaskSettings = field(
        default_factory=lambda: TaskSettings(
            text_to_video=0.4, image_to_video=0.2, inpainting=0.15, outpainting=0.1, cinemagraph=0.15, dropout=0.05
        )
    )


UPSCALER = Recipe(
    steps=400,
    clips_per_step=4,
    size_px=LARGE_PX,
    upscaling=UpscalingSettings(low_size_px=FRAME_PX, window=8, noise_levels=HIGHEST_LEVEL),
    inflation=InflationSettings(temporal_factor=1),
    objective=ObjectiveSettings(),
    tasks=TaskSettings(),
)
"""Windows of half a clip: so seams between them can be looked for. What is large is known from the small frames, so the
loss weighs what is fine: timesteps are not shifted, and min-SNR is on. No temporal resampling: an upscaler adds edges,
and they move from frame to frame."""


class DecayingPlan(Plan):
    """A linear warm-up, then half a cosine to 2 % of the peak at the last step."""

    def lr_at(self, step: int) -> float:
        """The rate of step 1, 2, ..."""
        return super().lr_at(step) * (0.51 + 0.49 * math.cos(math.pi * step / self.last_step))


class PlainEngine:
    """`pipelines.training.engine.Engine` in one process, on torch alone."""

    def __init__(self, module: nn.Module, trainable: Mapping[str, nn.Parameter], recipe: Recipe) -> None:
        self._module, self._trainable, self._clipping = module, dict(trainable), recipe.gradient_clipping
        self._optimizer = AveragedAdamW(self._trainable.values(), recipe.weight_decay, recipe.ema_decay)

    def __call__(self, video_BCTHW: Tensor, timestep_B: Tensor, text_BLD: Tensor, **others: Any) -> Tensor:
        """See `Engine`."""
        return self._module(video_BCTHW, timestep_B, text_BLD, **others)

    def backward(self, loss: Tensor) -> None:
        """See `Engine`."""
        loss.backward()

    def step(self, lr: float) -> Outcome:
        """See `Engine`."""
        for group in self._optimizer.param_groups:
            group["lr"] = lr
        norm = float(nn.utils.clip_grad_norm_(self._trainable.values(), self._clipping))
        if math.isfinite(norm):
            self._optimizer.step()
        self._optimizer.zero_grad()
        return Outcome(math.isfinite(norm), norm)

    def state(self) -> TrainingState:
        """A copy of weights, moments and average."""
        tensors = fresh_state(self._trainable).tensors
        moments = self._optimizer.state
        told = {
            f"{kind}.{n}": moments[p][key].clone() for n, p in self._trainable.items() for kind, key in MOMENTS.items()
        }
        return TrainingState({**tensors, **told}, int(next(iter(moments.values()))["step"].item()))

    @torch.no_grad()
    def restore(self, state: TrainingState) -> None:
        """Go on from a state."""
        for name, parameter in self._trainable.items():
            parameter.copy_(state.tensors[f"w.{name}"])
            own = {key: state.tensors[f"{kind}.{name}"].clone() for kind, key in MOMENTS.items()}
            self._optimizer.state[parameter] = {"step": torch.tensor(float(state.applied_steps)), **own}


class Folder:
    """`pipelines.training.loop.Outside` in one process: prints, keeps losses, checkpoints and the averaged weights."""

    def __init__(self, out: Path, recipe: Recipe, model: Model, engine: PlainEngine, save_every: int) -> None:
        self._out, self._recipe, self._model, self._engine, self._save_every = out, recipe, model, engine, save_every
        self._smooth: float | None = None

    def is_stop_asked(self) -> bool:
        """See `Outside`: OUT/stop asks for it."""
        return (self._out / "stop").exists()

    def mean(self, values: list[float]) -> list[float]:
        """See `Outside`."""
        return values

    def now_s(self) -> float:
        """See `Outside`."""
        return time.monotonic()

    def after_step(self, report: StepReport) -> None:
        """See `Outside`."""
        self._smooth = report.loss if self._smooth is None else 0.98 * self._smooth + 0.02 * report.loss
        with (self._out / "losses.jsonl").open("a") as file:
            file.write(json.dumps({"step": report.step, "loss": report.loss, "s": round(report.step_time_s, 3)}) + "\n")
        if report.step % 50 == 0 or report.is_last:
            print(f"step {report.step} loss {self._smooth:.5f} {report.step_time_s:.2f} s a step", flush=True)
        if report.step % self._save_every == 0 or report.is_last:
            self._save(report)

    def _save(self, report: StepReport) -> None:
        state, recipe, backbone = self._engine.state(), self._recipe, self._model.backbone
        facts = Facts(report.step, report.samples, state.applied_steps, recipe.seed, 0, backbone.digest, "", "")
        geometry = {"num_frames": NUM_FRAMES, "fps": FPS, "size_px": recipe.size_px}
        extra = {"run": "demo-stunet", "step": report.step, **geometry}
        told = extra | {"recipe": {key: value for key, value in _plain(recipe).items() if key != "inflation"}}
        average = state.of_kind("ema")
        place, schedule = self._out / "model", backbone.schedule
        weights.save(self._model.stunet, place, backbone.name, backbone.digest, told, values=average, schedule=schedule)
        write_checkpoint(self._out / "checkpoints", state, facts)
        prune(self._out / "checkpoints", _KEPT)


def train_stunet(out: Path, backbone: Path, recipe: Recipe, save_every: int = 250) -> None:
    """Train, or go on with what lies in `out`."""
    out.mkdir(parents=True, exist_ok=True)
    model = build_model(str(backbone), recipe.inflation, _CPU)
    trainable = temporal_parameters(model.stunet)
    if recipe.init == "random":
        randomise(trainable, recipe.seed)
    engine, step, position = PlainEngine(model.stunet, trainable, recipe), 0, 0
    newest = find_newest(out / "checkpoints")
    if newest is not None:
        checkpoint = load_checkpoint(newest)
        checkpoint.state.check_names(trainable, str(newest))
        engine.restore(checkpoint.state)
        step, position = checkpoint.facts.step, checkpoint.facts.samples
        print(f"goes on from step {step}", flush=True)
    learner = Learner(model, recipe.objective, recipe.tasks, recipe.seed, _CPU, recipe.upscaling)
    plan = DecayingPlan(
        step, position, recipe.steps, recipe.clips_per_step, recipe.lr, recipe.warmup_steps, max_skipped_steps=5
    )
    source = RenderedClips(recipe.seed, recipe.clips_per_step, recipe.size_px)
    train(engine, source, learner.sample_losses, plan, Folder(out, recipe, model, engine, save_every))


@torch.no_grad()
def randomise(trainable: Mapping[str, Tensor], seed: int) -> None:
    """The ablation's start: projections and resizers as torch starts any layer, instead of zero and identity."""
    rng = torch.Generator().manual_seed(seed)
    for name, value in trainable.items():
        is_resizer = "samplers" in name and name.endswith("conv.weight")
        if is_resizer or name.endswith("projection.weight"):
            bound = 1 / math.sqrt(value[0].numel())
            value.uniform_(-bound, bound, generator=rng)


def _plain(recipe: Recipe) -> dict[str, object]:
    values = {key: value for key, value in asdict(recipe).items()}
    return values | {key: getattr(recipe, key).model_dump() for key in ("inflation", "objective", "tasks", "upscaling")}


def is_upscaler(backbone: Path) -> bool:
    """Whether a backbone's U-Net takes low-resolution frames beside the noisy ones."""
    config = json.loads((backbone / "unet" / "config.json").read_text())
    return config["in_channels"] > config["out_channels"]


def main() -> None:
    """Parse the command line and train."""
    parser = with_backbone(training_parser(__doc__, "out/stunet", None))
    parser.add_argument("--init", choices=("identity", "random"), default="identity", help="of the new layers")
    parser.add_argument("--temporal-factor", type=int, help="1: no temporal resampling; else the recipe's")
    parser.add_argument("--paper", action="store_true", help="temporal attention does not look at the text itself")
    arguments = parsed(parser)
    recipe = UPSCALER if is_upscaler(arguments.backbone) else Recipe()
    changed: dict[str, object] = {"attends_text": False} if arguments.paper else {}
    changed |= {"temporal_factor": arguments.temporal_factor} if arguments.temporal_factor else {}
    recipe = replace(
        recipe,
        steps=arguments.steps or recipe.steps,
        seed=arguments.seed,
        init=arguments.init,
        inflation=recipe.inflation.model_copy(update=changed),
    )
    train_stunet(arguments.out, arguments.backbone, recipe)


if __name__ == "__main__":
    main()
