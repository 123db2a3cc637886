"""The read-out of colour, shape and motion, on rendered clips of every combination."""

import itertools
import random

import numpy as np
import pytest
from numpy.typing import NDArray

from demo.readout import ReadOut, read_out
from demo.render import render
from demo.scene import COLORS, MOTIONS, SHAPES, draw_scene
from pipelines.video_file import encode_mp4, read_video

TIMES_S = [index / 8 for index in range(16)]
COMBINATIONS = list(itertools.product(SHAPES, COLORS, MOTIONS))


def clips(side_px: int, seed: int = 0) -> list[tuple[ReadOut, NDArray[np.uint8]]]:
    rng = random.Random(seed)
    drawn = [draw_scene(rng, *combination) for combination in COMBINATIONS]
    return [(ReadOut(s.color, s.shape, s.motion), render(s, TIMES_S, side_px, side_px)) for s in drawn]


def shares(pairs: list[tuple[ReadOut, ReadOut]]) -> ReadOut:
    """Share of clips whose colour, shape and motion were read as they are."""
    return ReadOut(*np.mean([[a == b for a, b in zip(*pair, strict=True)] for pair in pairs], axis=0))


@pytest.mark.parametrize("side_px", [32, 64])
def test_rendered_clips_of_all_192_combinations_are_read_right(side_px: int) -> None:
    right = shares([(truth, read_out(frames)) for truth, frames in clips(side_px)])
    assert right.color >= 0.99
    assert right.shape >= 0.97
    assert right.motion >= 0.97


def test_larger_frames_are_read_as_well() -> None:
    right = shares([(truth, read_out(frames)) for truth, frames in clips(128)[::3]])
    assert min(right) >= 0.97


@pytest.mark.parametrize(("crf", "least_shape"), [(18, 0.97), (23, 0.93)])
def test_clips_of_32_pixels_survive_h264(crf: int, least_shape: float) -> None:
    coded = [(truth, read_video(encode_mp4(frames, 8, crf)).frames_THWC) for truth, frames in clips(32)[::3]]
    right = shares([(truth, read_out(frames)) for truth, frames in coded])
    assert right.color >= 0.99
    assert right.shape >= least_shape
    assert right.motion >= 0.97


def test_a_still_clip_has_no_motion_but_a_colour_and_a_shape() -> None:
    for truth, frames in clips(32)[::20]:
        assert read_out(np.repeat(frames[:1], 16, axis=0)) == truth._replace(motion=None)


def test_a_clip_played_backwards_moves_the_other_way() -> None:
    opposite = {name: other for name, other in itertools.product(MOTIONS, MOTIONS) if is_opposite(name, other)}
    for truth, frames in clips(32)[::20]:
        assert read_out(frames[::-1]).motion == opposite[str(truth.motion)]


def is_opposite(name: str, other: str) -> bool:
    return bool(np.allclose(np.add(MOTIONS[name], MOTIONS[other]), 0))


def test_a_clip_whose_frames_are_in_random_order_has_no_clear_motion() -> None:
    rng = np.random.default_rng(0)
    chosen = clips(32)[::4]
    wrong = [read_out(frames[rng.permutation(16)]).motion != truth.motion for truth, frames in chosen]
    assert np.mean(wrong) > 0.6


@pytest.mark.parametrize("level", [0, 128, 255])
def test_an_empty_clip_shows_nothing(level: int) -> None:
    assert read_out(np.full((16, 32, 32, 3), level, np.uint8)) == ReadOut(None, None, None)


def test_faint_noise_shows_nothing() -> None:
    noise = np.random.default_rng(0).normal(128, 3, (16, 32, 32, 3)).clip(0, 255).astype(np.uint8)
    assert read_out(noise) == ReadOut(None, None, None)


def test_strong_noise_shows_no_colour_and_shape() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (16, 32, 32, 3), dtype=np.uint8)
    seen = read_out(noise)
    assert (seen.color, seen.shape) == (None, None)


def test_a_grey_shape_has_no_colour() -> None:
    frames = np.full((4, 32, 32, 3), 60, np.uint8)
    frames[:, 10:22, 10:22] = 200
    seen = read_out(frames)
    assert (seen.color, seen.shape) == (None, "square")
