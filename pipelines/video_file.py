"""Whole short videos to and from mp4 bytes: what shards hold, what training reads and what generation writes."""

import io
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from pipelines.storage import write_whole


class Video(NamedTuple):
    """Decoded frames and their rate."""

    frames_THWC: NDArray[np.uint8]
    """(T, H, W, 3) RGB, 0..255."""
    fps: Fraction
    """Frames per second."""


class VideoError(ValueError):
    """A video that cannot be read; the message names it."""


def encode_mp4(frames_THWC: NDArray[np.uint8], fps: Fraction | int, crf: int = 18) -> bytes:
    """Encode frames as H.264 yuv420p in mp4: plays everywhere, decodes fast, same frames give the same bytes.

    Args:
        frames_THWC: (T, H, W, 3) uint8 RGB; T at least 1, H and W even (yuv420p halves the colour planes).
        fps: Frames per second.
        crf: libx264's constant rate factor, 0 (lossless) to 51.

    Raises:
        ValueError: The array has another shape or type, or an odd side.
    """
    if frames_THWC.ndim != 4 or frames_THWC.shape[-1] != 3 or frames_THWC.dtype != np.uint8 or not len(frames_THWC):
        raise ValueError(f"frames: uint8 (T, H, W, 3) expected, given {frames_THWC.dtype} {frames_THWC.shape}")
    _, height, width, _ = frames_THWC.shape
    if height % 2 or width % 2:
        raise ValueError(f"frames: even height and width expected, given {height}x{width}")
    with tempfile.TemporaryDirectory(prefix="encode-") as folder:
        # faststart moves the index to the front by opening the output a second time, so it needs a real file.
        path = Path(folder) / "video.mp4"
        with av.open(str(path), "w", options={"movflags": "+faststart", "fflags": "+bitexact"}) as container:
            # No macroblock tree: libx264's AVX-512 version of it reads memory that was never written, and the same
            # small frames then give other bytes now and then.
            exact = {"flags": "+bitexact", "mbtree": "0"}
            options = {"crf": str(crf), "preset": "veryfast", "tune": "fastdecode", **exact}
            stream: Any = container.add_stream("libx264", rate=Fraction(fps), options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.thread_count = 1
            for frame_HWC in frames_THWC:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path.read_bytes()


def write_mp4(path: str | Path, frames_THWC: NDArray[np.uint8], fps: Fraction | int, crf: int = 18) -> None:
    """Encode as `encode_mp4` does and write the file whole."""
    write_whole(path, encode_mp4(frames_THWC, fps, crf))


def read_video(source: bytes | str | Path) -> Video:
    """Decode every frame of the first video stream in order of presentation.

    For clips that this project wrote: all frames are kept in memory and timestamps are not looked at. Foreign files go
    through `pipelines.curation.decode`.

    Raises:
        VideoError: Not a video, no video stream, or no frame in it.
    """
    name = f"{len(source)} bytes" if isinstance(source, bytes) else str(source)
    file = io.BytesIO(source) if isinstance(source, bytes) else str(source)
    try:
        with av.open(file, "r") as container:
            if not container.streams.video:
                raise VideoError(f"{name}: no video stream")
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            rate = stream.average_rate or stream.guessed_rate
            frames = [_rgb(frame) for frame in container.decode(stream)]
    except (FFmpegError, OSError) as error:
        raise VideoError(f"{name}: not a readable video: {error}") from error
    if not frames or rate is None:
        raise VideoError(f"{name}: no frame in the video stream")
    return Video(np.stack(frames), Fraction(rate))


def _rgb(frame: av.VideoFrame) -> NDArray[np.uint8]:
    return frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
