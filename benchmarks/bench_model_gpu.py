"""The STUNet on a GPU, in bf16, with the widths of Stable Diffusion 1.5 and random weights. `make bench-model-gpu`.

    python benchmarks/bench_model_gpu.py --sides 32,64 --profile
    python benchmarks/bench_model_gpu.py --device cpu --size tiny --compile-backend eager    # the same code, anywhere

Time by CUDA events in pairs in one run, peak memory, FLOPs by torch's counter, and their share of the card's measured
rate of matrix products (MFU): forward, and forward with backward to the temporal weights and the input. The STUNet is
compared with the image U-Net on its frames and with the same inflation without temporal resampling, and with itself
compiled, checkpointed and in other memory formats. MFU counts what the model needs, so what checkpointing does twice
counts once. torch and diffusers are all that is needed besides `stunet`. `--out` is written anew after each figure.
"""

import argparse
import gc
import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import diffusers
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))
from gpu_measures import DeviceClock, matrix_tflops, peak_mib
from gpu_models import SIZES, SYSTEMS, VARIANTS, Setting, Subject, image_unet, stunet
from pairs import in_pairs

PASSES = ("forward", "forward+backward")
_OPERATORS = 30


class Cell(NamedTuple):
    """One way to pass one video through a model."""

    num_frames: int
    side: int
    kind: str

    def __str__(self) -> str:
        return f"{self.num_frames} frames, latents {self.side}x{self.side}, {self.kind}"


class Report:
    """The file of figures; whole after each of them, so that an interrupted run keeps its own."""

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        self._path, self._values = path, {**head, "rows": list[dict[str, Any]]()}

    def add(self, row: dict[str, Any]) -> None:
        self._values["rows"].append(row)
        self.write()

    def write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self._values, indent=2) + "\n")


def one_pass(subject: Subject, video: Tensor, kind: str) -> None:
    """Forward, or a training step's forward and backward without the optimizer."""
    if kind == "forward":
        with torch.no_grad():
            subject.predict(video)
        return
    # The gradient of the input, too: models without a weight that trains then go back through the same layers.
    subject.predict(video.detach().requires_grad_()).float().square().mean().backward()
    for value in subject.module.parameters():
        value.grad = None


def flops(subject: Subject, video: Tensor, kind: str) -> int:
    """Floating-point operations of one pass, by torch's counter."""
    with FlopCounterMode(display=False) as counter:
        one_pass(subject, video, kind)
    return counter.get_total_flops()


class Bench:
    """Measures cells, and tells what it finds."""

    def __init__(self, setting: Setting, report: Report, pairs: int, matrix_rate: float) -> None:
        self._setting, self._report, self._pairs, self._rate = setting, report, pairs, matrix_rate
        self._clock = DeviceClock(setting.device)

    def measure(self, cell: Cell, systems: list[str], variants: list[str]) -> None:
        """Compare the STUNet with others and with variants of itself."""
        ours, video = stunet(self._setting), self._setting.video(cell.num_frames, cell.side)
        own = self._within_memory("STUNet", cell, lambda: flops(ours, video, cell.kind))
        if own is None:
            return
        for name in systems:
            other = SYSTEMS[name](self._setting)
            self._within_memory(name, cell, partial(self._system, name, cell, ours, other, own))
        for name in variants:
            torch.compiler.reset()  # shapes that were compiled before would count against a limit
            variant = VARIANTS[name](self._setting)
            self._within_memory(name, cell, partial(self._variant, name, cell, variant, ours, own))

    def _system(self, name: str, cell: Cell, ours: Subject, other: Subject, own: int) -> None:
        """The STUNet over another system."""
        theirs = flops(other, self._setting.video(cell.num_frames, cell.side), cell.kind)
        row = self._compared(f"STUNet / {name}", cell, ours, other)
        row["flops"], row["flops_ratio"] = [own, theirs], own / theirs
        self._tell(row, own, theirs)

    def _variant(self, name: str, cell: Cell, variant: Subject, ours: Subject, own: int) -> None:
        """A variant over the STUNet as it is."""
        self._tell(self._compared(f"STUNet {name} / STUNet", cell, variant, ours), own, own)

    def _compared(self, title: str, cell: Cell, a: Subject, b: Subject) -> dict[str, Any]:
        """Time and memory of two sides."""
        device, video = self._setting.device, self._setting.video(cell.num_frames, cell.side)
        above, below = (partial(one_pass, side, video, cell.kind) for side in (a, b))
        time = in_pairs(f"{title}, {cell}", above, below, self._pairs, self._clock, warm_ups=3)
        print(time, flush=True)
        return {
            "title": title,
            **cell._asdict(),
            "median_s": [time.a_s, time.b_s],
            "times_s": time.times_s,
            "ratio": time.median,
            "ratios": sorted(time.ratios),
            "memory": [peak_mib(above, device), peak_mib(below, device)],
        }

    def _tell(self, row: dict[str, Any], above: int, below: int) -> None:
        """Print and keep what follows from times and FLOPs."""
        row["tflops"] = [count / second / 1e12 for count, second in zip((above, below), row["median_s"], strict=True)]
        row["mfu"] = [rate / self._rate for rate in row["tflops"]]
        told = [f"MFU {row['mfu'][0]:.3f} and {row['mfu'][1]:.3f}"]
        if "flops_ratio" in row:
            told.append(f"FLOPs {row['flops_ratio']:.3f} ({above / 1e12:.3f} T)")
        if row["memory"][0] is not None:
            told.append("peak " + " and ".join(f"{side['peak_mib']:.0f}" for side in row["memory"]) + " MiB")
        print(f"    {', '.join(told)}", flush=True)
        self._report.add(row)

    def _within_memory(self, name: str, cell: Cell, work: Callable[[], int | None]) -> int | None:
        """What `work` gives; None, and a row that says so, where the card's memory ends."""
        try:
            return work()
        except torch.OutOfMemoryError as error:
            print(f"{name}, {cell}: out of memory", flush=True)
            self._report.add({"title": name, **cell._asdict(), "out_of_memory": str(error).partition("\n")[0]})
        gc.collect()
        torch.cuda.empty_cache()
        return None


