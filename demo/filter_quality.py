"""Precision and recall of curation's verdicts on rendered clips, whose flaws are known.

    python -m demo.filter_quality --clips 500 --seed 11 --recipe demo
    python -m demo.filter_quality --clips 500 --seed 11 --recipe shipped

The clips go through a refresh as a user starts it. Each verdict is one line: of the clips that were given it, how many
were rendered so, and of those rendered so, how many were given it. `near copy` are good clips encoded anew: another
codec, coarser, smaller. The recipes are that of `jobs/configs/demo-refresh.yaml` and the defaults of `jobs/refresh.py`;
for both the demo's CLIP tells which captions fit.
"""

import argparse
import dataclasses
import io
import json
import random
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from fractions import Fraction
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from demo.encode import Encoding, Timing
from demo.shapes import Clip, clip_bytes, plan_clips
from pipelines.curation.catalog import Catalog
from pipelines.curation.config import AlignConfig, FilterConfig, Recipe, RefreshConfig
from pipelines.curation.decode import Span
from pipelines.curation.near_duplicates import (
    FINGERPRINT_BYTES,
    NUM_KEYS,
    Ordered,
    Shot,
    near_hash,
    near_pairs,
    resolve,
)
from pipelines.curation.prepare import prepare
from pipelines.curation.records import Rejection
from pipelines.curation.refresh import refresh
from pipelines.curation.tasks import HERE
from pipelines.progress import track
from pipelines.tracking import TrackingConfig

_ALIGN = AlignConfig(model=f"local-dir:{Path(__file__).parent / 'weights' / 'clip'}", min_score=0.6)
RECIPES: Mapping[str, Recipe] = {
    "demo": Recipe(frames=16, fps=8, size_px=32, filters=FilterConfig(min_sharpness=0.45), align=_ALIGN),
    "shipped": Recipe(align=_ALIGN),
}
_COPIES = (("libx264", "34", 1.0), ("libx264", "28", 0.5), ("libx265", "30", 0.75))
_RENDERED_S = 2  # how long the demo's clips last at least
_SLOW_FPS, _HUGE_PX, _ENDLESS_S = Fraction(5), (4352, 2400), 4000


class Planted(NamedTuple):
    """A clip and the verdict that it must get."""

    clip: Clip
    label: str


class Quality(NamedTuple):
    """How well one verdict is given."""

    verdict: str
    rendered: int
    given: int
    right: int

    @property
    def precision(self) -> float:
        """0..1; 1 where the verdict was never given."""
        return self.right / self.given if self.given else 1.0

    @property
    def recall(self) -> float:
        """0..1; 1 where nothing was rendered so."""
        return self.right / self.rendered if self.rendered else 1.0


def plant(num_clips: int, num_flawed: int, num_outside: int, seed: int, recipe: Recipe) -> list[Planted]:
    """Clips as long as the recipe asks for, flawed ones among them, and some of each kind that lies outside the limits.

    Args:
        num_clips: Clips but those outside the limits.
        num_flawed: How many of them are flawed.
        num_outside: Clips that are too small, too large, too slow: as many of each.
        seed: Of all that is left to chance.
        recipe: What the clips are for.
    """
    more_s = recipe.frames / recipe.rate - _RENDERED_S
    planted = [
        Planted(clip if clip.flaw == "short" else _longer(clip, more_s), clip.label)
        for clip in plan_clips(num_clips, num_flawed, seed)
    ]
    good = plan_clips(3 * num_outside + 1, 0, seed + 2)
    for number, clip in enumerate(good[: 3 * num_outside]):
        label, encoding = _outside(number, clip.encoding, recipe)
        planted.append(Planted(dataclasses.replace(clip, name=f"{label}{number}", encoding=encoding), label))
    random.Random(seed).shuffle(planted)
    # A copy must come after the clip that it repeats: the first one is the good one.
    return sorted(planted, key=lambda each: each.label == "duplicate")


def verdict_quality(planted: Sequence[Planted], recipe: Recipe) -> list[Quality]:
    """Refresh a data set with the clips, and compare its verdicts with what the clips were rendered as."""
    with tempfile.TemporaryDirectory(prefix="quality-") as name:
        folder = Path(name)
        pairs = list(_verdicts(folder, planted, recipe))
    rendered, given = Counter(label for label, _ in pairs), Counter(verdict for _, verdict in pairs)
    right = Counter(label for label, verdict in pairs if label == verdict)
    return [Quality(name, rendered[name], given[name], right[name]) for name in sorted(rendered | given)]


def _verdicts(folder: Path, planted: Sequence[Planted], recipe: Recipe) -> Iterator[tuple[str, str]]:
    """(label, verdict) of each clip."""
    with (folder / "manifest.jsonl").open("w") as manifest:
        for clip, label in track(planted, "rendering clips"):
            name = f"{clip.name}.{clip.encoding.suffix}"
            (folder / name).write_bytes(clip_bytes(clip))
            manifest.write(json.dumps({"video": name, "caption": clip.caption, "label": label}) + "\n")
    config = RefreshConfig(
        manifest=str(folder / "manifest.jsonl"),
        dataset=str(folder / "dataset"),
        tracking=TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db", artifacts=str(folder / "artifacts")),
        **{field: getattr(recipe, field) for field in Recipe.model_fields},
    )
    refresh(config, nullcontext, partial(datetime.now, UTC), tasks=HERE._replace(report=lambda *_: None))
    for row in Catalog.open(folder / "dataset").rows(["manifest_json", "verdict"]).to_pylist():
        yield json.loads(row["manifest_json"])["label"], row["verdict"]


