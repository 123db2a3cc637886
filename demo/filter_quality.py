"""Precision and recall of curation's verdicts on rendered clips, whose flaws are known.

    python -m demo.filter_quality --clips 600 --seed 11

Each verdict is one line: of the clips that were given it, how many were rendered so, and of those rendered so,
how many were given it. Near duplicates are good clips encoded anew: other codec, coarser, smaller.
"""

import argparse
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np

from demo.shapes import GOOD, Clip, clip_bytes, plan_clips
from pipelines.curation.captions import judge_caption
from pipelines.curation.config import FilterConfig, Recipe
from pipelines.curation.decode import Span
from pipelines.curation.filters import judge
from pipelines.curation.near_duplicates import FINGERPRINT_BYTES, NUM_KEYS, Ordered, near_hash, near_pairs, resolve
from pipelines.curation.prepare import prepare
from pipelines.curation.records import Rejection
from pipelines.progress import track

RECIPE = Recipe(frames=16, fps=8, size_px=32, filters=FilterConfig(min_sharpness=0.45))
"""That of `jobs/configs/demo-refresh.yaml`."""
_NOT_OF_ONE_CLIP = ("duplicate", "wrong_caption")  # flaws that one clip's frames do not tell
_COPIES = (("libx264", "34", 1.0), ("libx264", "28", 0.5), ("libx265", "30", 0.75))


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


def verdict_quality(clips: Iterable[Clip]) -> list[Quality]:
    """Decode, measure and judge clips, and compare with what they were rendered as."""
    pairs = [(clip.label, _verdict(clip)) for clip in clips if clip.flaw not in _NOT_OF_ONE_CLIP]
    rendered, given = Counter(label for label, _ in pairs), Counter(verdict for _, verdict in pairs)
    right = Counter(label for label, verdict in pairs if label == verdict)
    return [Quality(name, rendered[name], given[name], right[name]) for name in sorted(rendered | given)]


def copy_quality(clips: Sequence[Clip], max_levels: float) -> Quality:
    """How many of the copies of good clips are found, and whether anything else is taken for one."""
    prints, owners = list[bytes](), list[int]()
    for owner, clip in enumerate(clips):
        source = clip_bytes(clip)
        for variant in (source, *(_encoded_anew(source, *how) for how in _COPIES)):
            prepared, _ = prepare(variant, Span(), 0, RECIPE)
            if not isinstance(prepared, Rejection):
                prints.append(prepared.fingerprint)
                owners.append(owner)
    copies = find_copies(prints, max_levels)
    right = sum(owners[copy] == owners[original] for copy, original in copies)
    return Quality("near copy", len(owners) - len(set(owners)), len(copies), right)


def find_copies(prints: Sequence[bytes], max_levels: float) -> list[tuple[int, int]]:
    """(copy, original) among fingerprints, found as a refresh finds them."""
    hashes = [near_hash(own) for own in prints]
    pairs: list[tuple[int, int]] = []
    for which in range(NUM_KEYS):
        order = sorted(range(len(prints)), key=lambda row: (hashes[row].keys[which], hashes[row].rank, row))
        keys = np.asarray([hashes[row].keys[which] for row in order], np.int64)
        levels = np.frombuffer(b"".join(prints[row] for row in order), np.uint8).reshape(-1, FINGERPRINT_BYTES)
        pairs += near_pairs([Ordered(np.asarray(order, np.int64), keys, levels)], max_levels)
    return [(copy.row, copy.original) for copy in resolve(pairs, dict(enumerate(prints)), max_levels)]


def _verdict(clip: Clip) -> str:
    prepared, _ = prepare(clip_bytes(clip), Span(), 0, RECIPE)
    if isinstance(prepared, Rejection):
        return prepared.verdict
    rejection = judge(prepared.measures, RECIPE.filters) or judge_caption(clip.caption, RECIPE.filters)
    return rejection.verdict if rejection else GOOD


def _encoded_anew(source: bytes, codec: str, crf: str, scale: float) -> bytes:
    """The video in another codec, quality and size; frames keep their times."""
    target = io.BytesIO()
    with av.open(io.BytesIO(source)) as given, av.open(target, "w", format="mp4") as made:
        video = given.streams.video[0]
        options = {"crf": crf, "preset": "veryfast", "x265-params": "log-level=none"}
        stream: Any = made.add_stream(codec, rate=Fraction(30), options=options)
        size = (max(RECIPE.size_px, round(side * scale / 2) * 2) for side in (video.width, video.height))
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
    parser.add_argument("--clips", type=int, default=600, help="clips, two thirds of them flawed")
    parser.add_argument("--copied", type=int, default=60, help="good clips that are encoded anew three times")
    parser.add_argument("--seed", type=int, default=11)
    given = parser.parse_args()
    clips = plan_clips(given.clips, given.clips * 2 // 3, given.seed)
    good = [clip for clip in plan_clips(given.copied + 1, 0, given.seed + 1) if clip.flaw is None][: given.copied]
    max_levels = RECIPE.filters.max_near_levels
    assert max_levels is not None, "it has a default"
    qualities = verdict_quality(track(clips, "judging clips"))
    print("\n".join(_lines([*qualities, copy_quality(good, max_levels)])))


if __name__ == "__main__":
    main()
