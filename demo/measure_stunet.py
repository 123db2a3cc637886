"""Measure the demo's STUNet on captions that training never saw: what is read out of its videos, task by task.

    python -m demo.measure_stunet --weights demo/weights/stunet --captions 200 --out out/measured
    python -m demo.measure_stunet --captions 40 --tasks text_to_video --untrained

Colour, shape and motion are read from the pixels (demo/readout.py). OUT gets measures.json and a contact sheet a task.
"untrained" is the inflation before training; chance is 1/8 for motion, 1/6 for colour, 1/4 for shape.

Shape letters: B videos, C channels, T frames, H height, W width.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from demo.clips import NUM_FRAMES, Held, clip_of, held_out
from demo.fidelity import fidelity
from demo.train_clip import FRAME_PX
from demo.train_style import NIGHT
from pipelines.contact_sheet import contact_sheet
from pipelines.generation.model import LoadedModel
from pipelines.generation.recipe import ModelFiles
from pipelines.pixels import to_frames
from pipelines.progress import track
from pipelines.storage import write_whole
from stunet import conditions
from stunet.conditions import Known, known_psnr
from stunet.inflate import InflationConfig
from stunet.sampler import SamplerConfig, sample
from stunet.tasks import moving_box
from stunet.weights import read_metadata

_AT_ONCE = 8
_SHEET_ROWS = 8
_FILL = slice(8, 24)
"""Rows and columns of the box that inpainting fills."""


@dataclass(frozen=True)
class Settings:
    """How videos are made."""

    model: LoadedModel
    sampler: SamplerConfig
    style: str | None = None


class Task(NamedTuple):
    """What is known of a scene's clip, and what is measured besides the read-outs."""

    known: Callable[[Tensor], Known] | None = None
    alpha: float | None = None


def measure(settings: Settings, held: Sequence[Held], task: Task) -> tuple[dict[str, float], list[Tensor]]:
    """Make one video a held-out scene; returns means over all of them, and the videos (C, T, H, W)."""
    rows, videos = list[dict[str, float]](), list[Tensor]()
    for start in track(range(0, len(held), _AT_ONCE), "videos", total=-(-len(held) // _AT_ONCE)):
        part = held[start : start + _AT_ONCE]
        truth = torch.stack([clip_of(one.scene) for one in part])
        known = None if task.known is None else _stacked([task.known(video[None]) for video in truth])
        made = _make(settings, [one.caption for one in part], known, start, task.alpha)
        psnr = [None] * len(part) if known is None else known_psnr(made, known)
        for index, one in enumerate(part):
            rows.append(_row(made[index], one.caption, psnr[index], known, index))
            videos.append(made[index])
    names = {name for row in rows for name in row}
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in sorted(names)}, videos


def tasks() -> dict[str, Task]:
    """By name."""
    return {
        "text_to_video": Task(),
        "image_to_video": Task(lambda clip: conditions.image_to_video(clip[:, :, 0], NUM_FRAMES)),
        "inpainting": Task(_inpainting),
        "cinemagraph": Task(
            lambda clip: conditions.cinemagraph(clip[:, :, 0], moving_box(clip, margin=0.05), NUM_FRAMES)
        ),
        "style-0.5": Task(alpha=0.5),
        "style-1.0": Task(alpha=1.0),
    }


def _inpainting(clip: Tensor) -> Known:
    fill = torch.zeros_like(clip[:, :1])
    fill[..., _FILL, _FILL] = 1
    return conditions.inpainting(clip, fill)


def _make(settings: Settings, captions: list[str], known: Known | None, seed: int, alpha: float | None) -> Tensor:
    model = settings.model
    model.wear(settings.style if alpha is not None else None, alpha)
    prompts = model.prompts(captions, FRAME_PX)
    if known is not None:
        prompts = prompts.beside(torch.cat([known.video_BCTHW, known.mask_B1THW], dim=1))
    shape, seeds = (3, NUM_FRAMES, FRAME_PX, FRAME_PX), range(seed, seed + len(captions))
    return sample(model.stunet, model.scheduler, prompts, shape, settings.sampler, seeds)


def _row(video: Tensor, caption: str, psnr: float | None, known: Known | None, index: int) -> dict[str, float]:
    frames_THWC = to_frames(video)
    row = dict(fidelity(frames_THWC, caption))
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


def _stacked(knowns: list[Known]) -> Known:
    return Known(*(torch.cat(values) for values in zip(*knowns, strict=True)))


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
    parser.add_argument("--out", type=Path, default=Path("out/measured"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sampler = SamplerConfig(steps=arguments.steps, guidance_scale=arguments.guidance_scale, timestep_shift=2.0)
    model = _load(None if arguments.untrained else arguments.weights, arguments.backbone)
    settings, held = Settings(model, sampler, str(arguments.style)), held_out()
    held = [held[index] for index in np.linspace(0, len(held) - 1, arguments.captions).round().astype(int)]
    found: dict[str, dict[str, float]] = {}
    for name in (part for part in tasks() if part in arguments.tasks.split(",")):
        found[name], videos = measure(settings, held, tasks()[name])
        print(f"{name:<20}", "  ".join(f"{key} {value:.3f}" for key, value in found[name].items()), flush=True)
        shown = [to_frames(video) for video in videos[:_SHEET_ROWS]]
        picture = contact_sheet(shown, [one.caption for one in held[:_SHEET_ROWS]])
        arguments.out.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(arguments.out / f"{name.replace(', ', '-').replace(' ', '-')}.png")
        write_whole(arguments.out / "measures.json", json.dumps(found, indent=2).encode() + b"\n")


if __name__ == "__main__":
    main()
