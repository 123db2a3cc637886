"""Near duplicates: the same video once more, encoded anew or rescaled, found by a perceptual hash over its frames.

A fingerprint is the coarse colour of a few frames. Encoding moves it by a level or two, another video by dozens. What a
camera shows that stands still moves it by little too, so the way in which the colours change must be the same as well.
Which fingerprints to compare at all is told by locality-sensitive hashing with Gaussian projections (Datar et al.
2004): the work grows with the number of clips, not with its square.

Shape letters: T frames in time, H height, W width, C channels (RGB), K frames looked at, F length of a fingerprint,
N clips, P pairs, M keys of a clip, D directions.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.curation.timeline import evenly_spaced

_NUM_FRAMES, _GRID_PX = 8, 4
FINGERPRINT_BYTES = _NUM_FRAMES * _GRID_PX * _GRID_PX * 3
NUM_KEYS = 6
_PROJECTIONS_PER_KEY = 10
_CELL_LEVELS = 32.0
_PERCENTILE = 98
_NEIGHBOURS = 1000  # of a key, compared with each row: how many clips may stand on the same plain ground
_NEAR_ONES = 4  # enough to join all copies of a clip, however many there are
_NUM_ABOVE = FINGERPRINT_BYTES - 1 - int(_PERCENTILE / 100 * (FINGERPRINT_BYTES - 1))  # values that may differ by more
_MOST_APART = 0.5  # lengths of a clip
# Between movements of copies lie 0.53 squared levels a value and less, of other moments of a scene mostly 0.8 and more.
_MOVING_NOISE, _MOVING_SHARE = 0.4, 0.15


class Copy(NamedTuple):
    """A clip that shows what an earlier one shows."""

    row: int
    original: int
    """The row that is kept."""
    levels: float
    """Their distance."""


class NearHash(NamedTuple):
    """Where a clip stands among others."""

    keys: list[int]
    """Six numbers; clips that share none are not compared."""
    rank: float
    """Near clips have near ranks: the order in which clips of a key are compared."""


class Shot(NamedTuple):
    """What is looked at of a clip."""

    fingerprint: bytes
    source: int
    """Its address, as a number."""
    moment: float
    """Where it starts in its source, in lengths of a clip."""


class Ordered(NamedTuple):
    """Rows in the order of a key and their rank."""

    numbers_N: NDArray[np.int64]
    """Of near rows the one with the smaller number is kept."""
    keys_N: NDArray[np.int64]
    levels_NF: NDArray[np.uint8]
    sources_N: NDArray[np.int64]
    moments_N: NDArray[np.float64]
    """As in `Shot`."""


def fingerprint(frames_THWC: NDArray[np.uint8]) -> bytes:
    """Mean colours of a 4 x 4 grid in 8 evenly spaced frames: 384 bytes.

    Args:
        frames_THWC: (T, H, W, 3) uint8 RGB.
    """
    chosen = evenly_spaced(len(frames_THWC), _NUM_FRAMES)
    size = (_GRID_PX, _GRID_PX)
    return b"".join(cv2.resize(frames_THWC[i], size, interpolation=cv2.INTER_AREA).tobytes() for i in chosen)


def near_hash(fingerprint: bytes) -> NearHash:
    """What tells which clips are worth comparing with this one.

    A key joins 10 projections on random directions, each cut into cells of 32 levels: near clips share at least one of
    six keys (99 % and more do), others hardly ever.
    """
    directions_FD, offsets_D, weights_D = _projections()
    projected_D = _levels([fingerprint]).astype(np.float64)[0] @ directions_FD
    cells_D = np.floor(projected_D[1:] / _CELL_LEVELS + offsets_D).astype(np.int64)
    # Sums of products modulo 2**64: a hash of each group of cells.
    keys_M = (cells_D * weights_D).reshape(NUM_KEYS, _PROJECTIONS_PER_KEY).sum(axis=1)
    return NearHash(keys_M.tolist(), round(float(projected_D[0]), 3))


def distance(first: bytes, second: bytes) -> float:
    """Levels, 0..255, that only 2 % of the coarse colours of two clips differ by more than."""
    return float(_distances(_levels([first]), _levels([second]))[0])


def near_pairs(ordered: Iterable[Ordered], max_levels: float) -> list[tuple[int, int]]:
    """Pairs (earlier, later) of near rows, from rows in the order of a key and their rank.

    Each row is compared with those that follow it under the same key, until four near ones are found and a thousand at
    most. Near clips have near ranks, but where thousands of clips show something small on the same ground their ranks
    are near too. A million copies cost four million comparisons.

    Args:
        ordered: Batches of rows; only a thousand rows are held from one to the next.
        max_levels: Distance up to which two clips are the same.
    """
    pairs: list[tuple[int, int]] = []
    rows, found_N = _nothing(), np.zeros(0, np.int64)
    for batch in ordered:
        num_held = len(rows.numbers_N)
        rows = Ordered._make(np.concatenate(both) for both in zip(rows, batch, strict=True))
        found_N = np.concatenate((found_N, np.zeros(len(batch.numbers_N), np.int64)))
        for step in range(1, _NEIGHBOURS + 1):
            # The held rows were compared with each other before.
            first_P = np.arange(max(0, num_held - step), len(rows.numbers_N) - step)
            first_P = first_P[rows.keys_N[first_P] == rows.keys_N[first_P + step]]
            if not len(first_P):
                break  # rows of a key stand together
            first_P = first_P[found_N[first_P] < _NEAR_ONES]
            near_P = first_P[_are_copies(rows, first_P, first_P + step, max_levels)]
            found_N[near_P] += 1
            found_P2 = np.sort(np.stack((rows.numbers_N[near_P], rows.numbers_N[near_P + step]), axis=1), axis=1)
            pairs += [(int(earlier), int(later)) for earlier, later in found_P2]
        rows, found_N = Ordered._make(column[-_NEIGHBOURS:] for column in rows), found_N[-_NEIGHBOURS:]
    return pairs


def resolve(pairs: Iterable[tuple[int, int]], shots: Mapping[int, Shot], max_levels: float) -> list[Copy]:
    """Which rows are copies of which, so that no two rows of what is left are known to be near.

    Of a group that hangs together the earliest row is kept, all that are near it are its copies, and the rest goes on
    in the same way: a row that is near a copy alone is kept.
    """
    copies: list[Copy] = []
    for group in _groups(pairs):
        left = sorted(group)
        while left:
            first, *others = left
            levels_NF = _levels([shots[row].fingerprint for row in left])
            found = zip(others, *_compared(levels_NF[:1], levels_NF[1:], max_levels), strict=True)
            near = [
                Copy(row, first, float(levels))
                for row, levels, is_copy in found
                if is_copy and not _are_apart(shots[first], shots[row])
            ]
            copies += near
            left = sorted(set(others).difference(copy.row for copy in near))
    return sorted(copies)


def _are_apart(first: Shot, second: Shot) -> bool:
    """Whether they are different parts of one source: what a camera shows that stands still is the same in all."""
    return first.source == second.source and abs(first.moment - second.moment) > _MOST_APART


def _are_copies(
    rows: Ordered, first_P: NDArray[np.int64], second_P: NDArray[np.int64], max_levels: float
) -> NDArray[np.bool_]:
    """Whether they show the same, and are not `_are_apart`."""
    first_PF, second_PF = rows.levels_NF[first_P], rows.levels_NF[second_P]
    differences_PF = np.maximum(first_PF, second_PF) - np.minimum(first_PF, second_PF)
    # Counting is ten times as fast as the percentile, and tells most of those that are not near.
    is_copy_P = (differences_PF > max_levels).sum(axis=1) <= _NUM_ABOVE
    _, is_copy_P[is_copy_P] = _compared(first_PF[is_copy_P], second_PF[is_copy_P], max_levels)
    is_of_one_P = rows.sources_N[first_P] == rows.sources_N[second_P]
    is_late_P = np.abs(rows.moments_N[first_P] - rows.moments_N[second_P]) > _MOST_APART
    return is_copy_P & ~(is_of_one_P & is_late_P)


def _nothing() -> Ordered:
    none_N = np.zeros(0, np.int64)
    return Ordered(none_N, none_N, np.zeros((0, FINGERPRINT_BYTES), np.uint8), none_N, np.zeros(0))


def _groups(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Rows that pairs join, directly or by way of others."""
    owner: dict[int, int] = {}

    def root(row: int) -> int:
        while owner.setdefault(row, row) != row:
            owner[row] = owner[owner[row]]
            row = owner[row]
        return row

    for earlier, later in pairs:
        first, second = sorted((root(earlier), root(later)))
        owner[second] = first
    groups: dict[int, list[int]] = {}
    for row in owner:
        groups.setdefault(root(row), []).append(row)
    return list(groups.values())


