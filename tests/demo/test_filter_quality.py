"""Curation's verdicts on clips whose flaws are known: precision and recall of each."""

import pytest

from demo.filter_quality import RECIPES, Quality, copy_quality, find_copies, plant, verdict_quality
from demo.shapes import plan_clips

BAR = 0.95


def test_precision_and_recall_count_what_was_given_and_what_was_rendered() -> None:
    quality = Quality("still", rendered=4, given=2, right=1)
    assert (quality.precision, quality.recall) == (0.5, 0.25)
    assert Quality("cut", rendered=0, given=0, right=0)[1:] == (0, 0, 0)


def test_equal_fingerprints_are_copies_of_the_first() -> None:
    assert find_copies([bytes(384), bytes([200]) * 384, bytes(384)], 10) == [(2, 0)]


@pytest.mark.parametrize("name", RECIPES)
def test_every_verdict_that_can_be_planted_is_planted(name: str) -> None:
    planted = plant(50, 40, 4, 11, RECIPES[name])
    assert {label for _, label in planted} == {
        *(
            "kept",
            "still",
            "too_dark",
            "cut",
            "letterboxed",
            "blurry",
            "too_short",
            "unreadable",
            "corrupt",
            "no_video",
        ),
        *("duplicate", "misaligned", "caption_missing", "caption_invalid", "too_small", "too_large", "low_fps"),
    }
    assert len(planted) == 62
    needed_s = RECIPES[name].frames / RECIPES[name].fps
    assert all(clip.encoding.timing.times_s[-1] >= needed_s for clip, label in planted if label == "kept")


@pytest.mark.slow
def test_every_verdict_is_given_where_it_is_due_and_nowhere_else() -> None:
    qualities = verdict_quality(plant(160, 110, 6, 11, RECIPES["demo"]), RECIPES["demo"])
    assert len(qualities) == 17
    below = [quality for quality in qualities if min(quality.precision, quality.recall) < BAR]
    assert not below


@pytest.mark.slow
def test_clips_encoded_anew_are_found_and_nothing_else_is() -> None:
    quality = copy_quality(plan_clips(17, 0, seed=12)[:16], RECIPES["demo"])
    assert quality.rendered == 48
    assert quality.precision >= BAR
    assert quality.recall >= BAR
