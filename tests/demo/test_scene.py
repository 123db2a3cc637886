"""Scenes, their captions and their pixels."""

import itertools
import random

import numpy as np
import pytest

from demo.captions import caption, vocabulary, words
from demo.fidelity import said
from demo.frames import degrade, draw_frames
from demo.render import render, render_each
from demo.scene import BACKGROUNDS, COLORS, MOTIONS, MOVING_S, REACH, SHAPES, Scene, draw_scene


def scenes(count: int, seed: int = 0) -> list[Scene]:
    rng = random.Random(seed)
    return [draw_scene(rng) for _ in range(count)]


def test_there_are_four_shapes_six_colours_and_eight_motions() -> None:
    assert (len(SHAPES), len(COLORS), len(MOTIONS)) == (4, 6, 8)


def test_no_shape_ever_leaves_the_square() -> None:
    for scene in scenes(2000):
        for time_s in (0.0, 0.7, 2.0, 4.0, 20.0):
            assert max(map(abs, scene.position(time_s))) + REACH * scene.diameter <= 0.5


def test_every_shape_moves_straight_in_its_direction_for_two_seconds_and_rests_in_the_end() -> None:
    for scene in scenes(500):
        places = np.array([scene.position(time_s) for time_s in np.linspace(0, MOVING_S, 9)])
        steps = np.diff(places, axis=0)
        np.testing.assert_allclose(steps / np.linalg.norm(steps, axis=1, keepdims=True), [MOTIONS[scene.motion]] * 8)
        assert scene.position(10.0) == scene.position(20.0)


def test_a_scene_starts_on_the_side_that_it_moves_away_from() -> None:
    for scene in scenes(500):
        assert np.dot(scene.position(0.0), MOTIONS[scene.motion]) < -0.1


def test_a_caption_names_the_colour_shape_and_motion_of_its_scene_and_nothing_false() -> None:
    rng = random.Random(1)
    for shape, color, motion in itertools.product(SHAPES, COLORS, MOTIONS):
        scene = draw_scene(rng, shape, color, motion)
        text = caption(scene, rng)
        assert said(text) == (color, shape, motion), text
        assert set(words(text)) <= set(vocabulary())
        assert set(words(text)) & set(BACKGROUNDS) <= {scene.background}, text
        assert not set(words(text)) & ({"small", "large"} - {scene.size}), text


def test_captions_come_in_many_wordings() -> None:
    rng, scene = random.Random(2), scenes(1)[0]
    assert len({caption(scene, rng) for _ in range(200)}) > 30


def test_one_seed_draws_one_world() -> None:
    first, again, other = (draw_frames(random.Random(seed), 8, 32) for seed in (5, 5, 6))
    assert (first.captions, first.scenes) == (again.captions, again.scenes)
    assert np.array_equal(first.frames_NHWC, again.frames_NHWC)
    assert not np.array_equal(first.frames_NHWC, other.frames_NHWC)


@pytest.mark.parametrize(("width", "height"), [(192, 96), (96, 192), (128, 96)])
def test_a_centre_crop_of_any_aspect_ratio_keeps_the_scene(width: int, height: int) -> None:
    for scene in scenes(8):
        frame_HWC = render(scene, [1.0], width, height)[0]
        top, left = (height - 96) // 2, (width - 96) // 2
        square_HWC = render(scene, [1.0], 96, 96)[0]
        assert np.abs(frame_HWC[top : top + 96, left : left + 96].astype(int) - square_HWC).max() <= 1


def test_a_small_rendering_is_the_average_of_a_large_one() -> None:
    for scene in scenes(12):
        large_HWC = render(scene, [0.5], 320, 320)[0].astype(float)
        average_HWC = large_HWC.reshape(32, 10, 32, 10, 3).mean((1, 3))
        error_HWC = np.abs(render(scene, [0.5], 32, 32)[0] - average_HWC)
        assert error_HWC.mean() < 1.0
        assert np.percentile(error_HWC, 99) < 40  # corners, where the distance to one edge is not the whole story


def test_frames_of_a_batch_are_those_of_their_scenes() -> None:
    own = scenes(6)
    times_s = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0]
    together = render_each(own, times_s, 32, 32)
    for frame_HWC, scene, time_s in zip(together, own, times_s, strict=True):
        assert np.array_equal(frame_HWC, render(scene, [time_s], 32, 32)[0])


def test_degraded_frames_stay_near_the_clean_ones() -> None:
    clean = draw_frames(random.Random(0), 32, 32).frames_NHWC
    change = np.abs(degrade(clean, np.random.default_rng(0)).astype(int) - clean).mean((1, 2, 3))
    assert 0 < change.max() < 12