def _levels(fingerprints: Sequence[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(fingerprints), np.uint8).reshape(-1, FINGERPRINT_BYTES)


def _distances(first_PF: NDArray[np.uint8], second_PF: NDArray[np.uint8]) -> NDArray[np.float64]:
    differences_PF = np.abs(first_PF.astype(np.int16) - second_PF.astype(np.int16))
    return np.percentile(differences_PF, _PERCENTILE, axis=1) if len(differences_PF) else np.zeros(0)


def _compared(
    first_PF: NDArray[np.uint8], second_PF: NDArray[np.uint8], max_levels: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Distances, and whether the clips show the same: near colours that change alike."""
    distances_P = _distances(first_PF, second_PF)
    moved_PF, also_PF = _movement(first_PF), _movement(second_PF)
    between_P, own_P = ((moved_PF - also_PF) ** 2).sum(axis=1), (moved_PF**2).sum(axis=1) + (also_PF**2).sum(axis=1)
    move_alike_P = between_P <= _MOVING_NOISE * FINGERPRINT_BYTES + _MOVING_SHARE * own_P
    return distances_P, (distances_P <= max_levels) & move_alike_P


def _movement(levels_PF: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What differs from the mean over time."""
    levels_PTX = levels_PF.astype(np.float32).reshape(-1, _NUM_FRAMES, FINGERPRINT_BYTES // _NUM_FRAMES)
    return (levels_PTX - levels_PTX.mean(axis=1, keepdims=True)).reshape(levels_PF.shape)


@cache
def _projections() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Directions of length 1, the first one for the rank, offsets of the cells, and odd factors: never other ones."""
    rng = np.random.RandomState(20240123)  # the one stream that numpy promises never to change
    num = NUM_KEYS * _PROJECTIONS_PER_KEY
    directions_FD = rng.standard_normal((FINGERPRINT_BYTES, 1 + num))
    directions_FD /= np.linalg.norm(directions_FD, axis=0)
    return directions_FD, rng.random_sample(num), rng.randint(-(2**62), 2**62, num, np.int64) | 1
