"""Black bars: the square between them is what the picture would be without them."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.curation.config import LimitsConfig, Recipe
from pipelines.curation.decode import Span
from pipelines.curation.filters import bar_lines, brightest_channel
from pipelines.curation.prepare import PreparedClip, prepare
from pipelines.curation.records import Bars, Rejection
from pipelines.video_file import read_video

Frames = NDArray[np.uint8]
RECIPE = Recipe(frames=8, fps=8, size_px=32)
CROPPING = RECIPE.model_copy(update={"letterbox": "crop"})


@pytest.fixture(scope="module")
def content(moving: Callable[..., Frames]) -> Frames:
    return np.maximum(moving(30, 96, 128), 40)


def _with_bars(content: Frames, vertical: int, horizontal: int, below: int = 0) -> Frames:
    """Bars of so many lines above and below, and at both sides; `below` more lines below."""
    return np.pad(content, ((0, 0), (vertical, vertical + below), (horizontal, horizontal), (0, 0)))


def _write(video_writer: Callable[..., Path], file: Path, frames: Frames) -> Path:
    return video_writer(file, frames, Fraction(24), options={"crf": "10"})


def _prepared(file: Path, recipe: Recipe) -> PreparedClip | Rejection:
    return prepare(file.read_bytes(), Span(), 0, recipe).result


def _frames(clip: PreparedClip | Rejection) -> NDArray[np.int16]:
    assert isinstance(clip, PreparedClip)
    return read_video(clip.mp4).frames_THWC.astype(np.int16)


@pytest.mark.parametrize(
    ("vertical", "horizontal", "below"),
    [(16, 0, 0), (0, 48, 0), (12, 60, 0), (16, 0, 24)],
    ids=["letterbox", "pillarbox", "windowbox", "uneven"],
)
def test_the_square_between_bars_is_that_of_the_picture_without_them(
    content: Frames, vertical: int, horizontal: int, below: int, video_writer: Callable[..., Path], tmp_path: Path
) -> None:
    barred = _with_bars(content, vertical, horizontal, below)
    clip = _prepared(_write(video_writer, tmp_path / "bars.mp4", barred), CROPPING)
    assert isinstance(clip, PreparedClip)
    assert clip.measures["bars"] == 0
    left, top, side, _ = clip.crop
    assert side == pytest.approx(96, abs=10)
    assert horizontal - 1 <= left <= left + side <= horizontal + 129
    assert vertical - 1 <= top <= top + side <= vertical + 97
    inside = barred[:, top : top + side // 2 * 2, left : left + side // 2 * 2]
    expected = _prepared(_write(video_writer, tmp_path / "inside.mp4", inside), RECIPE)
    likeness = np.corrcoef(_frames(clip).ravel(), _frames(expected).ravel())[0, 1]
    assert likeness > 0.95, "places are whole pixels of 32, so the two are a part of one apart"


def test_a_picture_without_bars_is_the_same_bytes_either_way(
    content: Frames, video_writer: Callable[..., Path], tmp_path: Path
) -> None:
    file = video_writer(tmp_path / "none.mp4", content, Fraction(24))
    assert _prepared(file, CROPPING) == _prepared(file, RECIPE)


def test_too_little_between_the_bars_is_too_small(
    content: Frames, video_writer: Callable[..., Path], tmp_path: Path
) -> None:
    recipe = CROPPING.model_copy(update={"limits": LimitsConfig(min_short_side_px=100)})
    found = _prepared(video_writer(tmp_path / "bars.mp4", _with_bars(content, 16, 0), Fraction(24)), recipe)
    assert isinstance(found, Rejection)
    assert found.verdict == "too_small"
    assert "between black bars, at least 100 px" in found.reason


def test_bars_are_counted_at_each_side(content: Frames) -> None:
    barred = brightest_channel(_with_bars(content, 5, 7, below=3))
    assert bar_lines(barred) == Bars(5, 8, 7, 7)
