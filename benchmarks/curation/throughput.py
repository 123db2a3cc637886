"""The job on two CPUs against plain loops of two processes, all under way at once but taking turns.

Each side runs for a few seconds while the others are stopped (SIGSTOP), again and again: a machine that is slow for a
while is slow for all of them, which one after the other is not so. They start level, each with one slice written, and
what counts is the same stretch of time for all: from when the slowest has an eighth of its clips until the fastest has
all but an eighth.
"""

import csv
import multiprocessing
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil

from curation.refreshing import ROOT, clips, command
from curation.rows import Row, Setting
from demo.processes import cpu_s, family

_LOOP_PROCESSES = 2
_CLIPS_PER_SLICE = 32
"""The job's default. A slice that is done is all that is seen of progress: a thousand clips are enough for a rate."""
_TURN_S, _LOOK_S = 4.0, 0.1
_NULL = subprocess.DEVNULL


class Moment(NamedTuple):
    """How far a side is, and what it took until then."""

    at_s: float
    clips: int
    cpu_s: float
    running_s: float


class Side(NamedTuple):
    """Processes that do the same clips."""

    pids: Sequence[int]
    slices_done: Callable[[], int]
    """Slices' worth of clips that are written."""
    is_over: Callable[[], bool]


def rows(setting: Setting) -> Iterator[Row]:
    """Ratios of clips per CPU second, and per second."""
    manifest = clips(setting.num_clips, setting.folder)
    found: dict[str, list[tuple[float, float]]] = {"job": [], "plain": [], "decord": []}
    for number in range(setting.pairs):
        folder = setting.folder / f"throughput{number}"
        sides = {"job": _job(manifest, folder / "job")}
        sides |= {kind: _loops(kind, manifest, folder / kind) for kind in ("plain", "decord")}
        every = _taking_turns(list(sides.values()))
        start_s, end_s = _steady(every)
        for kind, moments in zip(sides, every, strict=True):
            found[kind].append(_rates([moment for moment in moments if start_s <= moment.at_s <= end_s]))
    for kind, other, bar in (
        ("plain", "plain loop of the same kernel and writer", ">= 0.95"),
        ("decord", "decord and webdataset.ShardWriter", ">= 1.25"),
    ):
        both = list(zip(found["job"], found[kind], strict=True))
        by_cpu, by_wall = ([own[axis] / others[axis] for own, others in both] for axis in (0, 1))
        rates = ", ".join(f"{own[1]:.1f} and {others[1]:.1f}" for own, others in both)
        yield Row(f"job / {other}, {setting.num_clips} clips: clips per second", by_wall, bar, rates)
        yield Row("... clips per CPU second", by_cpu)


def _taking_turns(sides: Sequence[Side]) -> list[list[Moment]]:
    """What came of each side, moment by moment, until all are done."""
    every: list[list[Moment]] = [[] for _ in sides]
    running_s = [0.0] * len(sides)

    def turn(number: int, is_over: Callable[[float], bool]) -> None:
        """Let a side run until it is done or its turn is over, told from the seconds it had."""
        side, moments = sides[number], every[number]
        _signal(side, psutil.Process.resume)
        start = time.monotonic()
        while not side.is_over() and not is_over(ran_s := time.monotonic() - start):
            done = _CLIPS_PER_SLICE * side.slices_done()
            if done > (moments[-1].clips if moments else 0):
                spent_s = sum(cpu_s(pid) for pid in side.pids)
                moments.append(Moment(time.monotonic(), done, spent_s, running_s[number] + ran_s))
            time.sleep(_LOOK_S)
        _signal(side, psutil.Process.suspend)
        running_s[number] += time.monotonic() - start

    for side in sides:
        _signal(side, psutil.Process.suspend)
    for number, moments in enumerate(every):
        turn(number, lambda _, moments=moments: bool(moments))
    while not all(side.is_over() for side in sides):
        for number in range(len(sides)):
            turn(number, lambda ran_s: ran_s >= _TURN_S)
    return every


def _steady(every: Sequence[Sequence[Moment]]) -> tuple[float, float]:
    """From when the slowest side has an eighth of its clips until the fastest has all but an eighth."""
    start_s = max(next(moment.at_s for moment in own if moment.clips >= own[-1].clips / 8) for own in every)
    end_s = min(next(moment.at_s for moment in own if moment.clips >= own[-1].clips * 7 / 8) for own in every)
    return start_s, end_s


