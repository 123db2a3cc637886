"""One worker of small runs on the DeepSpeed engine, one after another: `python engine_process.py GROUP.json RANK`.

GROUP.json: workers, port, runs; a run: zero_stage, precision, first_step, last_step, start (a state file or null), end
(where worker 0 saves the state), inf_at (steps whose loss is infinite), is_compiled (by torch.compile, without code
generation, which takes a CPU minutes). Worker 0 writes a list of results to `out`. A step has two micro batches of two
clips, whatever the workers.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch._dynamo.utils import counters

from pipelines.training.engine import DeepSpeedEngine, EngineSettings, Inputs
from pipelines.training.order import Share
from pipelines.training.state import TrainingState, fresh_state
from stunet.text import Text

CLIPS_PER_MICRO_BATCH = 2
MICRO_BATCHES_PER_STEP = 2


class Net(nn.Module):
    """Frozen and trainable layers, with sizes that no number of workers divides."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Conv3d(3, 7, 1)
        self.temporal = nn.Conv3d(7, 3, (3, 1, 1), padding=(1, 0, 0))
        self.scale = nn.Parameter(torch.ones(3))
        self.image.requires_grad_(False)

    def forward(
        self, video_BCTHW: Tensor, timestep_B: Tensor, text_BLD: Tensor, added_cond_kwargs: dict[str, Tensor]
    ) -> Tensor:
        pooled_BP, sizes_B6 = added_cond_kwargs["text_embeds"], added_cond_kwargs["time_ids"]
        assert pooled_BP.dtype == text_BLD.dtype == self.scale.dtype, "conditions come in the model's precision"
        assert sizes_B6.dtype == torch.long, "whole numbers stay exact"
        hidden = torch.tanh(self.image(video_BCTHW)) * text_BLD.mean() * pooled_BP.mean()
        return self.temporal(hidden) * self.scale.view(1, 3, 1, 1, 1)


def batch_of(samples: range) -> Tensor:
    return torch.stack([torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(s)) for s in samples])


def do(run: dict[str, Any], rank: int, workers: int) -> dict[str, Any]:
    torch.manual_seed(0)
    net = Net()
    trainable = {name: p for name, p in net.named_parameters() if p.requires_grad}
    state = TrainingState(load_file(run["start"]), run["first_step"]) if run["start"] else fresh_state(trainable)
    settings = EngineSettings(
        zero_stage=run["zero_stage"],
        precision=run["precision"],
        clips_per_micro_batch=CLIPS_PER_MICRO_BATCH,
        micro_batches_per_step=MICRO_BATCHES_PER_STEP // workers,
        gradient_clipping=0.5,
        weight_decay=0.01,
        ema_decay=0.9,
    )
    text_BLD = torch.ones(CLIPS_PER_MICRO_BATCH, 1, 1)
    timestep_B = torch.zeros(CLIPS_PER_MICRO_BATCH, dtype=torch.long)
    text = Text(text_BLD, torch.ones(CLIPS_PER_MICRO_BATCH, 1))
    others = text.conditions((5, 5))
    example = Inputs(torch.zeros(2, 3, 4, 5, 5), timestep_B, text.hidden_BLD, others)
    torch.compiler.reset()
    counters.clear()
    if run["is_compiled"]:
        net.compile(backend="aot_eager", dynamic=False)
    engine = DeepSpeedEngine(net, trainable, settings, state, example)
    share = Share(CLIPS_PER_MICRO_BATCH * MICRO_BATCHES_PER_STEP, CLIPS_PER_MICRO_BATCH, rank, workers)
    steps: list[dict[str, Any]] = []
    for step in range(run["first_step"], run["last_step"]):
        total = torch.zeros((), dtype=torch.float64)
        for samples in share.micro_batches(step * share.clips_per_step):
            target = batch_of(samples)
            loss = (engine(target, timestep_B, text_BLD, **others) - target.roll(1, 2)).square().mean()
            if step in run["inf_at"]:
                loss = loss * float("inf")
            engine.backward(loss)
            total += loss.detach().double() / MICRO_BATCHES_PER_STEP
        dist.all_reduce(total)
        outcome = engine.step(1e-2)
        steps.append({"loss": f"{float(total):.6f}", "is_applied": outcome.is_applied, "norm": outcome.grad_norm})
    tensors = engine.gather()
    if rank == 0:
        save_file(tensors, run["end"])
    num_graphs = counters["stats"]["unique_graphs"]
    return {"steps": steps, "applied_steps": engine.applied_steps, "num_graphs": num_graphs}


def main(group: dict[str, Any], rank: int) -> None:
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(group["port"]), RANK=str(rank), LOCAL_RANK=str(rank))
    os.environ["WORLD_SIZE"] = str(group["workers"])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=group["workers"])
    results = [do(run, rank, group["workers"]) for run in group["runs"]]
    if rank == 0:
        Path(group["out"]).write_text(json.dumps(results))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2]))
