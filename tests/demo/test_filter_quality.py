"""Curation's verdicts on clips whose flaws are known: precision and recall of each."""

import pytest

from demo.filter_quality import Quality, copy_quality, find_copies, verdict_quality
from demo.shapes import plan_clips

BAR = 0.95


def test_precision_and_recall_count_what_was_given_and_what_was_rendered() -> None:
    quality = Quality("still", rendered=4, given=2, right=1)
    assert (quality.precision, quality.recall) == (0.5, 0.25)
    assert Quality("cut", rendered=0, given=0, right=0)[1:] == (0, 0, 0)


def test_equal_fingerprints_are_copies_of_the_first() -> None:
    assert find_copies([bytes(384), bytes([200]) * 384, bytes(384)], 10) == [(2, 0)]


@pytest.mark.slow
def test_every_verdict_is_given_where_it_is_due_and_nowhere_else() -> None:
    qualities = verdict_quality(plan_clips(160, 110, seed=11))
    assert {quality.verdict for quality in qualities} > {"kept", "still", "cut", "too_dark", "letterboxed", "blurry"}
    below = [quality for quality in qualities if min(quality.precision, quality.recall) < BAR]
    assert not below


@pytest.mark.slow
def test_clips_encoded_anew_are_found_and_nothing_else_is() -> None:
    quality = copy_quality(plan_clips(17, 0, seed=12)[:16], max_levels=10)
    assert quality.rendered == 48
    assert quality.precision >= BAR
    assert quality.recall >= BAR
