"""Curation against the bars of its specification, in pairs. `make bench-curation`, with real clips `CLIPS=folder`.

python benchmarks/bench_curation.py --clips FOLDER --only decoding,isolation --pairs 5 --json FILE
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from curation import decoding, isolation
from curation.rows import Rows, Setting

GROUPS: dict[str, Rows] = {"decoding": decoding.rows, "isolation": isolation.rows}


def main() -> None:
    """Print each ratio as it is measured, and write them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, help="folder of real clips")
    parser.add_argument("--ffmpeg", default=shutil.which("ffmpeg"), help="the ffmpeg command")
    parser.add_argument("--only", default=",".join(GROUPS), help="groups to run")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--json", type=Path, default=Path("out/benchmarks/curation.json"))
    given = parser.parse_args()
    rows = []
    for group in given.only.split(","):
        for row in GROUPS[group](Setting(given.clips, given.ffmpeg, given.pairs)):
            rows.append({"group": group, **row.as_json()})
            print(row.ratio, row.verdict, flush=True)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
