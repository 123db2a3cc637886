"""Near duplicates: the same video once more, encoded anew or rescaled, found by a perceptual hash over its frames.

A fingerprint is the coarse colour of a few frames. Encoding moves it by a level or two, another video by dozens. Which
fingerprints to compare at all is told by locality-sensitive hashing with Gaussian projections (Datar et al. 2004): two
rows are compared when one of their keys is the same, so the work grows with the number of clips, not with its square.

Shape letters: T frames in time, H height, W width, C channels (RGB), K frames looked at, F length of a fingerprint,
N clips, P pairs, M keys of a clip.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

_NUM_FRAMES, _GRID_PX = 8, 4
FINGERPRINT_BYTES = _NUM_FRAMES * _GRID_PX * _GRID_PX * 3
NUM_KEYS = 6
_PROJECTIONS_PER_KEY = 10
_CELL_LEVELS = 32.0
_PERCENTILE = 98
_PAIRS_AT_ONCE = 65536


class Copy(NamedTuple):
    """A clip that shows what an earlier one shows."""

    row: int
    original: int
    """The row that is kept."""
    levels: float
    """Their distance."""


def fingerprint(frames_THWC: NDArray[np.uint8]) -> bytes:
    """Mean colours of a 4 x 4 grid in 8 evenly spaced frames: 384 bytes.

    Args:
        frames_THWC: (T, H, W, 3) uint8 RGB.
    """
    chosen = np.linspace(0, len(frames_THWC) - 1, _NUM_FRAMES).round().astype(int)
    size = (_GRID_PX, _GRID_PX)
    return b"".join(cv2.resize(frames_THWC[i], size, interpolation=cv2.INTER_AREA).tobytes() for i in chosen)


def near_keys(fingerprints: Sequence[bytes]) -> NDArray[np.int64]:
    """(N, 6) keys: near fingerprints share at least one of theirs (99 % and more do), others hardly ever.

    A key joins 10 projections on random directions, each cut into cells of 32 levels.
    """
    if not fingerprints:
        return np.zeros((0, NUM_KEYS), np.int64)
    levels_NF = np.frombuffer(b"".join(fingerprints), np.uint8).reshape(-1, FINGERPRINT_BYTES).astype(np.float64)
    directions_FD, offsets_D, weights_D = _projections()
    cells_ND = np.floor(levels_NF @ directions_FD / _CELL_LEVELS + offsets_D).astype(np.int64)
    # Sums of products modulo 2**64: a hash of each group of cells.
    return (cells_ND * weights_D).reshape(len(cells_ND), NUM_KEYS, _PROJECTIONS_PER_KEY).sum(axis=2)


def distance(first: bytes, second: bytes) -> float:
    """Levels, 0..255, that only 2 % of the coarse colours of two clips differ by more than."""
    pair = np.frombuffer(first + second, np.uint8).reshape(2, 1, FINGERPRINT_BYTES)
    return float(_distances(pair[0], pair[1])[0])


def find_copies(fingerprints: Sequence[bytes], keys_NM: NDArray[np.int64], max_levels: float) -> list[Copy]:
    """Rows that are near an earlier row which is kept itself.

    In a group of rows with the same key each is compared with the group's first row and with the one before it, so a
    clip of which there are a million copies costs two million comparisons.

    Args:
        fingerprints: N, in the order of precedence: of near ones the first is kept.
        keys_NM: Their `near_keys`.
        max_levels: Distance up to which two clips are the same.
    """
    if not fingerprints:
        return []
    levels_NF = np.frombuffer(b"".join(fingerprints), np.uint8).reshape(-1, FINGERPRINT_BYTES)
    near: dict[int, list[tuple[float, int]]] = {}
    for earlier_P, later_P in _in_parts(_candidates(keys_NM)):
        distances_P = _distances(levels_NF[earlier_P], levels_NF[later_P])
        for pair in np.flatnonzero(distances_P <= max_levels):
            near.setdefault(int(later_P[pair]), []).append((float(distances_P[pair]), int(earlier_P[pair])))
    copies: dict[int, Copy] = {}
    for row in sorted(near):
        kept = [(levels, original) for levels, original in near[row] if original not in copies]
        if kept:
            levels, original = min(kept)
            copies[row] = Copy(row, original, levels)
    return list(copies.values())


def _candidates(keys_NM: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs (earlier, later) of rows to compare, each once."""
    pairs: list[NDArray[np.int64]] = []
    for keys_N in keys_NM.T:
        order = np.argsort(keys_N, kind="stable")
        is_same = keys_N[order[1:]] == keys_N[order[:-1]]
        starts = np.flatnonzero(np.concatenate(([True], ~is_same)))
        firsts = np.repeat(order[starts], np.diff(np.append(starts, len(order))))
        later = order[1:][is_same]
        pairs += [np.stack((firsts[1:][is_same], later)), np.stack((order[:-1][is_same], later))]
    earlier_P, later_P = np.unique(np.concatenate(pairs, axis=1), axis=1)
    return earlier_P, later_P


def _in_parts(
    pairs: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    earlier_P, later_P = pairs
    for start in range(0, len(earlier_P), _PAIRS_AT_ONCE):
        yield earlier_P[start : start + _PAIRS_AT_ONCE], later_P[start : start + _PAIRS_AT_ONCE]


def _distances(first_PF: NDArray[np.uint8], second_PF: NDArray[np.uint8]) -> NDArray[np.float64]:
    differences_PF = np.abs(first_PF.astype(np.int16) - second_PF.astype(np.int16))
    return np.percentile(differences_PF, _PERCENTILE, axis=1)


@cache
def _projections() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Directions of length 1 (F, D), offsets of the cells, and odd factors: the same in every process and release."""
    rng = np.random.RandomState(20240123)  # the one stream that numpy promises never to change
    num = NUM_KEYS * _PROJECTIONS_PER_KEY
    directions_FD = rng.standard_normal((FINGERPRINT_BYTES, num))
    directions_FD /= np.linalg.norm(directions_FD, axis=0)
    return directions_FD, rng.random_sample(num), rng.randint(-(2**62), 2**62, num, np.int64) | 1
