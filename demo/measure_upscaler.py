"""Measure the demo's super-resolution on clips that training never saw: how near the truth, and whether seams show.

    python -m demo.measure_upscaler --weights out/upscaler/model --captions 40 --out out/upscaled
    python -m demo.measure_upscaler --untrained

Clips of 32 pixels a side become 64, in temporal windows with and without overlap (MultiDiffusion). A seam is how much
more frames change where windows meet than elsewhere; the truth has a ratio of its own. OUT gets measures.json and a
contact sheet.

Shape letters: B videos, C channels, T frames, H height, W width.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from demo.clips import NUM_FRAMES, Held, clip_of, some_held_out
from demo.fidelity import fidelity
from demo.train_clip import FRAME_PX
from demo.train_stunet import UPSCALER
from demo.train_upscaler import LARGE_PX
from pipelines.contact_sheet import contact_sheet
from pipelines.generation.config import SuperResolutionSettings
from pipelines.generation.model import LoadedModel
from pipelines.generation.recipe import ModelFiles
from pipelines.pixels import to_frames
from pipelines.progress import track
from pipelines.storage import write_whole
from stunet.inflate import InflationConfig
from stunet.sampler import SamplerConfig
from stunet.super_resolution import SsrConfig, agreeing, enlarged, super_resolve
from stunet.weights import read_metadata
from stunet.windows import seam_ratio

_AT_ONCE = 4
_SHEET_ROWS = 3


class Clips(NamedTuple):
    """Held-out scenes as rendered at both sizes, (B, C, T, H, W)."""

    captions: list[str]
    small: Tensor
    large: Tensor


def clips(held: Sequence[Held]) -> Clips:
    """Render scenes."""
    sizes = (torch.stack([clip_of(one.scene, size) for one in held]) for size in (FRAME_PX, LARGE_PX))
    return Clips([one.caption for one in held], *sizes)


def upscaled(model: LoadedModel, sampler: SamplerConfig, shown: Clips, ssr: SsrConfig) -> Tensor:
    """All clips with more pixels."""
    parts: list[Tensor] = []
    for start in track(range(0, len(shown.captions), _AT_ONCE), f"windows of {ssr.window}, overlap {ssr.overlap}"):
        words, small = shown.captions[start : start + _AT_ONCE], shown.small[start : start + _AT_ONCE]
        seeds = range(start, start + len(words))
        shape = (3, NUM_FRAMES, LARGE_PX, LARGE_PX)
        prompts = model.prompts(words, LARGE_PX)
        parts.append(super_resolve(model.stunet, model.scheduler, prompts, small, shape, sampler, ssr, seeds))
    return torch.cat(parts)


def quality(videos_BCTHW: Tensor, shown: Clips, ssr: SsrConfig) -> dict[str, float]:
    """Means over clips: PSNR in dB, how much error changes from frame to frame, read-outs, and the seam ratio."""
    error = videos_BCTHW - shown.large
    psnr_B = 10 * torch.log10(4 / error.square().flatten(1).mean(1).clamp(min=1e-12))
    read = [fidelity(to_frames(video), words) for video, words in zip(videos_BCTHW, shown.captions, strict=True)]
    return {
        "psnr_db": float(psnr_B.mean()),
        "flicker_of_error": float(error.diff(dim=2).abs().mean()),
        **{name: float(np.mean([row[name] for row in read])) for name in ("color", "shape", "motion")},
        "seam_ratio": seam_ratio(videos_BCTHW, ssr.window, ssr.overlap),
        "seam_ratio_of_error": seam_ratio(error, ssr.window, ssr.overlap),
    }


def main() -> None:
    """Parse the command line, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("out/upscaler/model"), help="folder of temporal weights")
    parser.add_argument("--backbone", type=Path, default=Path("demo/weights/upscaler"))
    parser.add_argument("--captions", type=int, default=40)
    parser.add_argument("--untrained", action="store_true", help="measure the inflation before training")
    parser.add_argument("--window", type=int, default=UPSCALER.upscaling.window)
    parser.add_argument("--overlaps", default="0,2", help="frames, with a comma between them")
    parser.add_argument("--noise-level", type=int, default=SsrConfig.noise_level)
    parser.add_argument("--back-projections", type=int, default=SuperResolutionSettings().back_projections)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out/upscaled"))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    weights = None if arguments.untrained else arguments.weights
    inflation = (
        InflationConfig(temporal_factor=UPSCALER.inflation.temporal_factor)
        if weights is None
        else read_metadata(weights).inflation
    )
    files = ModelFiles(str(arguments.backbone), None if weights is None else str(weights), inflation)
    model, sampler = LoadedModel(files, "cpu", "fp32"), SamplerConfig(steps=arguments.steps, guidance_scale=1.0)
    shown = clips(some_held_out(arguments.captions))
    bicubic = enlarged(shown.small, (LARGE_PX, LARGE_PX))
    found: dict[str, dict[str, float]] = {}
    rows, labels = list[Tensor](), list[str]()
    for overlap in (int(part) for part in arguments.overlaps.split(",")):
        ssr = SsrConfig(arguments.window, overlap, arguments.noise_level)
        alone = upscaled(model, sampler, shown, ssr)
        videos = agreeing(alone, shown.small, arguments.back_projections)
        for name, made in (("truth", shown.large), ("bicubic", bicubic), ("model alone", alone), ("model", videos)):
            found[f"{name}, overlap {overlap}"] = row = quality(made, shown, ssr)
            print(f"{name:<11} overlap {overlap}", "  ".join(f"{k} {v:.4f}" for k, v in row.items()), flush=True)
        rows += [*videos[:_SHEET_ROWS]]
        labels += [f"{words} (overlap {overlap})" for words in shown.captions[:_SHEET_ROWS]]
    rows += [*bicubic[:_SHEET_ROWS]]
    labels += [f"{words} (bicubic)" for words in shown.captions[:_SHEET_ROWS]]
    arguments.out.mkdir(parents=True, exist_ok=True)
    Image.fromarray(contact_sheet([to_frames(video) for video in rows], labels)).save(arguments.out / "upscaled.png")
    write_whole(arguments.out / "measures.json", json.dumps(found, indent=2).encode() + b"\n")


if __name__ == "__main__":
    main()
