"""The refresh as a job: anew, once more, with other thresholds, and against two plain processes.

Clips are generated: 360p H.264 of 6 s at 24 fps.
"""

import csv
import json
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from curation.rows import Row, Setting
from curation.sources import encoded, under_many_names
from demo.processes import cpu_s

ROOT = Path(__file__).resolve().parents[2]
_LOOP_PROCESSES = 2
_NULL = subprocess.DEVNULL
_CLIPS_PER_SLICE = 32


def again_rows(setting: Setting) -> Iterator[Row]:
    """A new run, the same run once more, and other thresholds on it: the job as a user starts it."""
    num_clips, folder = setting.num_clips, setting.folder
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


class Moment(NamedTuple):
    """How far some processes are, and what they took until then."""

    clips: int
    cpu_s: float
    wall_s: float


def throughput_rows(setting: Setting) -> Iterator[Row]:
    """The job on two CPUs against two processes that do nothing else, in the steady state: without start and end."""
    num_clips, folder = setting.num_clips, setting.folder
    manifest = clips(num_clips, folder)
    found: dict[str, list[tuple[float, float]]] = {"job": [], "plain": [], "decord": []}
    for number in range(setting.pairs):
        found["job"].append(_rates(_watched_job(manifest, folder / f"throughput{number}")))
        for kind in ("plain", "decord"):
            found[kind].append(_in_two_processes(kind, manifest, folder / f"{kind}{number}"))
    for kind, other, bar in (
        ("plain", "plain loop of the same kernel and writer", ">= 0.95"),
        ("decord", "decord and webdataset.ShardWriter", ">= 1.25"),
    ):
        both = list(zip(found["job"], found[kind], strict=True))
        by_cpu, by_wall = ([own[axis] / others[axis] for own, others in both] for axis in (0, 1))
        rates = ", ".join(f"{own[1]:.1f} and {others[1]:.1f}" for own, others in both)
        yield Row(f"job / {other}, {num_clips} clips: clips per CPU second", by_cpu, bar)
        yield Row("... clips per second", by_wall, "", rates)


def _rates(moments: Sequence[Moment]) -> tuple[float, float]:
    """Clips per CPU second and per second in the middle half: the slope of a line through all moments."""
    last = moments[-1].clips
    middle = [moment for moment in moments if last / 4 <= moment.clips <= 3 * last / 4]
    done, cpu_s, wall_s = np.array(middle, float).T
    return float(np.polyfit(cpu_s, done, 1)[0]), float(np.polyfit(wall_s, done, 1)[0])


def _watched_job(manifest: Path, dataset: Path) -> list[Moment]:
    """A refresh on two CPUs; moments at which a slice was done, with the CPU time of the job and all below it."""
    moments, done = list[Moment](), 0
    with subprocess.Popen(_command(manifest, dataset, "ray.num_cpus=2"), cwd=ROOT, stdout=_NULL, stderr=_NULL) as job:
        while job.poll() is None:
            now = len(list(dataset.glob("slices/*/*.mp4s")))
            if now > done:
                moments.append(Moment(now * _CLIPS_PER_SLICE, cpu_s(job.pid), time.time()))
                done = now
            time.sleep(0.1)
    if job.returncode:
        raise subprocess.CalledProcessError(job.returncode, "jobs/refresh.py")
    return moments


def _in_two_processes(kind: str, manifest: Path, out: Path) -> tuple[float, float]:
    """Clips per CPU second, and per second, of two processes with half of the clips each."""
    parts = [(kind, str(manifest), str(out), number) for number in range(_LOOP_PROCESSES)]
    with multiprocessing.get_context("spawn").Pool(_LOOP_PROCESSES) as pool:
        rates = [_rates(part) for part in pool.starmap(_loop, parts, chunksize=1)]
    by_cpu, by_wall = zip(*rates, strict=True)
    return sum(by_cpu) / len(by_cpu), sum(by_wall)


def _loop(kind: str, manifest: str, out: str, number: int) -> list[Moment]:
    """One process's share; the moments at which each slice's worth of clips was written."""
    with Path(manifest).open() as file:
        rows = list(csv.DictReader(file))[number::_LOOP_PROCESSES]
    videos = [str(Path(manifest).parent / row["video"]) for row in rows]
    chunks = [videos[start : start + _CLIPS_PER_SLICE] for start in range(0, len(videos), _CLIPS_PER_SLICE)]
    moments = list[Moment]()
    for wall_s in {"plain": _plain, "decord": _decord}[kind](chunks, Path(out) / str(number)):
        moments.append(Moment((len(moments) + 1) * _CLIPS_PER_SLICE, time.process_time(), wall_s))
    return moments


def _plain(chunks: Sequence[Sequence[str]], out: Path) -> Iterator[float]:
    from pipelines.curation.config import Recipe
    from pipelines.curation.prepare import prepare
    from pipelines.curation.scoring import score_clips
    from pipelines.storage import write_whole

    recipe = Recipe()
    here = partial(prepare, recipe=recipe)
    for index, chunk in enumerate(chunks):
        scored = score_clips([_record(video) for video in chunk], recipe, here)
        write_whole(out / f"{index:05d}.mp4s", b"".join(clip.mp4 for clip in scored))
        yield time.time()


def _record(video: str) -> Any:
    empty = {"start_s": None, "end_s": None, "manifest_json": "{}"}
    return {"row_id": video, "uri": video, "etag": "", "caption": "A clip", **empty}


def _decord(chunks: Sequence[Sequence[str]], out: Path) -> Iterator[float]:
    """What one would write by hand: frames by their times with decord, the same encoder, webdataset's writer."""
    from fractions import Fraction

    import decord
    import webdataset

    from pipelines.video_file import encode_mp4

    out.mkdir(parents=True, exist_ok=True)
    with webdataset.ShardWriter(f"{out}/%05d.tar", maxcount=1000, verbose=0) as writer:
        for chunk in chunks:
            for video in chunk:
                reader = decord.VideoReader(video, width=228, height=128, num_threads=1)
                wanted = (np.arange(80) / 16 * reader.get_avg_fps() + 1e-6).astype(int)
                frames_THWC = reader.get_batch(wanted).asnumpy()[:, :, 50:178]
                mp4 = encode_mp4(np.ascontiguousarray(frames_THWC), Fraction(16))
                writer.write({"__key__": Path(video).stem, "mp4": mp4, "txt": "A clip", "json": {"uri": video}})
            yield time.time()


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


def _job(manifest: Path, dataset: Path, *keys: str) -> dict[str, Any]:
    """The refresh as a job; its own record."""
    subprocess.run(_command(manifest, dataset, *keys), cwd=ROOT, check=True, capture_output=True)
    newest = max(path for path in (dataset / "refreshes").glob("*.json"))
    return json.loads(newest.read_text())


def _command(manifest: Path, dataset: Path, *keys: str) -> list[str]:
    tracking = f"tracking.uri=sqlite:///{dataset.parent}/mlflow.db", f"tracking.artifacts={dataset.parent}/artifacts"
    every = ("filters.max_near_levels=null", f"clips_per_slice={_CLIPS_PER_SLICE}")  # few of these videos differ
    given = (f"manifest={manifest}", f"dataset={dataset}", *every, *tracking, *keys)
    return [sys.executable, "jobs/refresh.py", *given]