def _longer(clip: Clip, more_s: Fraction) -> Clip:
    """The same scene, shown longer."""
    timing = clip.encoding.timing
    last, gap = timing.ticks[-1], timing.ticks[-1] - timing.ticks[-2]
    more = tuple(last + gap * (index + 1) for index in range(ceil(more_s / (gap * timing.time_base))))
    longer = dataclasses.replace(timing, ticks=(*timing.ticks, *more))
    return dataclasses.replace(clip, encoding=dataclasses.replace(clip.encoding, timing=longer))


def _outside(number: int, given: Encoding, recipe: Recipe) -> tuple[str, Encoding]:
    """Another kind for each number: a label, and an encoding that the default limits reject by it."""
    seconds = recipe.frames / recipe.rate + 1
    slow = Timing(1 / _SLOW_FPS, tuple(range(int(seconds * _SLOW_FPS) + 1)), _SLOW_FPS)
    few, endless = Timing(Fraction(1, 8), (0, 1, 2), Fraction(8)), Timing(Fraction(1), (0, _ENDLESS_S), Fraction(1))
    side, h264 = recipe.size_px - 8, ("h264", "mp4")
    return (
        ("low_fps", dataclasses.replace(given, timing=slow)),
        ("too_small", Encoding(*h264, side, side + 40, slow)),
        ("too_large", Encoding(*h264, *_HUGE_PX, few)),
        ("low_fps", Encoding("vp9", "webm", given.width, given.height, slow)),
        ("too_small", Encoding(*h264, 2 * side, side, given.timing)),
        ("too_large", Encoding(*h264, given.width, given.height, endless)),
    )[number % 6]


def copy_quality(clips: Sequence[Clip], recipe: Recipe) -> Quality:
    """How many of the copies of good clips are found, and whether anything else is taken for one."""
    max_levels = recipe.filters.max_near_levels
    assert max_levels is not None, "it has a default"
    prints, owners = list[bytes](), list[int]()
    for owner, clip in enumerate(clips):
        source = clip_bytes(clip)
        for variant in (source, *(_encoded_anew(source, recipe.size_px, *how) for how in _COPIES)):
            prepared, _ = prepare(variant, Span(), 0, recipe)
            if not isinstance(prepared, Rejection):
                prints.append(prepared.fingerprint)
                owners.append(owner)
    copies = find_copies(prints, max_levels)
    right = sum(owners[copy] == owners[original] for copy, original in copies)
    return Quality("near copy", len(owners) - len(set(owners)), len(copies), right)


def find_copies(prints: Sequence[bytes], max_levels: float) -> list[tuple[int, int]]:
    """(copy, original) among fingerprints of as many sources, found as a refresh finds them."""
    hashes = [near_hash(own) for own in prints]
    pairs: list[tuple[int, int]] = []
    for which in range(NUM_KEYS):
        order = sorted(range(len(prints)), key=lambda row: (hashes[row].keys[which], hashes[row].rank, row))
        keys = np.asarray([hashes[row].keys[which] for row in order], np.int64)
        levels = np.frombuffer(b"".join(prints[row] for row in order), np.uint8).reshape(-1, FINGERPRINT_BYTES)
        rows = np.asarray(order, np.int64)
        pairs += near_pairs([Ordered(rows, keys, levels, rows, np.zeros(len(rows)))], max_levels)
    shots = {row: Shot(own, row, 0.0) for row, own in enumerate(prints)}
    return [(copy.row, copy.original) for copy in resolve(pairs, shots, max_levels)]


def _encoded_anew(source: bytes, least_px: int, codec: str, crf: str, scale: float) -> bytes:
    """The video in another codec, quality and size; frames keep their times."""
    target = io.BytesIO()
    with av.open(io.BytesIO(source)) as given, av.open(target, "w", format="mp4") as made:
        video = given.streams.video[0]
        options = {"crf": crf, "preset": "veryfast", "x265-params": "log-level=none"}
        stream: Any = made.add_stream(codec, rate=Fraction(30), options=options)
        scale = max(scale, least_px / min(video.width, video.height))
        size = (round(side * scale / 2) * 2 for side in (video.width, video.height))
        stream.width, stream.height = size
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", video.time_base
        for frame in given.decode(video):  # pyright: ignore[reportAttributeAccessIssue]
            small = frame.reformat(stream.width, stream.height, "yuv420p")
            small.pts, small.time_base = frame.pts, frame.time_base
            made.mux(stream.encode(small))
        made.mux(stream.encode(None))
    return target.getvalue()


def _lines(qualities: Iterable[Quality]) -> Iterator[str]:
    yield f"{'verdict':<16}{'rendered':>9}{'given':>7}{'precision':>11}{'recall':>8}"
    for quality in qualities:
        shares = f"{quality.precision:>11.3f}{quality.recall:>8.3f}"
        yield f"{quality.verdict:<16}{quality.rendered:>9}{quality.given:>7}{shares}"


def main() -> None:
    """Parse the command line, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", choices=tuple(RECIPES), default="demo")
    parser.add_argument("--clips", type=int, default=600, help="clips, two thirds of them flawed")
    parser.add_argument("--outside", type=int, default=20, help="clips more of each kind that is outside the limits")
    parser.add_argument("--copied", type=int, default=60, help="good clips that are encoded anew three times")
    parser.add_argument("--seed", type=int, default=11)
    given = parser.parse_args()
    recipe = RECIPES[given.recipe]
    planted = plant(given.clips, given.clips * 2 // 3, given.outside, given.seed, recipe)
    good = [each.clip for each in plant(given.copied + 1, 0, 0, given.seed + 1, recipe)][: given.copied]
    print("\n".join(_lines([*verdict_quality(planted, recipe), copy_quality(good, recipe)])))


if __name__ == "__main__":
    main()
