"""Near duplicates: the same video once more, encoded anew or rescaled, found by a perceptual hash over its frames.

A fingerprint is the coarse colour of a few frames. Encoding moves it by a level or two, another video by dozens. Which
fingerprints to compare at all is told by locality-sensitive hashing with Gaussian projections (Datar et al. 2004): the
work grows with the number of clips, not with its square.

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
_NEIGHBOURS = 4


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


class Ordered(NamedTuple):
    """Rows in the order of a key and their rank."""

    numbers_N: NDArray[np.int64]
    """Of near rows the one with the smaller number is kept."""
    keys_N: NDArray[np.int64]
    levels_NF: NDArray[np.uint8]


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

    Each row is compared with those of the same key among the four that follow it: near clips have near ranks, so they
    stand side by side however many others share their key, and a million copies cost four million comparisons.

    Args:
        ordered: Batches of rows; only a few rows are held from one to the next.
        max_levels: Distance up to which two clips are the same.
    """
    pairs: list[tuple[int, int]] = []
    held = Ordered(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, FINGERPRINT_BYTES), np.uint8))
    for batch in ordered:
        rows = _joined(held, batch)
        for step in range(1, _NEIGHBOURS + 1):
            # The held rows were compared with each other before.
            first_P = np.arange(max(0, len(held.numbers_N) - step), len(rows.numbers_N) - step)
            first_P = first_P[rows.keys_N[first_P] == rows.keys_N[first_P + step]]
            is_near_P = _distances(rows.levels_NF[first_P], rows.levels_NF[first_P + step]) <= max_levels
            near_P = first_P[is_near_P]
            found_P2 = np.sort(np.stack((rows.numbers_N[near_P], rows.numbers_N[near_P + step]), axis=1), axis=1)
            pairs += [(int(earlier), int(later)) for earlier, later in found_P2]
        held = Ordered(rows.numbers_N[-_NEIGHBOURS:], rows.keys_N[-_NEIGHBOURS:], rows.levels_NF[-_NEIGHBOURS:])
    return pairs


def resolve(pairs: Iterable[tuple[int, int]], fingerprints: Mapping[int, bytes], max_levels: float) -> list[Copy]:
    """Which rows are copies of which, so that no two rows of what is left are known to be near.

    Of a group that hangs together the earliest row is kept, all that are near it are its copies, and the rest goes on
    in the same way: a row that is near a copy alone is kept.
    """
    copies: list[Copy] = []
    for group in _groups(pairs):
        left = np.sort(np.asarray(group))
        while len(left):
            levels_NF = _levels([fingerprints[int(row)] for row in left])
            distances_N = _distances(levels_NF[:1], levels_NF)
            is_near_N = distances_N <= max_levels
            is_near_N[0] = False
            near = zip(left[is_near_N], distances_N[is_near_N], strict=True)
            copies += [Copy(int(row), int(left[0]), float(levels)) for row, levels in near]
            left = left[1:][~is_near_N[1:]]
    return sorted(copies)


def _joined(first: Ordered, second: Ordered) -> Ordered:
    return Ordered(
        np.concatenate((first.numbers_N, second.numbers_N)),
        np.concatenate((first.keys_N, second.keys_N)),
        np.concatenate((first.levels_NF, second.levels_NF)),
    )


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


@cache
def _projections() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Directions of length 1, the first one for the rank, offsets of the cells, and odd factors: never other ones."""
    rng = np.random.RandomState(20240123)  # the one stream that numpy promises never to change
    num = NUM_KEYS * _PROJECTIONS_PER_KEY
    directions_FD = rng.standard_normal((FINGERPRINT_BYTES, 1 + num))
    directions_FD /= np.linalg.norm(directions_FD, axis=0)
    return directions_FD, rng.random_sample(num), rng.randint(-(2**62), 2**62, num, np.int64) | 1
