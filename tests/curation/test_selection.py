"""Verdicts by thresholds, in their order of precedence."""

from itertools import pairwise
from typing import Any

import pytest

from pipelines.curation.config import AlignConfig, Recipe
from pipelines.curation.selection import select

GOOD: dict[str, Any] = {
    "uri": "/a.mp4",
    "key": "k1",
    "caption": "A red circle",
    "verdict": None,
    "reason": "",
    "brightness": 200.0,
    "motion": 30.0,
    "cut": 0.5,
    "bars": 0.0,
    "sharpness": 0.7,
    "align_score": 0.5,
}
RECIPE = Recipe(align=AlignConfig(min_score=0.3))


def verdict_of(**changes: Any) -> str:
    return select([{**GOOD, **changes}], RECIPE, {})[0]["verdict"]


def test_a_clip_that_breaks_no_rule_is_kept() -> None:
    assert verdict_of() == "kept"
    assert verdict_of(align_score=None) == "kept"


FLAWS = {
    "too_dark": {"brightness": 10.0},
    "still": {"motion": 0.0},
    "cut": {"cut": 90.0},
    "letterboxed": {"bars": 0.3},
    "blurry": {"sharpness": 0.1},
    "caption_missing": {"caption": "", "align_score": None},
    "caption_invalid": {"caption": "<b>"},
    "misaligned": {"align_score": 0.1},
}


@pytest.mark.parametrize(("verdict", "flaw"), FLAWS.items())
def test_each_flaw_has_its_verdict(verdict: str, flaw: dict[str, Any]) -> None:
    assert verdict_of(**flaw) == verdict


def test_what_ended_decoding_precedes_all_and_the_earlier_flaw_the_later() -> None:
    flaws = list(FLAWS.items())
    for (verdict, earlier), (_, later) in pairwise(flaws):
        if verdict != "caption_missing":
            assert verdict_of(**{**later, **earlier}) == verdict
    none = dict.fromkeys(("brightness", "motion", "cut", "bars", "sharpness", "align_score"))
    assert verdict_of(**none, caption="", verdict="corrupt") == "corrupt"


def test_the_first_of_equal_clips_is_kept() -> None:
    rows = [{**GOOD, "uri": f"/{name}.mp4"} for name in "abc"]
    selected = select(rows, RECIPE, {})
    assert [row["verdict"] for row in selected] == ["kept", "duplicate", "duplicate"]
    assert selected[2]["reason"] == "same bytes and span as /a.mp4"


def test_a_copy_of_a_rejected_clip_may_be_kept() -> None:
    rows = [{**GOOD, "caption": ""}, GOOD, GOOD]
    assert [row["verdict"] for row in select(rows, RECIPE, {})] == ["caption_missing", "kept", "duplicate"]


def test_a_clip_that_the_catalog_keeps_stays_the_one() -> None:
    selected = select([GOOD], RECIPE, {"k1": "/older.mp4"})[0]
    assert (selected["verdict"], selected["reason"]) == ("duplicate", "same bytes and span as /older.mp4")
