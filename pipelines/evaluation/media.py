"""The clips of a study, alike but for what they show: one size, rate, codec and pixel format, no sound, no metadata.

Clips are cropped in the middle to the common aspect ratio and resized; both of a pair are cut to the shorter one.
"""

import random
import struct
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.video_file import Video, encode_mp4, read_video

MAX_SIZE_RATIO = 3
"""Of the files of a pair: loading time must not tell them apart."""
_BLUR_OF_HEIGHT = 0.06


class Format(NamedTuple):
    """What all clips of a study have in common."""

    width_px: int
    height_px: int
    fps: Fraction


class ClipFacts(NamedTuple):
    """What a source clip is."""

    width_px: int
    height_px: int
    fps: Fraction
    num_frames: int

    @property
    def duration_s(self) -> Fraction:
        """Exact, so that equal clips stay equal."""
        return self.num_frames / self.fps


class MediaError(ValueError):
    """A clip that is too short for the study; the message names it."""


def probe(path: Path) -> ClipFacts:
    """Size, rate and frames of a clip, counted by decoding it.

    Raises:
        VideoError: It cannot be read.
    """
    video = read_video(path)
    num_frames, height_px, width_px, _ = video.frames_THWC.shape
    return ClipFacts(width_px, height_px, video.fps, num_frames)


def common_format(clips: Iterable[ClipFacts], wanted: Mapping[str, float | None]) -> Format:
    """The smallest width, height and rate of all clips, so that none is blown up; `wanted` goes before."""
    clips = list(clips)
    width_px = wanted.get("width_px") or min(clip.width_px for clip in clips) // 2 * 2
    height_px = wanted.get("height_px") or min(clip.height_px for clip in clips) // 2 * 2
    fps = wanted.get("fps")
    rate = min(clip.fps for clip in clips) if fps is None else Fraction(str(fps))
    return Format(int(width_px), int(height_px), rate)


def num_frames(duration_s: Fraction, fmt: Format) -> int:
    """Frames of a clip of that duration in the study's rate, at least one."""
    return max(1, int(duration_s * fmt.fps))


def normalise(video: Video, count: int, fmt: Format) -> NDArray[np.uint8]:
    """Resample in time, crop and resize in space.

    Args:
        video: The source.
        count: Frames wanted.
        fmt: Size and rate wanted.

    Returns:
        (count, height_px, width_px, 3) uint8. Frame k is the source's at time (k + 1/2) / fps.

    Raises:
        MediaError: The source ends before the last of these frames begins.
    """
    times = [int((k + Fraction(1, 2)) / fmt.fps * video.fps) for k in range(count)]
    if times[-1] >= len(video.frames_THWC):
        raise MediaError(f"{count} frames at {fmt.fps} fps wanted of {len(video.frames_THWC)} at {video.fps} fps")
    return np.stack([_fit(frame_HWC, fmt) for frame_HWC in video.frames_THWC[times]])


def degrade(frames_THWC: NDArray[np.uint8], order: random.Random) -> NDArray[np.uint8]:
    """Frames in random order and blurred: the wrong side of a quality catch; same shape."""
    places = order.sample(range(len(frames_THWC)), len(frames_THWC))
    sigma = max(1.0, _BLUR_OF_HEIGHT * frames_THWC.shape[1])
    return np.stack([cv2.GaussianBlur(frames_THWC[place], (0, 0), sigma).astype(np.uint8) for place in places])


def encode_alike(first_THWC: NDArray[np.uint8], second_THWC: NDArray[np.uint8], fps: Fraction) -> tuple[bytes, bytes]:
    """Encode both clips of a pair; the smaller file is padded where it is under a third of the larger one."""
    first, second = encode_mp4(first_THWC, fps), encode_mp4(second_THWC, fps)
    least = -(-max(len(first), len(second)) // MAX_SIZE_RATIO)
    return _padded(first, least), _padded(second, least)


def _padded(mp4: bytes, least: int) -> bytes:
    """Append an ISO base media `free` box (ISO 14496-12, 8.1.2): players skip it."""
    if len(mp4) >= least:
        return mp4
    size = max(8, least - len(mp4))
    return mp4 + struct.pack(">I4s", size, b"free") + bytes(size - 8)


def _fit(frame_HWC: NDArray[np.uint8], fmt: Format) -> NDArray[np.uint8]:
    height_px, width_px, _ = frame_HWC.shape
    scale = min(width_px / fmt.width_px, height_px / fmt.height_px)
    crop_w, crop_h = round(fmt.width_px * scale), round(fmt.height_px * scale)
    top, left = (height_px - crop_h) // 2, (width_px - crop_w) // 2
    cropped = np.ascontiguousarray(frame_HWC[top : top + crop_h, left : left + crop_w])
    if cropped.shape[:2] == (fmt.height_px, fmt.width_px):
        return cropped
    kind = cv2.INTER_AREA if scale > 1 else cv2.INTER_CUBIC
    return cv2.resize(cropped, (fmt.width_px, fmt.height_px), interpolation=kind).astype(np.uint8)