def _signal(side: Side, do: Callable[[psutil.Process], None]) -> None:
    """Parents first: what is stopped starts nothing."""
    for pid in side.pids:
        for process in family(pid):
            with suppress(psutil.NoSuchProcess):
                do(process)


def _rates(moments: Sequence[Moment]) -> tuple[float, float]:
    """Clips per CPU second and per second: the slope of a line through all moments."""
    _, done, spent_s, running_s = np.array(moments, float).T
    return float(np.polyfit(spent_s, done, 1)[0]), float(np.polyfit(running_s, done, 1)[0])


def _job(manifest: Path, dataset: Path) -> Side:
    """A refresh on two CPUs, as a user starts it."""
    words = command(manifest, dataset, "ray.num_cpus=2", f"clips_per_slice={_CLIPS_PER_SLICE}")
    job = subprocess.Popen(words, cwd=ROOT, stdout=_NULL, stderr=_NULL)

    def is_over() -> bool:
        status = job.poll()
        if status:
            raise subprocess.CalledProcessError(status, "jobs/refresh.py")
        return status is not None

    return Side((job.pid,), lambda: len(list(dataset.glob("slices/*/*.mp4s"))), is_over)


def _loops(kind: str, manifest: Path, out: Path) -> Side:
    """Two processes with half of the clips each."""
    context = multiprocessing.get_context("spawn")
    loops = [context.Process(target=_loop, args=(kind, manifest, out, n), daemon=True) for n in range(_LOOP_PROCESSES)]
    for loop in loops:
        loop.start()
    pids = [loop.pid for loop in loops if loop.pid is not None]

    def is_over() -> bool:
        statuses = [loop.exitcode for loop in loops]
        if any(statuses):
            raise subprocess.CalledProcessError(next(filter(None, statuses)), f"the {kind} loop")
        return None not in statuses

    return Side(pids, lambda: len(list(out.glob("*/*.done"))), is_over)


def _loop(kind: str, manifest: Path, out: Path, number: int) -> None:
    """One process's share; a file tells of each slice's worth of clips that is written."""
    with manifest.open() as file:
        shares = list(csv.DictReader(file))[number::_LOOP_PROCESSES]
    videos = [str(manifest.parent / row["video"]) for row in shares]
    chunks = [videos[start : start + _CLIPS_PER_SLICE] for start in range(0, len(videos), _CLIPS_PER_SLICE)]
    folder = out / str(number)
    folder.mkdir(parents=True)
    for index, _ in enumerate({"plain": _plain, "decord": _decord}[kind](chunks, folder)):
        (folder / f"{index:05d}.done").touch()


def _plain(chunks: Sequence[Sequence[str]], folder: Path) -> Iterator[None]:
    from pipelines.curation.config import Recipe
    from pipelines.curation.prepare import prepare
    from pipelines.curation.scoring import score_clips
    from pipelines.storage import write_whole

    recipe = Recipe()
    here = partial(prepare, recipe=recipe)
    for index, chunk in enumerate(chunks):
        scored = score_clips([_record(video) for video in chunk], recipe, here)
        write_whole(folder / f"{index:05d}.mp4s", b"".join(clip.mp4 for clip in scored))
        yield


def _record(video: str) -> Any:
    empty = {"start_s": None, "end_s": None, "manifest_json": "{}"}
    return {"row_id": video, "uri": video, "etag": "", "caption": "A clip", **empty}


def _decord(chunks: Sequence[Sequence[str]], folder: Path) -> Iterator[None]:
    """What one would write by hand: frames by their times with decord, the same encoder, webdataset's writer."""
    import decord
    import webdataset

    from pipelines.video_file import encode_mp4

    with webdataset.ShardWriter(f"{folder}/%05d.tar", maxcount=1000, verbose=0) as writer:
        for chunk in chunks:
            for video in chunk:
                reader = decord.VideoReader(video, width=228, height=128, num_threads=1)
                wanted = (np.arange(80) / 16 * reader.get_avg_fps() + 1e-6).astype(int)
                frames_THWC = reader.get_batch(wanted).asnumpy()[:, :, 50:178]
                mp4 = encode_mp4(np.ascontiguousarray(frames_THWC), Fraction(16))
                writer.write({"__key__": Path(video).stem, "mp4": mp4, "txt": "A clip", "json": {"uri": video}})
            yield
