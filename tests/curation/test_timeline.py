"""Frames are chosen by exact time."""

from fractions import Fraction

import pytest

from pipelines.curation.timeline import Timeline, Window, is_covered, shown_at, typical_gap


def test_16_fps_of_24_are_two_frames_of_three_and_not_every_second_one() -> None:
    timeline = Timeline(tuple(range(0, 48 * 512, 512)), 512, Fraction(1, 24 * 512))
    chosen = [pts // 512 for pts in shown_at(timeline, Window(Fraction(0), 8, Fraction(16)))]
    assert chosen == [0, 1, 3, 4, 6, 7, 9, 10]


def test_the_frame_shown_is_the_last_one_that_has_appeared() -> None:
    timeline = Timeline((0, 40, 41, 200), 50, Fraction(1, 1000))
    window = Window(Fraction(0), 5, Fraction(20))
    assert shown_at(timeline, window) == [0, 41, 41, 41, 200]


def test_a_frame_that_appears_at_the_very_target_is_shown_and_a_tick_later_it_is_not() -> None:
    window = Window(Fraction(0), 2, Fraction(30000, 1001))
    assert shown_at(Timeline((0, 1001), 1001, Fraction(1, 30000)), window) == [0, 1001]
    assert shown_at(Timeline((0, 1002), 1001, Fraction(1, 30000)), window) == [0, 0]


def test_a_time_that_the_container_rounded_up_is_taken_as_it_is_written() -> None:
    milliseconds = tuple(round(Fraction(125 * index, 2) + Fraction(1, 100)) for index in range(4))
    assert milliseconds == (0, 63, 125, 188)
    window = Window(Fraction(0), 4, Fraction(16))
    assert shown_at(Timeline(milliseconds, 62, Fraction(1, 1000)), window) == [0, 0, 125, 125]


def test_time_counts_from_the_first_frame_and_the_span() -> None:
    timeline = Timeline(tuple(range(7000, 7000 + 100 * 10, 10)), 10, Fraction(1, 100))
    assert shown_at(timeline, Window(Fraction("2.5"), 3, Fraction(10))) == [7250, 7260, 7270]


@pytest.mark.parametrize(("num_frames", "covered"), [(8, True), (9, False)])
def test_the_last_frame_counts_as_long_as_it_is_shown(num_frames: int, covered: bool) -> None:
    timeline = Timeline(tuple(range(0, 24 * 100, 100)), 100, Fraction(1, 2400))
    assert is_covered(timeline, Window(Fraction(0), num_frames, Fraction(8))) is covered


def test_durations_that_a_container_rounds_to_its_ticks_cost_no_clip() -> None:
    milliseconds = tuple(round(Fraction(1000 * index, 24)) for index in range(48))
    timeline = Timeline(milliseconds, 41, Fraction(1, 1000))
    assert milliseconds[-1] + 41 < 2000
    assert is_covered(timeline, Window(Fraction(0), 16, Fraction(8)))
    assert not is_covered(timeline, Window(Fraction("0.002"), 16, Fraction(8)))


@pytest.mark.parametrize(("fps", "num_frames"), [(12, 59), (8, 39), (24, 119), (50, 249)])
def test_where_a_tick_is_a_frame_a_tick_that_lacks_is_a_frame_that_lacks(fps: int, num_frames: int) -> None:
    window = Window(Fraction(0), 80, Fraction(16))
    assert not is_covered(Timeline(tuple(range(num_frames)), 1, Fraction(1, fps)), window)
    assert is_covered(Timeline(tuple(range(num_frames + 1)), 1, Fraction(1, fps)), window)


@pytest.mark.parametrize("fps", [24, 60, 120, 240])
def test_milliseconds_are_fine_enough_to_be_rounded_durations(fps: int) -> None:
    ticks = tuple(round(Fraction(1000 * index, fps)) for index in range(5 * fps))
    last = 4999 - ticks[-1]
    assert is_covered(Timeline(ticks, last, Fraction(1, 1000)), Window(Fraction(0), 80, Fraction(16)))


def test_a_last_frame_of_unknown_duration_lasts_as_long_as_most_others() -> None:
    assert typical_gap([0, 10, 20, 500]) == 10
    assert typical_gap([3]) == 0
