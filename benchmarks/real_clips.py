"""What curation measures on a folder of real clips, and whether it reads the right frames of them.

    python benchmarks/real_clips.py FOLDER --size-px 128

Prints how every measure is spread, beside the default threshold, and how many clips it rejects; then, for every clip,
whether the frames equal those of a brute-force decode: everything decoded, each target's frame looked for among all by
exact fractions, each frame scaled by itself. Exit status 1 where they do not.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from curation.sources import SUFFIXES

from pipelines.curation.config import Recipe
from pipelines.curation.decode import Span, decode
from pipelines.curation.filters import RULES, judge, measure
from pipelines.curation.records import Measures, Rejection
from pipelines.progress import track

_SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def main() -> None:
    """Measure every clip of the folder once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size-px", type=int, default=Recipe().size_px, help="side of the square that is kept")
    given = parser.parse_args()
    recipe = Recipe(size_px=given.size_px)
    files = sorted(path for path in given.folder.rglob("*") if path.suffix in SUFFIXES)
    verdicts, measured, different = Counter[str](), list[Measures](), list[Path]()
    for path in track(files, "clips"):
        result = decode(path.read_bytes(), Span(), recipe).result
        if isinstance(result, Rejection):
            verdicts[result.verdict] += 1
            print(f"{path.name}: {result.verdict}: {result.reason}")
            continue
        if not np.array_equal(result.yuv.planes_TPW, by_force(path, recipe)):
            different.append(path)
        measures = measure(result.yuv.to_rgb())
        rejection = judge(measures, recipe.filters)
        verdicts[rejection.verdict if rejection else "kept"] += 1
        measured.append(measures)
    print("\n".join(spread(measured, recipe)))
    print(f"verdicts of {len(files)} clips:", ", ".join(f"{name} {count}" for name, count in verdicts.most_common()))
    print(f"frames equal to a brute-force decode: {len(measured) - len(different)} of {len(measured)} clips")
    for path in different:
        print(f"  not equal: {path}")
    sys.exit(bool(different))


def spread(measured: Iterable[Measures], recipe: Recipe) -> Iterator[str]:
    """Quantiles of each measure as lines of text."""
    clips = list(measured)
    yield f"{'measure':<12}" + "".join(f"{share:>9.0%}" for share in _SHARES) + f"{'threshold':>12}"
    for rule in RULES if clips else ():
        values = np.quantile([clip[rule.measure] for clip in clips], _SHARES)
        side = ">=" if rule.is_minimum else "<="
        threshold = f"{side} {getattr(recipe.filters, rule.threshold)}"
        yield f"{rule.measure:<12}" + "".join(f"{value:>9.3f}" for value in values) + f"{threshold:>12}"


def by_force(path: Path, recipe: Recipe) -> NDArray[np.uint8]:
    """(T, P, W) planes of an upright source with square pixels."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    times = [frame.pts * frame.time_base for frame in frames if frame.pts is not None and frame.time_base is not None]
    targets = [min(times) + Fraction(index) / recipe.rate for index in range(recipe.frames)]
    shown = [times.index(max(time for time in times if time <= target)) for target in targets]
    squares = {index: square_by_force(frames[index], recipe.size_px) for index in set(shown)}
    return np.stack([squares[index] for index in shown])


def square_by_force(frame: av.VideoFrame, size_px: int) -> NDArray[np.uint8]:
    """(P, W) planes of the middle of one frame."""
    scale = Fraction(size_px, min(frame.width, frame.height))
    width, height = round(frame.width * scale), round(frame.height * scale)
    scaled = frame.reformat(width, height, "yuv420p", interpolation="AREA", dst_color_range="MPEG")
    left, top = (width - size_px) // 4, (height - size_px) // 4
    parts = list[NDArray[np.uint8]]()
    for plane, divisor in zip(scaled.planes, (1, 2, 2), strict=True):
        lines = np.frombuffer(bytes(plane), np.uint8).reshape(-1, plane.line_size)
        column, row, side = left * 2 // divisor, top * 2 // divisor, size_px // divisor
        parts.append(lines[row : row + side, column : column + side].reshape(-1, size_px))
    return np.concatenate(parts)


if __name__ == "__main__":
    main()
