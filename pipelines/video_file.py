"""Whole short videos to and from mp4 bytes: what shards hold, what training reads and what generation writes.

Shape letters: T frames in time, H height, W width, C channels (RGB), P the rows that the planes Y, U and V fill one
after another (three for each two of the picture).
"""

import io
import os
from collections.abc import Iterable, Mapping
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


class Yuv(NamedTuple):
    """Frames as codecs keep them: yuv420p, limited range."""

    planes_TPW: NDArray[np.uint8]
    """(T, 3 H / 2, W)."""
    colorspace: int
    """The matrix between them and RGB, by the numbers of ITU-T H.273; 2: not said, taken for BT.601."""

    def to_rgb(self) -> NDArray[np.uint8]:
        """(T, H, W, 3) RGB."""
        num_frames, rows, width = self.planes_TPW.shape
        height = rows * 2 // 3
        # One picture of all frames below each other: one call does what would else be T.
        stacked = np.concatenate([plane_THW.ravel() for plane_THW in planes_of(self.planes_TPW)])
        tall = av.VideoFrame.from_ndarray(stacked.reshape(-1, width), format="yuv420p")
        tall.colorspace = self.colorspace
        return _rgb(tall).reshape(num_frames, height, width, 3)


def planes_of(planes_PW: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Y, U and V as views of contiguous (..., P, W) planes: (..., H, W) and twice (..., H / 2, W / 2)."""
    *outer, rows, width = planes_PW.shape
    height = rows * 2 // 3
    flat, size, shape = planes_PW.reshape(*outer, -1), height * width, (*outer, height // 2, width // 2)
    u_HW, v_HW = flat[..., size : size * 5 // 4].reshape(shape), flat[..., size * 5 // 4 :].reshape(shape)
    return planes_PW[..., :height, :], u_HW, v_HW


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
    frames = (av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24") for frame in frames_THWC)
    return _encode(frames, (width, height), fps, {"crf": str(crf)})


def encode_yuv_mp4(yuv: Yuv, fps: Fraction | int, crf: int = 18) -> bytes:
    """Encode as `encode_mp4` does, without a detour through RGB; the file says which matrix its colours need.

    Args:
        yuv: At least one frame; height and width are even.
        fps: Frames per second.
        crf: As for `encode_mp4`.
    """
    _, rows, width = yuv.planes_TPW.shape
    frames = (av.VideoFrame.from_ndarray(planes_PW, format="yuv420p") for planes_PW in yuv.planes_TPW)
    options = {"crf": str(crf), "colorspace": str(yuv.colorspace), "color_range": "tv"}
    return _encode(frames, (width, rows * 2 // 3), fps, options)


def _encode(
    frames: Iterable[av.VideoFrame], size_px: tuple[int, int], fps: Fraction | int, options: Mapping[str, str]
) -> bytes:
    # faststart moves the index to the front by opening the output a second time, so it needs a name. This file has one
    # and lies in memory: a folder for temporary files that is full or gone is no clip's fault.
    with os.fdopen(os.memfd_create("video.mp4"), "rb") as file:
        settings = {"movflags": "+faststart", "fflags": "+bitexact"}
        with av.open(f"/proc/self/fd/{file.fileno()}", "w", format="mp4", options=settings) as container:
            # No macroblock tree: libx264's AVX-512 version of it reads memory that was never written, and the same
            # small frames then give other bytes now and then.
            exact = {"flags": "+bitexact", "mbtree": "0"}
            every = {"preset": "veryfast", "tune": "fastdecode", **exact, **options}
            stream: Any = container.add_stream("libx264", rate=Fraction(fps), options=every)
            stream.width, stream.height = size_px
            stream.pix_fmt = "yuv420p"
            stream.codec_context.thread_count = 1
            for frame in frames:
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return file.read()


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
