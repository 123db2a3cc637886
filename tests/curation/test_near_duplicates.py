"""Near duplicates: what is the same video once more, and what only looks like it."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.curation.near_duplicates import FINGERPRINT_BYTES, distance, find_copies, fingerprint, near_keys
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
    keys = near_keys([fingerprint(frames), fingerprint(again)])
    assert (keys[0] == keys[1]).any()


def test_another_path_over_the_same_background_is_not_near(moving: Callable[..., Frames]) -> None:
    frames = moving(24)
    assert distance(fingerprint(frames), fingerprint(frames[::-1])) > MAX_LEVELS


def test_of_near_clips_the_first_is_kept_and_named() -> None:
    prints = [_print(1), _print(2), _print(1, noise=2), _print(2, noise=2), _print(1, noise=1)]
    copies = find_copies(prints, near_keys(prints), MAX_LEVELS)
    assert [(copy.row, copy.original) for copy in copies] == [(2, 0), (3, 1), (4, 0)]
    assert copies[0].levels == distance(prints[0], prints[2])


def test_a_clip_near_a_copy_alone_is_kept() -> None:
    first = np.full(FINGERPRINT_BYTES, 100, np.uint8)
    prints = [(first + shift).tobytes() for shift in (0, 6, 12)]
    same_key = np.zeros((3, 6), np.int64)
    copies = find_copies(prints, same_key, MAX_LEVELS)
    assert [(copy.row, copy.original) for copy in copies] == [(1, 0)], "12 levels from the only clip that is kept"


def test_each_row_of_a_large_group_is_compared_at_most_twice() -> None:
    prints = [_print(1, noise=0)] * 5000
    copies = find_copies(prints, near_keys(prints), MAX_LEVELS)
    assert [copy.row for copy in copies] == list(range(1, 5000))
    assert {copy.original for copy in copies} == {0}


def test_no_clips_have_no_copies() -> None:
    assert find_copies([], near_keys([]), MAX_LEVELS) == []


def test_copies_are_found_among_thousands_and_nothing_else_is() -> None:
    originals = [_print(seed) for seed in range(3000)]
    again = [_print(seed, noise=3) for seed in range(0, 3000, 3)]
    prints = originals + again
    copies = find_copies(prints, near_keys(prints), MAX_LEVELS)
    right = sum(copy.original == (copy.row - 3000) * 3 for copy in copies)
    assert right == len(copies), "a random clip was taken for a copy"
    assert right >= 0.98 * len(again)


def test_keys_are_the_same_in_every_process_and_release() -> None:
    """They are stored: a change of one digit would hide every copy of a clip that is in the catalog already."""
    levels = (np.arange(FINGERPRINT_BYTES) * 7 % 256).astype(np.uint8)
    assert near_keys([levels.tobytes()]).tolist() == [
        [
            -4430518731471987100,
            -4324095465069721155,
            -4457678226158781532,
            -7256027038925828193,
            5875944579435091601,
            8870089985509179042,
        ]
    ]


def _print(seed: int, noise: int = 0) -> bytes:
    levels = np.random.default_rng(seed).integers(8, 248, FINGERPRINT_BYTES)
    shift = np.random.default_rng([seed, noise]).integers(-noise, noise + 1, FINGERPRINT_BYTES)
    return (levels + shift).astype(np.uint8).tobytes()
