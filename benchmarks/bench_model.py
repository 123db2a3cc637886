"""The STUNet against other ways to make a video model of the same image U-Net. `make bench-model`.

FLOPs by torch's counter, CPU time in pairs in one run, peak memory of a process of its own, forward and forward with
backward, 16 and 80 frames, and how each grows with T. lumiere-pytorch is compared where it is installed:
`uv pip install lumiere-pytorch`. Written to the file that `--out` names, as JSON.
"""

import argparse
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))
from pairs import in_pairs
from video_models import SIDE, SYSTEMS, Predict

FRAMES = (16, 80)
PASSES = ("forward", "forward+backward")


def run(predict: Predict, num_frames: int, kind: str) -> None:
    """One pass on noise."""
    video = torch.randn(1, 3, num_frames, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    if kind == "forward":
        with torch.no_grad():
            predict(video)
        return
    # The gradient of the input, too: all models then go back through the same frozen layers.
    predict(video.requires_grad_()).square().mean().backward()


def flops(predict: Predict, num_frames: int, kind: str) -> int:
    """Floating-point operations of one pass."""
    with FlopCounterMode(display=False) as counter:
        run(predict, num_frames, kind)
    return counter.get_total_flops()


def peak_mib(name: str, num_frames: int, kind: str) -> float:
    """What a pass adds to the memory of a fresh process at its highest, in MiB."""
    words = [sys.executable, __file__, "--peak", name, str(num_frames), kind]
    # Tensors are given back as soon as they are freed: what the first pass took does not hide what the second takes.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    made = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    return float(made.stdout.splitlines()[-1])


def print_peak(name: str, num_frames: int, kind: str) -> None:
    """The other process's side."""
    torch.set_num_threads(1)
    predict = SYSTEMS[name]()
    run(predict, 8, "forward")
    before = _kib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark so far is forgotten
    run(predict, num_frames, kind)
    print((_kib("VmHWM") - before) / 1024)


def _kib(name: str) -> int:
    """A figure of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])


def available() -> dict[str, Predict]:
    """All systems whose packages are there."""
    found: dict[str, Predict] = {}
    for name, make in SYSTEMS.items():
        try:
            found[name] = make()
        except ImportError as error:
            print(f"{name}: left out, {error}")
    return found


def main() -> None:
    """Print ratios of the STUNet over each of the others, and write all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/bench-model.json"))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--peak", nargs=3, metavar=("SYSTEM", "FRAMES", "PASS"), help="used by this script alone")
    arguments = parser.parse_args()
    if arguments.peak:
        print_peak(arguments.peak[0], int(arguments.peak[1]), arguments.peak[2])
        return
    torch.set_num_threads(1)
    systems, figures = available(), list[dict[str, object]]()
    ours = systems["STUNet"]
    cost: dict[tuple[str, int, str], tuple[int, float, float]] = {}
    for kind in PASSES:
        for num_frames in FRAMES:
            own = flops(ours, num_frames, kind), peak_mib("STUNet", num_frames, kind)
            for name, other in systems.items():
                if name == "STUNet":
                    continue
                title = f"STUNet / {name}, {num_frames} frames, {kind}"
                time = in_pairs(
                    f"{title}: time",
                    partial(run, ours, num_frames, kind),
                    partial(run, other, num_frames, kind),
                    arguments.pairs,
                )
                theirs = flops(other, num_frames, kind), peak_mib(name, num_frames, kind)
                cost[name, num_frames, kind] = (theirs[0], time.b_s, theirs[1])
                cost["STUNet", num_frames, kind] = (own[0], time.a_s, own[1])
                print(time)
                print(f"{title}: FLOPs {own[0] / theirs[0]:.3f}, peak memory {own[1] / theirs[1]:.3f}", flush=True)
                ratios = {"time": sorted(time.ratios), "flops": own[0] / theirs[0], "memory": own[1] / theirs[1]}
                figures.append({"system": name, "frames": num_frames, "pass": kind, **ratios})
    for name in systems:
        for kind in PASSES:
            few, many = (cost[name, num_frames, kind] for num_frames in FRAMES)
            growth = [large / small for small, large in zip(few, many, strict=True)]
            told = ", ".join(
                f"{what} {value:.2f}" for what, value in zip(("FLOPs", "time", "memory"), growth, strict=True)
            )
            print(f"{name}, {kind}: 80 frames / 16 frames: {told}")
            figures.append({"system": name, "pass": kind, "growth": growth})
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
