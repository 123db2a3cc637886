"""Bars tell how much is done, on standard error."""

import pytest

from pipelines.progress import shown, track


def test_a_bar_counts_what_it_hands_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track("abc", "letters")) == ["a", "b", "c"]
    assert "3/3" in capsys.readouterr().err


def test_work_elsewhere_is_asked_for_its_end_even_where_it_ends_between_two_questions(
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = [0]
    with shown(lambda: done[0], "steps", total=4, poll_s=60):
        done[0] = 3
    assert "3/4" in capsys.readouterr().err


def test_work_that_is_done_twice_fills_the_bar_and_no_more(capsys: pytest.CaptureFixture[str]) -> None:
    with shown(lambda: 9, "steps", total=4):
        pass
    assert "4/4" in capsys.readouterr().err


def test_the_bar_ends_with_work_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(OSError, match="no"), shown(lambda: 1, "steps", total=4):
        raise OSError("no")
    assert "1/4" in capsys.readouterr().err
