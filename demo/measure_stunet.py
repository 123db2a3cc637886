"""Measure the demo's STUNet on captions that training never saw: what is read out of its videos, task by task.

    python -m demo.measure_stunet --weights demo/weights/stunet --captions 200 --out out/measured
    python -m demo.measure_stunet --captions 40 --tasks text_to_video --untrained

Colour, shape and motion are read from the pixels (demo/readout.py). OUT gets measures.json and a contact sheet a task.
"untrained" is the inflation before training; chance is 1/8 for motion, 1/6 for colour, 1/4 for shape. Motion is also
told for each group of directions.

Shape letters: B videos, C channels, T frames, H height, W width.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from demo.asked import Asked, Task, tasks
from demo.clips import NUM_FRAMES, Held, clip_of, some_held_out
from demo.fidelity import fidelity, said
from demo.train_clip import FRAME_PX
from demo.train_style import NIGHT
from pipelines.contact_sheet import contact_sheet
from pipelines.generation.model import LoadedModel
from pipelines.generation.recipe import ModelFiles
from pipelines.pixels import to_frames
from pipelines.progress import track
from pipelines.storage import write_whole
from stunet.conditions import Known, known_psnr
from stunet.edit import sdedit
from stunet.inflate import InflationConfig
from stunet.sampler import SamplerConfig, guided, make_scheduler, sample
from stunet.weights import read_metadata

_AT_ONCE = 8
_SHEET_ROWS = 8
_GROUPS = {"left": "across", "right": "across", "up": "upright", "down": "upright"}


@dataclass(frozen=True)
class Settings:
    """How videos are made."""

    model: LoadedModel
    sampler: SamplerConfig
    style: str | None = None
    strength: float = 0.7
    """Of stylisation."""


@dataclass(frozen=True)
class Measured:
    """A task's videos, (C, T, H, W) each, what they were to show, and what they show."""

    means: dict[str, float]
    videos: list[Tensor]
    captions: list[str]


def measure(settings: Settings, held: Sequence[Held], task: Task) -> Measured:
    """Make one video a held-out scene."""
    rows, videos, captions = list[dict[str, float]](), list[Tensor](), list[str]()
    for start in track(range(0, len(held), _AT_ONCE), "videos", total=-(-len(held) // _AT_ONCE)):
        part = held[start : start + _AT_ONCE]
        asked = task(part, torch.stack([clip_of(one.scene) for one in part]))
        made = _make(settings, asked, start)
        psnr = [None] * len(part) if asked.known is None else known_psnr(made, asked.known)
        for index, words in enumerate(asked.captions):
            rows.append(_row(made[index], words, psnr[index], asked.known, index))
            videos.append(made[index])
            captions.append(words)
    names = {name for row in rows for name in row}
    means = {name: float(np.mean([row[name] for row in rows if name in row])) for name in sorted(names)}
    return Measured(means, videos, captions)


def _make(settings: Settings, asked: Asked, seed: int) -> Tensor:
    model, config = settings.model, settings.sampler
    model.wear(settings.style if asked.alpha is not None else None, asked.alpha)
    prompts, seeds = model.prompts(asked.captions, FRAME_PX), range(seed, seed + len(asked.captions))
    if asked.known is not None:
        prompts = prompts.beside(asked.known.beside)
    if asked.source_BCTHW is not None:
        denoiser, scheduler = guided(model.stunet, config), make_scheduler(model.scheduler, config)
        return sdedit(denoiser, prompts, scheduler, asked.source_BCTHW, settings.strength, seeds)
    return sample(model.stunet, model.scheduler, prompts, (3, NUM_FRAMES, FRAME_PX, FRAME_PX), config, seeds)


def _row(video: Tensor, caption: str, psnr: float | None, known: Known | None, index: int) -> dict[str, float]:
    frames_THWC = to_frames(video)
    row = dict(fidelity(frames_THWC, caption))
    if "motion" in row:
        row[f"motion_{_GROUPS.get(str(said(caption).motion), 'diagonal')}"] = row["motion"]
    border = np.concatenate(
        [frames_THWC[:, 0], frames_THWC[:, -1], frames_THWC[:, :, 0], frames_THWC[:, :, -1]], axis=1
    )
    row["night"] = float(np.abs(np.median(border, axis=(0, 1)) - NIGHT).max() < 32)
    if psnr is not None and known is not None:
        row["known_psnr_db"] = psnr
        is_known = known.mask_B1THW[index].bool().expand_as(video)
        step = video.diff(dim=1).abs() * (is_known[:, 1:] & is_known[:, :-1])
        pairs = int((is_known[:, 1:] & is_known[:, :-1]).sum())
        if pairs:
            row["change_of_known"] = float(step.sum()) / pairs
    return row


def _load(weights: Path | None, backbone: Path) -> LoadedModel:
    inflation = InflationConfig() if weights is None else read_metadata(weights).inflation
    if weights is None:
        inflation = replace(inflation, temporal_factor=4, is_conditioned=True)
    return LoadedModel(ModelFiles(str(backbone), None if weights is None else str(weights), inflation), "cpu", "fp32")


def main() -> None:
    """Parse the command line, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("demo/weights/stunet"), help="folder of temporal weights")
    parser.add_argument("--backbone", type=Path, default=Path("demo/weights/backbone"))
    parser.add_argument("--style", type=Path, default=Path("demo/weights/style/night.safetensors"))
    parser.add_argument("--captions", type=int, default=200)
    parser.add_argument("--tasks", default=",".join(tasks()), help="names, with commas between them")
    parser.add_argument("--untrained", action="store_true", help="measure the inflation before training")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance-scale", type=float, default=3.0)
    parser.add_argument("--strength", type=float, default=Settings.strength, help="of stylisation")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out/measured"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sampler = SamplerConfig(steps=arguments.steps, guidance_scale=arguments.guidance_scale, timestep_shift=2.0)
    model = _load(None if arguments.untrained else arguments.weights, arguments.backbone)
    settings = Settings(model, sampler, str(arguments.style), arguments.strength)
    held = some_held_out(arguments.captions)
    found: dict[str, dict[str, float]] = {}
    for name in (part for part in tasks() if part in arguments.tasks.split(",")):
        measured = measure(settings, held, tasks()[name])
        found[name] = measured.means
        print(f"{name:<20}", "  ".join(f"{key} {value:.3f}" for key, value in found[name].items()), flush=True)
        shown = np.linspace(0, len(held) - 1, min(len(held), _SHEET_ROWS)).round().astype(int)
        arguments.out.mkdir(parents=True, exist_ok=True)
        frames = [to_frames(measured.videos[index]) for index in shown]
        picture = contact_sheet(frames, [measured.captions[index] for index in shown])
        Image.fromarray(picture).save(arguments.out / f"{name}.png")
        write_whole(arguments.out / "measures.json", json.dumps(found, indent=2).encode() + b"\n")


if __name__ == "__main__":
    main()
