"""Near duplicates: what is the same video once more, and what only looks like it."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from demo.filter_quality import find_copies
from pipelines.curation.near_duplicates import (
    FINGERPRINT_BYTES,
    Ordered,
    distance,
    fingerprint,
    near_hash,
    near_pairs,
    resolve,
)
from pipelines.video_file import read_video

Frames = NDArray[np.uint8]
MAX_LEVELS = 8.0


def test_a_fingerprint_has_384_bytes_whatever_the_size_and_length(moving: Callable[..., Frames]) -> None:
    assert len(fingerprint(moving(16))) == len(fingerprint(moving(80, 128, 128))) == FINGERPRINT_BYTES == 384


@pytest.mark.parametrize(
    ("codec", "options", "scale"),
    [("libx264", {"crf": "34"}, 1.0), ("libx265", {"crf": "32", "x265-params": "log-level=none"}, 0.75)],
)
def test_a_video_encoded_anew_and_rescaled_is_near_itself(
    codec: str,
    options: dict[str, str],
    scale: float,
    moving: Callable[..., Frames],
    video_writer: Callable[..., Path],
    tmp_path: Path,
) -> None:
    frames = moving(24, 96, 128)
    small = np.stack([cv2.resize(frame, (int(128 * scale), int(96 * scale))) for frame in frames])
    again = read_video(video_writer(tmp_path / "again.mp4", small, Fraction(24), codec, options)).frames_THWC
    assert distance(fingerprint(frames), fingerprint(again)) < MAX_LEVELS
    first, second = near_hash(fingerprint(frames)), near_hash(fingerprint(again))
    assert set(first.keys) & set(second.keys)
    assert abs(first.rank - second.rank) < MAX_LEVELS * 20


def test_another_path_over_the_same_background_is_not_near(moving: Callable[..., Frames]) -> None:
    frames = moving(24)
    assert distance(fingerprint(frames), fingerprint(frames[::-1])) > MAX_LEVELS


def test_of_near_clips_the_first_is_kept_and_named() -> None:
    prints = [_print(1), _print(2), _print(1, noise=2), _print(2, noise=2), _print(1, noise=1)]
    assert find_copies(prints, MAX_LEVELS) == [(2, 0), (3, 1), (4, 0)]


def test_a_copy_tells_how_far_it_is_from_its_original() -> None:
    prints = {0: _print(1), 1: _print(1, noise=2)}
    assert [copy.levels for copy in resolve([(0, 1)], prints, MAX_LEVELS)] == [distance(prints[0], prints[1])]


def test_a_clip_near_a_copy_alone_is_kept() -> None:
    first = np.full(FINGERPRINT_BYTES, 100, np.uint8)
    prints = {row: (first + shift).tobytes() for row, shift in enumerate((0, 6, 12))}
    copies = resolve([(0, 1), (1, 2)], prints, MAX_LEVELS)
    assert [(copy.row, copy.original) for copy in copies] == [(1, 0)], "12 levels from the only clip that is kept"


def test_of_a_thousand_copies_one_is_kept() -> None:
    assert find_copies([_print(1)] * 1000, MAX_LEVELS) == [(copy, 0) for copy in range(1, 1000)]


def test_batches_of_rows_give_the_pairs_of_all_rows_at_once() -> None:
    prints = [_print(seed // 3, noise=seed % 3) for seed in range(60)]
    whole = Ordered(np.arange(60), np.zeros(60, np.int64), _levels(prints))
    parts = [Ordered(*(column[start : start + 7] for column in whole)) for start in range(0, 60, 7)]
    assert sorted(near_pairs(parts, MAX_LEVELS)) == sorted(near_pairs([whole], MAX_LEVELS))
    assert len(near_pairs([whole], MAX_LEVELS)) == 60


def test_rows_of_different_keys_are_not_compared() -> None:
    prints = [_print(1)] * 2
    assert near_pairs([Ordered(np.arange(2), np.asarray([7, 8]), _levels(prints))], MAX_LEVELS) == []


def test_no_clips_have_no_copies() -> None:
    assert find_copies([], MAX_LEVELS) == []


def test_copies_are_found_among_thousands_and_nothing_else_is() -> None:
    originals = [_print(seed) for seed in range(2000)]
    again = [_print(seed, noise=3) for seed in range(0, 2000, 4)]
    copies = find_copies(originals + again, MAX_LEVELS)
    right = sum(original == (copy - 2000) * 4 for copy, original in copies)
    assert right == len(copies), "a random clip was taken for a copy"
    assert right >= 0.98 * len(again)


def test_keys_are_the_same_in_every_process_and_release() -> None:
    """They are stored: a change of one digit would hide every copy of a clip that is in the catalog already."""
    levels = (np.arange(FINGERPRINT_BYTES) * 7 % 256).astype(np.uint8)
    keys, rank = near_hash(levels.tobytes())
    assert keys == KEYS
    assert rank == RANK


KEYS = [
    -2555522832325909420,
    -1550105988505282711,
    -185354346640573047,
    5721111513136461328,
    -2992183967648723509,
    -4946331070185258353,
]
RANK = 42.045


def _levels(prints: Sequence[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(prints), np.uint8).reshape(-1, FINGERPRINT_BYTES)


def _print(seed: int, noise: int = 0) -> bytes:
    levels = np.random.default_rng(seed).integers(8, 248, FINGERPRINT_BYTES)
    shift = np.random.default_rng([seed, noise]).integers(-noise, noise + 1, FINGERPRINT_BYTES)
    return (levels + shift).astype(np.uint8).tobytes()
