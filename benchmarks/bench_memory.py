"""Memory of a refresh over time, with few clips and with many: docs/images/curation_memory.png. `make bench-memory`.

    python benchmarks/bench_memory.py --clips 1000 20000 --out docs/images/curation_memory.png

Proportional set size of the job and all processes below it, sampled each second: shared pages count once. Clips are
small, so that there are many of them: 2 s of 64 x 48 pixels.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from curation.sources import encoded, under_many_names

from demo.processes import proportional_bytes

ROOT = Path(__file__).resolve().parents[1]
_KEYS = (
    *("frames=16", "fps=8", "size_px=32", "clips_per_slice=100", "samples_per_shard=1000", "ray.num_cpus=2"),
    *("filters.max_near_levels=null", "filters.min_motion=null"),  # few of these videos differ
)


def sample(command: Sequence[str]) -> tuple[list[float], list[float]]:
    """Run a command; seconds since its start, and MiB at those times."""
    seconds, mib, start = [], [], time.monotonic()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            seconds.append(time.monotonic() - start)
            mib.append(proportional_bytes(process.pid) / 1024**2)
            time.sleep(1)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return seconds, mib


def write_clips(folder: Path, num_clips: int) -> Path:
    """A manifest of ten different videos under many names."""
    rng, sources = np.random.default_rng(0), list[bytes]()
    for _ in range(10):
        picture = np.kron(rng.integers(0, 255, (6, 16, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
        starts = [4 * index % 64 for index in range(17)]
        sources.append(encoded([picture[:, start : start + 64] for start in starts], 48, 64, 8))
    return under_many_names(folder, sources, num_clips)


def main() -> None:
    """Measure and draw."""
    from matplotlib.figure import Figure

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[1000, 20000])
    parser.add_argument("--out", type=Path, default=Path("docs/images/curation_memory.png"))
    given = parser.parse_args()
    drawing = Figure(figsize=(7, 3.2), layout="constrained")
    axes = drawing.subplots()
    for num_clips in given.clips:
        with tempfile.TemporaryDirectory(prefix="memory-") as name:
            folder = Path(name)
            manifest = write_clips(folder, num_clips)
            tracking = f"tracking.uri=sqlite:///{folder}/mlflow.db", f"tracking.artifacts={folder}/artifacts"
            words = ("jobs/refresh.py", f"manifest={manifest}", f"dataset={folder}/data", *_KEYS, *tracking)
            seconds, mib = sample([sys.executable, *words])
        print(
            f"{num_clips:>8} clips: peak {max(mib):.0f} MiB, median {statistics.median(mib):.0f} MiB, "
            f"{seconds[-1]:.0f} s"
        )
        axes.plot([moment / seconds[-1] for moment in seconds], mib, label=f"{num_clips:,} clips, {seconds[-1]:.0f} s")
    axes.set_xlabel("share of the refresh's time")
    axes.set_ylabel("MiB, all processes")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    drawing.savefig(given.out, dpi=110)


if __name__ == "__main__":
    main()