def profile(setting: Setting, cell: Cell, out: Path) -> None:
    """Where the time of the STUNet goes: torch.profiler's table, the costliest operators first."""
    subject, video = stunet(setting), setting.video(cell.num_frames, cell.side)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if setting.device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    for _ in range(2):
        one_pass(subject, video, cell.kind)
    with torch.profiler.profile(activities=activities, record_shapes=True) as recorded:
        one_pass(subject, video, cell.kind)
    order = "self_device_time_total" if setting.device.type == "cuda" else "self_cpu_time_total"
    for by_shape in (False, True):
        averages = recorded.key_averages(group_by_input_shape=by_shape)
        table = averages.table(sort_by=order, row_limit=_OPERATORS, max_name_column_width=70)
        path = out.with_name(f"{out.stem}-profile{'-by-shape' if by_shape else ''}.txt")
        path.write_text(f"{cell}\n{table}\n")
        print(f"{cell}: {path}", flush=True)
        if not by_shape:
            print(table)


def cells(sides: list[int], frames: list[int], kinds: list[str]) -> Iterator[Cell]:
    """Small ones first."""
    return (Cell(num_frames, side, kind) for side in sides for num_frames in frames for kind in kinds)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--size", choices=tuple(SIZES), default="sd15", help="widths of the image U-Net")
    parser.add_argument("--frames", type=_numbers, default=[16, 80], metavar="T,...")
    parser.add_argument("--sides", type=_numbers, default=[32, 64], metavar="SIDE,...", help="of the latents")
    parser.add_argument("--passes", type=_among(PASSES), default=list(PASSES), metavar="PASS,...")
    parser.add_argument("--systems", type=_among(SYSTEMS), default=list(SYSTEMS), metavar="NAME,...")
    parser.add_argument("--variants", type=_among(VARIANTS), default=list(VARIANTS), metavar="NAME,...")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--compile-backend", default="inductor", help="of torch.compile")
    parser.add_argument("--profile", action="store_true", help="write the operators' times of the largest cell too")
    parser.add_argument("--out", type=Path, default=Path("out/bench-model-gpu.json"))
    return parser.parse_args()


def _numbers(text: str) -> list[int]:
    numbers = [int(word) for word in text.split(",")]
    if min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"positive numbers expected, given {text}")
    return numbers


def _among(known: Any) -> Callable[[str], list[str]]:
    """Names between commas; an empty word: none."""

    def names(text: str) -> list[str]:
        given = [word.strip() for word in text.split(",") if word.strip()]
        unknown = [word for word in given if word not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not among {', '.join(known)}")
        return given

    return names


def main() -> None:
    """Measure all cells, or say that there is no GPU."""
    given = parsed()
    if given.device == "cuda" and not torch.cuda.is_available():
        sys.exit(
            "bench_model_gpu.py: a GPU is needed, torch finds no CUDA device here. "
            "`--device cpu --size tiny` runs the same code on a small U-Net, without figures that mean anything"
        )
    device, dtype = torch.device(given.device), torch.bfloat16
    setting = Setting(given.size, device, dtype, given.compile_backend, image_unet(given.size, device, dtype))
    rates = matrix_tflops(device, dtype, DeviceClock(device))
    head = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU: figures mean nothing",
        "size": given.size,
        "dtype": "bfloat16",
        "compile_backend": given.compile_backend,
        "versions": {"torch": torch.__version__, "diffusers": diffusers.__version__, "cuda": torch.version.cuda},
        "matrix_tflops_by_side": rates,
    }
    report = Report(given.out, head)
    report.write()
    print(f"{head['device']}: matrix products at {max(rates.values()):.1f} TFLOP/s in bf16", flush=True)
    bench = Bench(setting, report, given.pairs, max(rates.values()))
    for cell in cells(given.sides, given.frames, given.passes):
        bench.measure(cell, given.systems, given.variants)
    if given.profile:
        profile(setting, Cell(max(given.frames), min(given.sides), given.passes[-1]), given.out)


if __name__ == "__main__":
    main()
