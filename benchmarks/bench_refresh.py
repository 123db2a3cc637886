"""Refreshes: planning against a large catalog, new thresholds, a second run, and the job against plain loops.

    python benchmarks/bench_refresh.py --only plan --known 30000000
    python benchmarks/bench_refresh.py --only again,throughput --clips 500 --pairs 5

Wall times, and ratios of wall times, each pair in one run.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from planning import plan_rows
from refreshing import again_rows, throughput_rows


def main() -> None:
    """Print each figure as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="plan,again,throughput")
    parser.add_argument("--known", type=int, default=30_000_000)
    parser.add_argument("--clips", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where data is kept between runs; a temporary one by default")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        groups = {
            "plan": lambda: plan_rows(given.known, 200_000, 100_000, given.pairs, folder),
            "again": lambda: again_rows(given.clips, given.pairs, folder),
            "throughput": lambda: throughput_rows(given.clips, given.pairs, folder),
        }
        for name in given.only.split(","):
            for row in groups[name]():
                print(row, flush=True)


if __name__ == "__main__":
    main()
