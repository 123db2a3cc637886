"""Near duplicates: what is the same video once more, and what only looks like it."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from demo.filter_quality import find_copies
from pipelines.curation.catalog import Catalog
from pipelines.curation.near_duplicates import (
    FINGERPRINT_BYTES,
    Ordered,
    Shot,
    distance,
    fingerprint,
    near_hash,
    near_pairs,
    resolve,
)
from pipelines.curation.summary import RefreshSummary
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
    prints = _print(1), _print(1, noise=2)
    assert [copy.levels for copy in resolve([(0, 1)], _shots(*prints), MAX_LEVELS)] == [distance(*prints)]


def test_a_clip_near_a_copy_alone_is_kept() -> None:
    first = np.full(FINGERPRINT_BYTES, 100, np.uint8)
    shots = _shots(*((first + shift).tobytes() for shift in (0, 6, 12)))
    copies = resolve([(0, 1), (1, 2)], shots, MAX_LEVELS)
    assert [(copy.row, copy.original) for copy in copies] == [(1, 0)], "12 levels from the only clip that is kept"


def test_of_a_thousand_copies_one_is_kept() -> None:
    assert find_copies([_print(1)] * 1000, MAX_LEVELS) == [(copy, 0) for copy in range(1, 1000)]


def test_batches_of_rows_give_the_pairs_of_all_rows_at_once() -> None:
    prints = [_print(seed // 3, noise=seed % 3) for seed in range(60)]
    whole = _ordered(np.zeros(60, np.int64), prints)
    parts = [Ordered(*(column[start : start + 7] for column in whole)) for start in range(0, 60, 7)]
    assert sorted(near_pairs(parts, MAX_LEVELS)) == sorted(near_pairs([whole], MAX_LEVELS))
    assert len(near_pairs([whole], MAX_LEVELS)) == 60


def test_a_copy_is_found_among_thousands_on_the_same_ground() -> None:
    """All share their keys, and their ranks are near: what moves is small."""
    originals = [fingerprint(_small_thing(seed)) for seed in range(4000)]
    again = [_noisy(own, seed) for seed, own in enumerate(originals[::8])]
    copies = find_copies(originals + again, MAX_LEVELS)
    assert sum(copy >= 4000 for copy, _ in copies) >= 0.98 * len(again)


def test_different_parts_of_one_source_are_no_copies_and_parts_that_overlap_are() -> None:
    own = _print(1)
    keys, levels = np.zeros(4, np.int64), np.frombuffer(own * 4, np.uint8).reshape(4, -1)
    moments = np.asarray([0.0, 0.4, 1.0, 0.0])
    rows = Ordered(np.arange(4), keys, levels, np.asarray([7, 7, 7, 8]), moments)
    shots = {
        row: Shot(own, source, moment) for row, (source, moment) in enumerate(zip((7, 7, 7, 8), moments, strict=True))
    }
    pairs = near_pairs([rows], MAX_LEVELS)
    assert sorted(pairs) == [(0, 1), (0, 3), (1, 3), (2, 3)]
    assert [(copy.row, copy.original) for copy in resolve(pairs, shots, MAX_LEVELS)] == [(1, 0), (3, 0)]


def test_two_moments_before_a_camera_that_stands_still_are_no_copies() -> None:
    early, late = (fingerprint(_still_camera(seed)) for seed in (1, 2))
    assert distance(early, late) < MAX_LEVELS
    assert find_copies([early, late], MAX_LEVELS) == []
    assert find_copies([early, _noisy(early), late], MAX_LEVELS) == [(1, 0)]


def test_rows_of_different_keys_are_not_compared() -> None:
    prints = [_print(1)] * 2
    assert near_pairs([_ordered(np.asarray([7, 8]), prints)], MAX_LEVELS) == []


def test_a_copy_takes_the_place_of_all_that_it_copied_when_they_leave(
    clips: Path,
    tmp_path: Path,
    moving: Callable[..., Frames],
    video_writer: Callable[..., Path],
    manifest_writer: Callable[..., Path],
    refresh_here: Callable[..., RefreshSummary],
) -> None:
    video_writer(clips / "c.mp4", moving(72), 24, options={"crf": "18"})
    again = video_writer(clips / "a.mp4", moving(72), 24, options={"crf": "28"})
    (clips / "b.mp4").write_bytes(again.read_bytes())
    rows = [{"video": f"{name}.mp4", "caption": "A yellow square"} for name in "cab"]
    refresh_here(manifest_writer(clips / "three.csv", rows), tmp_path / "data")
    refresh_here(manifest_writer(clips / "one.csv", rows[2:]), tmp_path / "data")
    assert _verdicts(tmp_path / "data") == {"c": "removed", "a": "removed", "b": "kept"}


def _verdicts(dataset: Path) -> dict[str, str]:
    rows = Catalog.open(dataset).rows(["uri", "verdict"]).to_pylist()
    return {Path(row["uri"]).stem: row["verdict"] for row in rows}


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


def _ordered(keys: NDArray[np.int64], prints: Sequence[bytes]) -> Ordered:
    """Rows of as many sources."""
    levels = np.frombuffer(b"".join(prints), np.uint8).reshape(-1, FINGERPRINT_BYTES)
    return Ordered(np.arange(len(prints)), keys, levels, np.arange(len(prints)), np.zeros(len(prints)))


def _shots(*prints: bytes) -> dict[int, Shot]:
    return {row: Shot(own, row, 0.0) for row, own in enumerate(prints)}


def _print(seed: int, noise: int = 0) -> bytes:
    levels = np.random.default_rng(seed).integers(8, 248, FINGERPRINT_BYTES)
    shift = np.random.default_rng([seed, noise]).integers(-noise, noise + 1, FINGERPRINT_BYTES)
    return (levels + shift).astype(np.uint8).tobytes()


def _small_thing(seed: int) -> Frames:
    """Eight frames in which a disc of its own colour and way crosses a plain ground that all share."""
    rng = np.random.default_rng(seed)
    frames = np.full((8, 32, 32, 3), (200, 200, 190), np.uint8)
    start, way, radius = rng.uniform(6, 26, 2), rng.uniform(-2, 2, 2), int(rng.integers(3, 6))
    color = rng.integers(0, 255, 3).tolist()
    for index, frame_HWC in enumerate(frames):
        cv2.circle(frame_HWC, np.rint(start + index * way).astype(int).tolist(), radius, color, -1)
    return frames


def _still_camera(seed: int) -> Frames:
    """Eight frames of a face that moves a little before a textured ground that all share."""
    texture = np.random.default_rng(0).integers(40, 200, (6, 6, 3), dtype=np.uint8)
    ground, rng = cv2.resize(texture, (128, 128), interpolation=cv2.INTER_CUBIC), np.random.default_rng(seed)
    frames = np.stack([ground] * 8)
    for frame_HWC in frames:
        left, top = 64 + int(rng.integers(-2, 3)), 70 + int(rng.integers(-2, 3))
        cv2.ellipse(frame_HWC, (left, top), (15, 22), 0, 0, 360, (200, 160, 130), -1)
    return frames


def _noisy(own: bytes, seed: int = 0) -> bytes:
    """As encoding leaves it: most values a level off, and all of them a little lighter or darker."""
    rng, levels = np.random.default_rng([seed, 3]), np.frombuffer(own, np.uint8)
    moved = levels + rng.normal(rng.normal(0, 1.5), 0.55, len(levels))
    return np.clip(np.rint(moved), 0, 255).astype(np.uint8).tobytes()
