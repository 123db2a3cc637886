"""Curation against the bars of its specification. `make bench-curation`, with real clips `CLIPS=FOLDER`.

    python benchmarks/bench_curation.py --clips FOLDER --ffmpeg ffmpeg --only decoding,isolation --pairs 5
    python benchmarks/bench_curation.py --only plan --known 30000000
    python benchmarks/bench_curation.py --only throughput --num-clips 500

Groups: `decoding` and `isolation`, ratios of CPU time; `plan`, seconds and memory of a plan against a large catalog;
`again`, new thresholds and a second run against a new run; `throughput`, the job against plain loops of two processes,
clips per second. Both sides of a ratio are measured in turn, in one run. What is measured is written after every row.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from curation import decoding, isolation, planning, refreshing, throughput
from curation.rows import Rows, Setting

from pipelines.storage import write_whole

GROUPS: dict[str, Rows] = {
    "decoding": decoding.rows,
    "isolation": isolation.rows,
    "plan": planning.rows,
    "again": refreshing.again_rows,
    "throughput": throughput.rows,
}


def main() -> None:
    """Print each figure as it is measured, and write them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, help="folder of real clips")
    parser.add_argument("--ffmpeg", default=shutil.which("ffmpeg"), help="the ffmpeg command")
    parser.add_argument("--only", default=",".join(GROUPS), help="groups to run")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--num-clips", type=int, default=500, help="of the data set of `throughput`")
    parser.add_argument(
        "--again-clips",
        type=int,
        default=4000,
        help="of the data set of `again`, 5 minutes a pair on two cores: other thresholds take 4 s on any data set",
    )
    parser.add_argument("--known", type=int, default=30_000_000, help="rows of the catalog that is planned against")
    parser.add_argument("--folder", type=Path, help="where data is kept between runs; a temporary one by default")
    parser.add_argument("--json", type=Path, default=Path("out/benchmarks/curation.json"))
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        numbers = given.pairs, given.num_clips, given.again_clips, given.known
        setting = Setting(given.clips, given.ffmpeg, *numbers, folder.resolve())
        rows: list[dict[str, object]] = []
        for group in given.only.split(","):
            for row in GROUPS[group](setting):
                rows.append({"group": group, **row.as_json()})
                print(row, flush=True)
                write_whole(given.json, (json.dumps(rows, indent=2) + "\n").encode())


if __name__ == "__main__":
    main()
