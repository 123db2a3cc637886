"""Frames to real video files: H.264, HEVC, VP9 and AV1, at steady and at varying rates. Same input, same bytes.

Shape letters: T frames in time, H height, W width, C channels (RGB).
"""

import os
import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

_OPTIONS: dict[str, tuple[str, dict[str, str]]] = {
    "h264": ("libx264", {"preset": "veryfast", "crf": "20", "mbtree": "0"}),
    "hevc": (
        "libx265",
        {"preset": "ultrafast", "crf": "22", "x265-params": "pools=none:frame-threads=1:log-level=none"},
    ),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "crf": "24", "b": "0"}),
    "av1": ("libsvtav1", {"preset": "8", "crf": "28", "svtav1-params": "lp=1"}),
}
"""Encoder and its options, such that the same frames give the same bytes: one thread each, and no macroblock tree, for
x264's AVX-512 version of it reads memory that was never written (at widths of 144 and 176 pixels). SVT-AV1's presets
from 11 on make a stream now and then that no decoder takes (1 of 220 clips; none of them at preset 8)."""
CODECS = tuple(_OPTIONS)


@dataclass(frozen=True)
class Timing:
    """When each frame is shown."""

    time_base: Fraction
    """Seconds of a tick."""
    ticks: tuple[int, ...]
    """Rising, from 0."""
    fps: Fraction
    """The rate, or the average of a varying one."""

    @property
    def times_s(self) -> list[float]:
        """Seconds after the first frame."""
        return [float(tick * self.time_base) for tick in self.ticks]


@dataclass(frozen=True)
class Encoding:
    """What kind of file."""

    codec: str
    """One of `CODECS`."""
    suffix: str
    """`mp4`, `webm` or `mkv`: also the container."""
    width: int
    height: int
    timing: Timing
    is_index_first: bool = True
    """mp4 only: its index stands before the frames, as on the web, or behind them, as cameras write it."""


def encode(frames_THWC: Iterable[NDArray[np.uint8]], encoding: Encoding) -> bytes:
    """Encode to a file's bytes.

    Args:
        frames_THWC: uint8 RGB frames of (height, width, 3), as many as the timing has ticks.
        encoding: Codec, container, size and timing; width and height are even.
    """
    os.environ["SVT_LOG"] = "0"  # SVT-AV1 has no other way to be quiet
    codec, options = _OPTIONS[encoding.codec]
    flags = "+faststart" if encoding.suffix == "mp4" and encoding.is_index_first else ""
    settings = {"fflags": "+bitexact"} | ({"movflags": flags} if flags else {})
    with tempfile.TemporaryDirectory(prefix="encode-") as folder:
        path = Path(folder) / f"clip.{encoding.suffix}"
        with _same_scheduling(), av.open(str(path), "w", options=settings) as container:
            stream: Any = container.add_stream(
                codec, rate=encoding.timing.fps, options={"flags": "+bitexact"} | options
            )
            stream.width, stream.height, stream.pix_fmt = encoding.width, encoding.height, "yuv420p"
            stream.codec_context.thread_count = 1
            stream.codec_context.time_base = encoding.timing.time_base
            for frame_HWC, tick in zip(frames_THWC, encoding.timing.ticks, strict=True):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), format="rgb24")
                frame.pts, frame.time_base = tick, encoding.timing.time_base
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path.read_bytes()


@contextmanager
def _same_scheduling() -> Generator[None]:
    """Keep this thread an ordinary one.

    SVT-AV1, run by root, makes the thread that calls it a real-time one (SCHED_FIFO, highest priority) and leaves it
    so: with two such processes nothing else on a machine of two cores runs any more.
    """
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != before[0]:
            os.sched_setscheduler(0, *before)


def encode_audio(seconds: float) -> bytes:
    """An mp4 that holds nothing but a tone of 440 Hz."""
    rate = 24_000
    wave = 0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    with tempfile.TemporaryDirectory(prefix="encode-") as folder:
        path = Path(folder) / "tone.mp4"
        with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
            stream: Any = container.add_stream("aac", rate=rate, options={"flags": "+bitexact"})
            stream.layout = "mono"
            frame = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path.read_bytes()
