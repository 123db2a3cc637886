"""Each flaw is told from good clips, and by its own verdict."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.curation.config import FilterConfig
from pipelines.curation.filters import RULES, judge, measure
from pipelines.video_file import encode_mp4, read_video

Frames = NDArray[np.uint8]


def verdict_of(frames_THWC: Frames) -> str:
    rejection = judge(measure(frames_THWC), FilterConfig())
    return rejection.verdict if rejection else "kept"


def stored(frames_THWC: Frames) -> Frames:
    """As a codec leaves them."""
    return read_video(encode_mp4(frames_THWC, 8, crf=30)).frames_THWC


@pytest.fixture(params=[(16, 32), (80, 128)], ids=["32px", "128px"])
def good(request: pytest.FixtureRequest) -> Frames:
    """A bright square that goes to and fro over a texture."""
    num_frames, size = request.param
    return draw(num_frames, size, seed=0)


def draw(num_frames: int, size: int, seed: int) -> Frames:
    texture = np.random.default_rng(seed).integers(40, 160, (8, 8, 3), dtype=np.uint8)
    frames = np.stack([cv2.resize(texture, (size, size), interpolation=cv2.INTER_CUBIC)] * num_frames)
    side, path = size // 4, 3 * size // 4
    for index, frame_HWC in enumerate(frames):
        left = path - abs(index * size // 32 % (2 * path) - path)
        frame_HWC[path // 2 : path // 2 + side, left : left + side] = (250, 240, 40)
    return frames


def test_a_lively_clip_is_kept(good: Frames) -> None:
    assert verdict_of(stored(good)) == "kept"


def test_a_small_bright_shape_that_creeps_over_black_is_kept() -> None:
    frames = np.zeros((16, 32, 32, 3), np.uint8)
    for index, frame_HWC in enumerate(frames):
        left = 8 + index // 4
        frame_HWC[12:18, left : left + 6] = (20, 20, 250)
    assert verdict_of(stored(frames)) == "kept"


def test_one_picture_repeated_is_still_though_the_codec_adds_noise(good: Frames) -> None:
    noise = np.random.default_rng(0).normal(0, 3, good.shape)
    assert verdict_of(stored(np.clip(good[:1] + noise, 0, 255).astype(np.uint8))) == "still"


def test_a_dim_clip_is_too_dark_and_a_black_one_too_dark_rather_than_still(good: Frames) -> None:
    assert verdict_of(stored((good * 0.1).astype(np.uint8))) == "too_dark"
    assert verdict_of(np.zeros_like(good)) == "too_dark"


def test_two_scenes_in_one_clip_are_a_cut(good: Frames) -> None:
    frames, at = good.copy(), len(good) // 2
    frames[at:] = 255 - draw(len(good), good.shape[1], seed=7)[at:]
    assert verdict_of(stored(frames)) == "cut"


def test_a_shape_that_sweeps_over_black_is_not_letterboxed(good: Frames) -> None:
    frames, third = np.zeros_like(good), good.shape[1] // 3
    for index, frame_HWC in enumerate(frames):
        left = index * 2 * third // len(frames)
        frame_HWC[third:-third, left : left + third] = (0, 250, 0)
    assert verdict_of(stored(frames)) == "kept"


def test_a_flash_and_a_low_source_rate_are_no_cut(good: Frames) -> None:
    flash = good.copy()
    flash[len(good) // 2] = 255
    assert verdict_of(flash) == "kept"
    assert verdict_of(np.repeat(good[::2], 2, axis=0)) == "kept"


@pytest.mark.parametrize("axis", [1, 2])
def test_black_bars_are_letterboxed(good: Frames, axis: int) -> None:
    frames, bar = good.copy(), good.shape[1] // 8
    first, last = [slice(None)] * 4, [slice(None)] * 4
    first[axis], last[axis] = slice(0, bar), slice(-bar, None)
    frames[tuple(first)] = frames[tuple(last)] = 0
    assert verdict_of(stored(frames)) == "letterboxed"
    assert measure(frames)["bars"] == pytest.approx(0.25, abs=0.01)


def test_a_defocused_clip_is_blurry(good: Frames) -> None:
    sigma = good.shape[1] / 12
    frames = np.stack([cv2.GaussianBlur(frame, (0, 0), sigma).astype(np.uint8) for frame in good])
    assert verdict_of(stored(frames)) == "blurry"


@pytest.mark.parametrize("spread", [1, 9, 70])
def test_brightness_and_sharpness_are_numpys_percentiles_of_levels_and_of_steps(spread: float) -> None:
    noise = np.random.default_rng(0).normal((90, 120, 150), (spread, spread / 2, spread / 3), (1, 24, 24, 3))
    frames = np.clip(noise, 0, 255).astype(np.uint8)
    low_C, high_C = np.percentile(frames[0], (0.5, 99.5), axis=(0, 1))
    red_HW = frames[0, ..., 0].astype(int)
    steps = np.abs(np.concatenate((np.diff(red_HW, axis=0).ravel(), np.diff(red_HW, axis=1).ravel())))
    level_range = (high_C - low_C)[0]
    steepest = min(1.0, np.percentile(steps, 99.8) / level_range) if level_range >= 16 else 1.0
    assert measure(frames)["sharpness"] == pytest.approx(steepest, abs=1e-12)
    brightest = np.percentile(frames.max(axis=-1), 99, method="inverted_cdf")
    assert measure(frames)["brightness"] == brightest


def test_a_threshold_of_null_judges_nothing(good: Frames) -> None:
    off = FilterConfig(**{rule.threshold: None for rule in RULES})
    assert judge(measure(np.zeros_like(good)), off) is None


def test_the_reason_tells_measure_and_threshold(good: Frames) -> None:
    rejection = judge(measure(np.zeros_like(good)), FilterConfig())
    assert rejection is not None
    assert rejection.reason == "brightness 0.000, at least 48"
