"""The refresh as a job: anew, once more, with other thresholds.

Clips are generated: 360p H.264 of 6 s at 24 fps.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from curation.rows import Row, Setting
from curation.sources import encoded, under_many_names

ROOT = Path(__file__).resolve().parents[2]
CLIPS_PER_SLICE = 32


def again_rows(setting: Setting) -> Iterator[Row]:
    """A new run, the same run once more, and other thresholds on it: the job as a user starts it."""
    num_clips, folder = setting.num_again, setting.folder
    manifest = clips(num_clips, folder)
    first, again, other = [], [], []
    for number in range(setting.pairs):
        dataset = folder / f"again{number}"
        first.append(_job(manifest, dataset))
        again.append(_job(manifest, dataset))
        other.append(_job(manifest, dataset, f"filters.min_motion={0.1 + number / 10}", "shuffle_seed=1"))
        assert again[-1]["decoded"] == other[-1]["decoded"] == 0
        assert other[-1]["rejudged"] == num_clips
    ratios = [new["seconds"] / changed["seconds"] for new, changed in zip(first, other, strict=True)]
    yield Row(f"new run / other thresholds, {num_clips} clips", ratios, ">= 20")
    yield Row("... seconds of a new run", [told["seconds"] for told in first])
    yield Row("... seconds with other thresholds, every shard cut anew", [told["seconds"] for told in other])
    yield Row("... seconds of the same run once more, after start-up", [told["seconds"] for told in again], "<= 5")


def clips(num_clips: int, folder: Path) -> Path:
    """A manifest of generated clips: 20 different videos under many names."""
    manifest = folder / f"clips{num_clips}" / "manifest.csv"
    if manifest.exists():
        return manifest
    manifest.parent.mkdir(parents=True)
    rng, sources = np.random.default_rng(0), list[bytes]()
    for _ in range(20):
        texture = np.kron(rng.integers(0, 255, (60, 120, 3), dtype=np.uint8), np.ones((8, 8, 1), np.uint8))
        sources.append(encoded([texture[i : i + 360, 2 * i : 2 * i + 640] for i in range(144)], 360, 640, 24))
    return under_many_names(manifest.parent, sources, num_clips)


def command(manifest: Path, dataset: Path, *keys: str) -> list[str]:
    """What starts a refresh."""
    tracking = f"tracking.uri=sqlite:///{dataset.parent}/mlflow.db", f"tracking.artifacts={dataset.parent}/artifacts"
    every = ("filters.max_near_levels=null", f"clips_per_slice={CLIPS_PER_SLICE}")  # few of these videos differ
    given = (f"manifest={manifest}", f"dataset={dataset}", *every, *tracking, *keys)
    return [sys.executable, "jobs/refresh.py", *given]


def _job(manifest: Path, dataset: Path, *keys: str) -> dict[str, Any]:
    """The refresh as a job; its own record."""
    subprocess.run(command(manifest, dataset, *keys), cwd=ROOT, check=True, capture_output=True)
    newest = max(path for path in (dataset / "refreshes").glob("*.json"))
    return json.loads(newest.read_text())
