"""Render captioned clips of moving shapes to real video files, some of them flawed in a known way.

    python -m demo.shapes --out out/shapes --clips 100 --flawed 20 --seed 0

Writes OUT/videos/*, OUT/manifest.csv (video, caption, label and what is in the clip; the label is the verdict that
curation owes the clip, `kept` for good ones) and OUT/prompts.csv (prompt_id, prompt: captions of clips that are not
there). Same seed, same bytes.
"""

import argparse
import csv
import io
import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from demo import flaws
from demo.captions import caption
from demo.encode import Encoding, Timing, encode
from demo.render import render
from demo.scene import COLORS, MOTIONS, SHAPES, Scene, draw_scene
from pipelines.progress import track
from pipelines.storage import write_whole

GOOD = "kept"
_NUM_PROMPTS = 12
_SIZES = ((192, 144), (256, 144), (144, 256), (176, 176), (240, 180), (320, 180), (180, 320), (320, 240))
_LARGE_SIZES = ((424, 240), (480, 360), (640, 360), (848, 480))
_RATES = (*(Fraction(rate) for rate in (12, 15, 24, 25, 30, 50, 60)), Fraction(30000, 1001))
_FILES = (("h264", "mp4"), ("h264", "mp4"), ("hevc", "mp4"), ("vp9", "webm"), ("av1", "mp4"), ("av1", "mkv"))
_FRAMES_AT_ONCE = 16
_LEAST_S = 2.1
_SHORT_S = (0.6, 1.6)


@dataclass(frozen=True)
class Clip:
    """One clip to be rendered: what is in it, what kind of file it is, and what is wrong with it."""

    name: str
    scene: Scene
    caption: str
    encoding: Encoding
    flaw: str | None
    seed: str
    """Of all that is left to chance in making the flaw."""

    @property
    def label(self) -> str:
        """The verdict that curation owes it."""
        return GOOD if self.flaw is None else flaws.VERDICTS[self.flaw]

    @property
    def file(self) -> str:
        """Its path, relative to the manifest."""
        return f"videos/{self.name}.{self.encoding.suffix}"


def plan_clips(num_clips: int, num_flawed: int, seed: int) -> list[Clip]:
    """Decide on all clips, flawed ones spread among the others.

    Raises:
        ValueError: More flawed clips than clips, or no good one among them that could be doubled.
    """
    if not 0 <= num_flawed < num_clips:
        raise ValueError(f"flawed: 0 to {num_clips - 1} expected (clips less one), given {num_flawed}")
    rng = random.Random(f"{seed}:order")
    kinds = list(itertools.islice(itertools.cycle(flaws.VERDICTS), num_flawed))
    rng.shuffle(kinds)
    # The first clip is a good one, so that a duplicate always has an earlier clip to repeat.
    places = dict(zip(sorted(rng.sample(range(1, num_clips), num_flawed)), kinds, strict=True))
    clips = list[Clip]()
    for index in range(num_clips):
        name = f"{index:04d}"
        clips.append(_plan_clip(name, places.get(index), f"{seed}:{name}", clips))
    return clips


def clip_bytes(clip: Clip) -> bytes:
    """The file's bytes: the clip rendered, encoded and, where it is flawed, spoilt."""
    data = encode(_frames(clip), clip.encoding)
    return flaws.BYTES[clip.flaw](data, random.Random(clip.seed)) if clip.flaw in flaws.BYTES else data


def plan_prompts(clips: Sequence[Clip], num_prompts: int, seed: int) -> list[str]:
    """Captions that no clip has, of scenes with every shape and every colour in turn."""
    rng, known, prompts = random.Random(f"{seed}:prompts"), {clip.caption for clip in clips}, list[str]()
    names = zip(itertools.cycle(SHAPES), itertools.cycle(COLORS), itertools.cycle(MOTIONS), strict=False)
    for shape, color, motion in names:
        if len(prompts) == num_prompts:
            return prompts
        words = caption(draw_scene(rng, shape, color, motion), rng)
        if words not in known:
            known.add(words)
            prompts.append(words)
    raise AssertionError("cycles have no end")


