from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.video_file import VideoError, encode_mp4, read_video, write_mp4


def gradient(frames: int, height: int, width: int) -> np.ndarray:
    rows = np.linspace(0, 255, height)[None, :, None, None]
    columns = np.linspace(0, 255, width)[None, None, :, None]
    times = np.linspace(0, 60, frames)[:, None, None, None]
    return np.broadcast_to((rows + columns) / 2 * 0.75 + times, (frames, height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("fps", [8, 16, Fraction(30000, 1001)])
def test_frames_come_back_with_their_rate_number_and_nearly_their_values(fps: Fraction | int) -> None:
    frames = gradient(16, 32, 48)
    video = read_video(encode_mp4(frames, fps))
    assert video.fps == fps
    assert video.frames_THWC.shape == frames.shape
    assert np.abs(video.frames_THWC.astype(int) - frames).mean() < 2


def test_the_same_frames_give_the_same_bytes_and_a_playable_file(tmp_path: Path) -> None:
    frames = gradient(5, 32, 32)
    write_mp4(tmp_path / "a.mp4", frames, 8)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data == encode_mp4(frames, 8)
    assert data.index(b"moov") < data.index(b"mdat"), "the index stands before the frames, so that browsers can stream"
    with av.open(tmp_path / "a.mp4") as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        assert container.streams.video[0].codec_context.name == "h264"


def test_the_same_frames_give_the_same_bytes_whatever_was_in_memory_before() -> None:
    rng, rubbish = np.random.default_rng(0), []
    walk = np.cumsum(np.random.default_rng(3).normal(size=(16, 32, 144, 3)), axis=1)
    frames = (walk * 8 + 128).clip(0, 255).astype(np.uint8)
    seen = set()
    for _ in range(100):
        rubbish = [*rubbish[-4:], rng.integers(0, 255, rng.integers(1000, 200_000), dtype=np.uint8)]
        seen.add(encode_mp4(frames, 8))
    assert len(seen) == 1


def test_frames_of_a_wrong_shape_are_refused_with_what_was_given() -> None:
    with pytest.raises(ValueError, match="even height and width expected, given 31x32"):
        encode_mp4(np.zeros((2, 31, 32, 3), np.uint8), 8)
    with pytest.raises(ValueError, match="given float64"):
        encode_mp4(np.zeros((2, 32, 32, 3)), 8)
    with pytest.raises(ValueError, match=r"given uint8 \(0, 32, 32, 3\)"):
        encode_mp4(np.zeros((0, 32, 32, 3), np.uint8), 8)


def test_what_is_no_video_is_told_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "text.mp4"
    file.write_text("not a video")
    with pytest.raises(VideoError, match=r"text.mp4: not a readable video"):
        read_video(file)
    with pytest.raises(VideoError, match="11 bytes: not a readable video"):
        read_video(b"not a video")
