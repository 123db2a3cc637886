"""Videos as phones and cameras write them: turned, pixels that are not square, changing rates, long, damaged."""

import tracemalloc
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.generation.footage import Wish, open_footage
from pipelines.generation.inputs import Framing, Geometry, fit_clip, fit_mask, fit_video
from pipelines.generation.refusal import InputError

OWN = Wish(None, None, max_frames=1000)


def write(path: Path, frames: Any, fps: int = 8, codec: str = "libx264", **stream_options: Any) -> str:
    """Encode frames; `pts` in milliseconds, `rotation` in degrees, `aspect` of a pixel."""
    pts: Sequence[int] | None = stream_options.get("pts")
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=fps, options={"crf": "1", "preset": "ultrafast"})
        first = frames[0]
        stream.height, stream.width, stream.pix_fmt = first.shape[0], first.shape[1], "yuv444p"
        if "aspect" in stream_options:
            stream.codec_context.sample_aspect_ratio = stream_options["aspect"]
        if "rotation" in stream_options:
            stream.set_display_rotation(stream_options["rotation"])
        if pts is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index, frame_HWC in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")
            if pts is not None:
                frame.pts, frame.time_base = pts[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


def ramp(num_frames: int, height: int = 32, width: int = 32) -> NDArray[np.uint8]:
    """Each frame of its own brightness, 10 t."""
    return np.stack([np.full((height, width, 3), 10 * t, np.uint8) for t in range(num_frames)])


def brightness(frames_THWC: NDArray[np.uint8]) -> list[int]:
    """Numbers of the frames of a ramp."""
    return [round(float(value) / 10) for value in frames_THWC.mean((1, 2, 3))]


def test_a_video_of_a_phone_stands_upright(tmp_path):
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[:, :48] = 220  # the left half, which a quarter turn against the clock puts below
    path = write(tmp_path / "phone.mov", [frame] * 4, rotation=90)
    with av.open(path) as container:
        assert next(container.decode(video=0)).rotation == 90
    fitted = fit_video(path, Geometry(4, Fraction(8), 64))
    assert fitted.framing.size == (96, 64)
    assert fitted.said == ["video: cropped from 64x96 to its middle 64x64"]
    assert fitted.frames_THWC[:, 36:].min() > 200
    assert fitted.frames_THWC[:, :28].max() < 20


def test_pixels_that_are_not_square_are_made_so(tmp_path):
    frame = np.zeros((64, 48, 3), np.uint8)
    frame[16:48, 12:36] = 220  # 32 x 24 as stored: a square as shown
    path = write(tmp_path / "anamorphic.mp4", [frame] * 4, aspect=Fraction(4, 3))
    fitted = fit_video(path, Geometry(4, Fraction(8), 64))
    assert fitted.framing.size == (64, 64)
    assert fitted.said == []
    is_lit = fitted.frames_THWC[0, ..., 0] > 110
    assert (is_lit.any(1).sum(), is_lit.any(0).sum()) == (32, pytest.approx(32, abs=1))


def test_frames_of_a_changing_rate_are_those_on_the_screen_and_it_is_said(tmp_path):
    """Four frames in the first half second, then one a second."""
    pts = [0, 125, 250, 375, 500, 1500, 2500]
    path = write(tmp_path / "vfr.mkv", ramp(7), pts=pts)
    fitted = fit_video(path, Geometry(11, Fraction(4), 32))
    assert brightness(fitted.frames_THWC) == [0, 2, 4, 4, 4, 4, 5, 5, 5, 5, 6]
    assert len(fitted.said) == 1
    assert fitted.said[0].startswith("video: 11 frames at 4 fps taken from 7 at ")
    assert fitted.said[0].endswith(" fps, unevenly spaced")


def test_times_that_a_container_has_rounded_lose_no_frame(tmp_path):
    """30 fps in milliseconds: frame 2 is said to appear at 67 ms, after 2 / 30 s."""
    path = write(tmp_path / "rounded.mkv", ramp(20), pts=[round(t * 1000 / 30) for t in range(20)])
    fitted = fit_video(path, Geometry(20, Fraction(30), 32))
    assert brightness(fitted.frames_THWC) == list(range(20))
    assert fitted.said == []


def test_of_a_long_video_one_frame_is_in_memory_and_what_is_kept(tmp_path):
    frame = np.random.default_rng(0).integers(0, 255, (24, 40, 3), dtype=np.uint8).repeat(20, 0).repeat(20, 1)
    path = write(tmp_path / "long.mp4", [np.roll(frame, 20 * t, axis=1) for t in range(120)], fps=30)
    one, geometry = frame.nbytes, Geometry(100, Fraction(25), 16)
    fit_video(path, geometry)  # what is imported at the first call is not counted
    tracemalloc.start()
    fitted = fit_video(path, geometry)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    kept = fitted.frames_THWC.nbytes
    assert len(fitted.frames_THWC) == 100
    assert peak < Path(path).stat().st_size + 4 * one + 3 * kept
    assert peak < 120 * one / 8, "not the whole video"


def test_a_file_that_ends_early_is_told_where_what_is_missing_is_wanted_and_used_where_it_is_not(tmp_path):
    whole = Path(write(tmp_path / "whole.mkv", [np.roll(ramp(1)[0], t) for t in range(64)], fps=8)).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) * 6 // 10])
    cut = str(tmp_path / "cut.mkv")
    assert len(fit_video(cut, Geometry(8, Fraction(8), 32)).frames_THWC) == 8
    with pytest.raises(InputError, match=r"video .*cut\.mkv: not a readable video: "):
        fit_video(cut, Geometry(64, Fraction(8), 32))
    with pytest.raises(InputError, match=r"video .*cut\.mkv: not a readable video: "):
        fit_clip(cut, OWN, 32)


