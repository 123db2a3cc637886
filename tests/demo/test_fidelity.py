"""The metric of the demo's own: what is read out of a clip against what its prompt says."""

import random

import pytest

from demo.fidelity import fidelity, said
from demo.readout import ReadOut
from demo.render import render
from demo.scene import draw_scene
from pipelines.evaluation.metrics import load_user_metrics

FRAMES_THWC = render(
    draw_scene(random.Random(0), "star", "cyan", "up-left"), [index / 8 for index in range(16)], 32, 32
)


def test_a_clip_is_faithful_to_its_own_caption() -> None:
    prompt = "small cyan star gliding slowly up and to the left"
    assert fidelity(FRAMES_THWC, prompt) == {"color": 1.0, "shape": 1.0, "motion": 1.0}


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a red star moving up-left", {"color": 0.0, "shape": 1.0, "motion": 1.0}),
        ("a cyan circle moving up-left", {"color": 1.0, "shape": 0.0, "motion": 1.0}),
        ("a cyan star moving up", {"color": 1.0, "shape": 1.0, "motion": 0.0}),
        ("a red circle moving right", {"color": 0.0, "shape": 0.0, "motion": 0.0}),
    ],
)
def test_what_the_prompt_says_otherwise_counts_nought(prompt: str, expected: dict[str, float]) -> None:
    assert fidelity(FRAMES_THWC, prompt) == expected


def test_only_what_the_prompt_names_is_judged() -> None:
    assert fidelity(FRAMES_THWC, "something cyan") == {"color": 1.0}
    assert fidelity(FRAMES_THWC, "waves at the beach") == {}


@pytest.mark.parametrize(
    ("prompt", "motion"),
    [
        ("moves upwards", "up"),
        ("straight downwards", "down"),
        ("towards the right", "right"),
        ("diagonally down and left", "down-left"),
        ("up and to the right", "up-right"),
        ("rests", None),
    ],
)
def test_directions_are_understood_in_their_wordings(prompt: str, motion: str | None) -> None:
    assert said(f"A Red Square {prompt}.") == ReadOut("red", "square", motion)


def test_it_is_installed_as_the_metric_named_shapes() -> None:
    assert load_user_metrics(["shapes"]) == {"shapes": fidelity}
