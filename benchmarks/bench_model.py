"""The STUNet against other ways to make a video model of the same image U-Net. `make bench-model`.

    python benchmarks/bench_model.py --only "no temporal resampling,UNetMotionModel" --frames 80 --passes forward

FLOPs by torch's counter, CPU time in pairs in one run, peak memory of a process of its own, forward and forward with
backward, 16 and 80 frames, and how each grows with T. lumiere-pytorch is compared where it is installed:
`uv pip install lumiere-pytorch`. The file that `--out` names, JSON, is written anew after each figure: a run that is
interrupted keeps what it has, and parts may run on their own.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))
from pairs import in_pairs
from video_models import SIDE, SYSTEMS, Predict

FRAMES = (16, 80)
PASSES = ("forward", "forward+backward")
OURS = "STUNet"


class Cost(NamedTuple):
    """Of one pass."""

    flops: int
    time_s: float
    peak_mib: float


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
    made = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, env=environment)
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


def available(names: Collection[str]) -> dict[str, Predict]:
    """Ours, and those of these systems whose packages are there."""
    found: dict[str, Predict] = {}
    for name, make in SYSTEMS.items():
        if name != OURS and name not in names:
            continue
        try:
            found[name] = make()
        except ImportError as error:
            print(f"{name}: left out, {error}")
    return found


class Bench:
    """Compares ours with the others, and writes all figures so far after each."""

    def __init__(self, systems: dict[str, Predict], pairs: int, out: Path) -> None:
        self._systems, self._pairs, self._out = systems, pairs, out
        self._figures, self._costs = list[dict[str, Any]](), dict[tuple[str, int, str], Cost]()

    def compare(self, num_frames: int, kind: str) -> None:
        """The STUNet over each of the others."""
        ours = self._systems[OURS]
        own = flops(ours, num_frames, kind), peak_mib(OURS, num_frames, kind)
        for name, other in self._systems.items():
            if name == OURS:
                continue
            title = f"{OURS} / {name}, {num_frames} frames, {kind}"
            sides = (partial(run, side, num_frames, kind) for side in (ours, other))
            time = in_pairs(f"{title}: time", *sides, self._pairs)
            theirs = flops(other, num_frames, kind), peak_mib(name, num_frames, kind)
            self._costs[name, num_frames, kind] = Cost(theirs[0], time.b_s, theirs[1])
            self._costs[OURS, num_frames, kind] = Cost(own[0], time.a_s, own[1])
            print(time)
            print(f"{title}: FLOPs {own[0] / theirs[0]:.3f}, peak memory {own[1] / theirs[1]:.3f}", flush=True)
            ratios = {"time": sorted(time.ratios), "flops": own[0] / theirs[0], "memory": own[1] / theirs[1]}
            self._add({"system": name, "frames": num_frames, "pass": kind, **ratios})

    def grow(self, frames: tuple[int, int], kind: str) -> None:
        """How each system's cost grows from few frames to many."""
        for name in self._systems:
            few, many = (self._costs.get((name, num_frames, kind)) for num_frames in frames)
            if few is None or many is None:  # ours, where there is nobody to compare it with
                continue
            growth = [large / small for small, large in zip(few, many, strict=True)]
            told = ", ".join(
                f"{what} {value:.2f}" for what, value in zip(("FLOPs", "time", "memory"), growth, strict=True)
            )
            print(f"{name}, {kind}: {frames[1]} frames / {frames[0]} frames: {told}")
            self._add({"system": name, "pass": kind, "growth": growth})

    def _add(self, figure: dict[str, Any]) -> None:
        self._figures.append(figure)
        self._out.parent.mkdir(parents=True, exist_ok=True)
        self._out.write_text(json.dumps(self._figures, indent=2) + "\n")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/bench-model.json"))
    parser.add_argument("--pairs", type=int, default=5)
    others = [name for name in SYSTEMS if name != OURS]
    parser.add_argument(
        "--only", type=_among(others), default=others, metavar="SYSTEM,...", help=f"of {', '.join(others)}"
    )
    parser.add_argument("--frames", type=_numbers, default=FRAMES, metavar="T,...")
    parser.add_argument("--passes", type=_among(PASSES), default=PASSES, metavar="PASS,...", help=f"of {PASSES}")
    parser.add_argument("--peak", nargs=3, metavar=("SYSTEM", "FRAMES", "PASS"), help="used by this script alone")
    return parser.parse_args()


def _among(known: Collection[str]) -> Callable[[str], list[str]]:
    """Names between commas."""

    def names(text: str) -> list[str]:
        given = [word.strip() for word in text.split(",")]
        unknown = [word for word in given if word not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not among {', '.join(known)}")
        return given

    return names


def _numbers(text: str) -> list[int]:
    """Ascending."""
    numbers = sorted(int(word) for word in text.split(","))
    if numbers[0] < 1:
        raise argparse.ArgumentTypeError(f"positive numbers expected, given {text}")
    return numbers


def main() -> None:
    """Print ratios of the STUNet over each of the others, and write all figures."""
    given = parsed()
    if given.peak:
        print_peak(given.peak[0], int(given.peak[1]), given.peak[2])
        return
    torch.set_num_threads(1)
    bench = Bench(available(given.only), given.pairs, given.out)
    for kind in given.passes:
        for num_frames in given.frames:
            bench.compare(num_frames, kind)
    if len(given.frames) > 1:
        for kind in given.passes:
            bench.grow((given.frames[0], given.frames[-1]), kind)


if __name__ == "__main__":
    main()