def test_a_damaged_picture_is_told(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (32, 64, 64, 3), dtype=np.uint8)
    data = bytearray(Path(write(tmp_path / "whole.mkv", frames)).read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(4000)
    (tmp_path / "holed.mkv").write_bytes(data)
    with pytest.raises(InputError, match=r"video .*holed\.mkv: not a readable video: "):
        fit_video(str(tmp_path / "holed.mkv"), Geometry(32, Fraction(8), 32))


def test_sound_alone_is_no_video(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream: Any = container.add_stream("aac", rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match=r"video .*sound\.mp4: not a readable video: streams: audio"):
        fit_video(str(tmp_path / "sound.mp4"), Geometry(1, Fraction(8), 32))


def test_a_clip_to_enlarge_keeps_its_frames_and_rate_up_to_what_is_said(tmp_path):
    path = write(tmp_path / "clip.mp4", ramp(20), fps=12)
    whole = fit_clip(path, OWN, 32)
    assert (brightness(whole.frames_THWC), whole.fps, whole.said) == (list(range(20)), 12, [])
    cut = fit_clip(path, OWN._replace(max_frames=5), 32)
    assert brightness(cut.frames_THWC) == [0, 1, 2, 3, 4]
    assert cut.said == ["video: cut to the first 5 of 20 frames (ssr.max_frames)"]
    slower = fit_clip(path, Wish(4, Fraction(6), 1000), 32)
    assert (brightness(slower.frames_THWC), slower.fps) == ([0, 2, 4, 6], 6)
    assert slower.said[0] == "video: cut to the first 4 of 10 frames (frames)"
    vfr = fit_clip(write(tmp_path / "vfr.mkv", ramp(5), pts=[0, 100, 200, 300, 1300]), OWN, 32)
    assert len(vfr.frames_THWC) == 5
    assert vfr.said[0].endswith("unevenly spaced")


def test_a_mask_video_is_read_like_any_other(tmp_path):
    frame = np.zeros((64, 96, 3), np.uint8)
    frame[:, :48] = 255
    path = write(tmp_path / "mask.mov", [frame] * 4, rotation=90)
    like = Framing.of((96, 64), (32, 32))
    mask_THW, said = fit_mask(path, like, Geometry(4, Fraction(8), 32))
    assert mask_THW.shape == (4, 32, 32)
    assert mask_THW[:, 16:].all()
    assert not mask_THW[:, :16].any()
    assert said == []
    (tmp_path / "no.mp4").write_text("no video")
    with pytest.raises(InputError, match=r"mask .*no\.mp4: not a readable video"):
        fit_mask(str(tmp_path / "no.mp4"), like, Geometry(4, Fraction(8), 32))


def test_a_file_that_is_not_there_or_too_large_is_told_before_it_is_read(tmp_path):
    with pytest.raises(InputError, match=r"video .*none\.mp4: no such file"), open_footage(str(tmp_path / "none.mp4")):
        pass
    with (tmp_path / "huge.mp4").open("wb") as file:
        file.truncate(2**30 + 1)  # sparse: it takes no room
    with pytest.raises(InputError, match="1073741825 bytes, at most 1073741824 expected"):
        fit_video(str(tmp_path / "huge.mp4"), Geometry(1, Fraction(8), 32))