def write_clips(out: Path, clips: Sequence[Clip], processes: int) -> None:
    """Render all clips into `out/videos` and write the manifest."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        written = pool.map(_write_clip, itertools.repeat(out), clips)
        for _ in track(written, "rendering clips", total=len(clips)):
            pass
    write_whole(out / "manifest.csv", _csv(_row(clip) for clip in clips))


def _plan_clip(name: str, flaw: str | None, seed: str, earlier: Sequence[Clip]) -> Clip:
    rng = random.Random(seed)
    if flaw == "duplicate":
        original = rng.choice([clip for clip in earlier if clip.flaw is None])
        return Clip(name, original.scene, original.caption, original.encoding, flaw, original.seed)
    scene = draw_scene(rng)
    words = flaws.CAPTION[flaw](scene, rng) if flaw in flaws.CAPTION else caption(scene, rng)
    return Clip(name, scene, words, _plan_encoding(rng, flaw), flaw, seed)


def _plan_encoding(rng: random.Random, flaw: str | None) -> Encoding:
    if flaw in flaws.BYTES:
        return Encoding(
            "h264", "mp4", 320, 180, _steady(Fraction(24), rng.uniform(_LEAST_S, 3.0)), is_index_first=False
        )
    codec, suffix = rng.choice(_FILES)
    fps, (width, height) = rng.choice(_RATES), rng.choice(_SIZES)
    if flaw == "letterboxed":
        width, height = max(width, height), min(width, height)
    if flaw == "short":
        return Encoding(codec, suffix, width, height, _steady(fps, rng.uniform(*_SHORT_S)))
    seconds = rng.uniform(_LEAST_S, 4.0)
    if flaw is None and rng.random() < 0.1:
        fps, (width, height) = rng.choice(_RATES[:3]), rng.choice(_LARGE_SIZES)
    elif flaw is None and rng.random() < 0.08:
        fps, seconds = rng.choice(_RATES[:3]), rng.uniform(6.0, 20.0)
    is_varying = codec in ("h264", "vp9") and rng.random() < 0.25
    return Encoding(codec, suffix, width, height, _varying(rng, seconds) if is_varying else _steady(fps, seconds))


def _steady(fps: Fraction, seconds: float) -> Timing:
    # A frame more than the seconds hold: the last one is shown to their end in every container.
    return Timing(1 / fps, tuple(range(int(seconds * fps) + 1)), fps)


def _varying(rng: random.Random, seconds: float) -> Timing:
    """Frames 16 to 80 ms apart, as phones record them."""
    ticks = [0]
    while ticks[-1] < seconds * 1000:
        ticks.append(ticks[-1] + rng.choice((16, 17, 33, 34, 42, 50, 80)))
    return Timing(Fraction(1, 1000), tuple(ticks), Fraction(round((len(ticks) - 1) * 1000 / ticks[-1])))


def _frames(clip: Clip) -> Iterator[NDArray[np.uint8]]:
    width, height, times_s = clip.encoding.width, clip.encoding.height, clip.encoding.timing.times_s
    if clip.flaw in flaws.PICTURE:
        yield from flaws.PICTURE[clip.flaw](clip.scene, times_s, width, height)
        return
    for first in range(0, len(times_s), _FRAMES_AT_ONCE):
        yield from render(clip.scene, times_s[first : first + _FRAMES_AT_ONCE], width, height)


def _write_clip(out: Path, clip: Clip) -> str:
    write_whole(out / clip.file, clip_bytes(clip))
    return clip.file


def _row(clip: Clip) -> dict[str, Any]:
    scene, encoding = clip.scene, clip.encoding
    named = {field: getattr(scene, field) for field in ("color", "shape", "motion", "background", "size", "speed")}
    return {
        "video": clip.file,
        "caption": clip.caption,
        "label": clip.label,
        "flaw": clip.flaw or "",
        **named,
        "codec": encoding.codec,
        "width": encoding.width,
        "height": encoding.height,
        "fps": f"{float(encoding.timing.fps):.3f}",
        "duration_s": f"{encoding.timing.times_s[-1] + 1 / float(encoding.timing.fps):.3f}",
    }


def _csv(rows: Iterable[dict[str, Any]]) -> bytes:
    table, writer = io.StringIO(), None
    for row in rows:
        if writer is None:
            writer = csv.DictWriter(table, row.keys())
            writer.writeheader()
        writer.writerow(row)
    return table.getvalue().encode()


def main() -> None:
    """Parse the command line and render."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--clips", type=int, default=100, help="clips in all")
    parser.add_argument("--flawed", type=int, default=20, help="how many of them are flawed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    try:
        clips = plan_clips(arguments.clips, arguments.flawed, arguments.seed)
    except ValueError as error:
        parser.error(str(error))
    write_clips(arguments.out, clips, arguments.processes)
    prompts = plan_prompts(clips, _NUM_PROMPTS, arguments.seed)
    rows = ({"prompt_id": f"shape-{number:02d}", "prompt": words} for number, words in enumerate(prompts))
    write_whole(arguments.out / "prompts.csv", _csv(rows))


if __name__ == "__main__":
    main()
