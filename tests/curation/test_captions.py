"""Which captions are usable."""

import pytest

from pipelines.curation.captions import judge_caption
from pipelines.curation.config import FilterConfig


@pytest.mark.parametrize(
    "caption",
    [
        "A red circle moves to the left",
        "Cat & dog, 3 < 5, R&D at AT&T",
        "Ein grüner Stern, 緑の星が動く",
        "as seen on www.example.org, a dog runs",
        "dog",
    ],
)
def test_plain_text_in_any_script_is_usable(caption: str) -> None:
    assert judge_caption(caption, FilterConfig()) is None


@pytest.mark.parametrize(
    ("caption", "verdict", "reason"),
    [
        ("", "caption_missing", "no text"),
        (" \n\t", "caption_missing", "no text"),
        ("<b>A red circle</b>", "caption_invalid", "markup: <b>"),
        ("A red circle<br/>moves", "caption_invalid", "markup: <br/>"),
        ("A red circle &amp; a star", "caption_invalid", "markup: &amp;"),
        ("https://example.org/watch?v=1", "caption_invalid", "nothing but an address"),
        ("www.example.org https://example.org", "caption_invalid", "nothing but an address"),
        ("clip_0001.mp4", "caption_invalid", "file name"),
        ("12345 --- !!", "caption_invalid", "no letter"),
        ("A caf\ufffd table", "caption_invalid", "wrong decoding"),
        ("word " * 500, "caption_invalid", "2499 characters, at most 2000"),
    ],
)
def test_other_text_is_told_with_what_was_found(caption: str, verdict: str, reason: str) -> None:
    rejection = judge_caption(caption, FilterConfig())
    assert rejection is not None
    assert rejection.verdict == verdict
    assert reason in rejection.reason
