"""What a request brings along: an image, a video, a mask, fitted to the geometry that the model makes.

Everything that is done to an input is said, as a sentence in the result's JSON. Shape letters: T frames, H height,
W width, C channels (RGB).
"""

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from pipelines.video_file import Video, VideoError, read_video

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
VIDEOS = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".gif")
_BOX = re.compile(r"\s*,\s*".join([r"(\d+(?:\.\d+)?)"] * 4))
_WHITE = 128


class InputError(ValueError):
    """An image, video or mask that cannot be used; the message names the file or the box."""


class Geometry(NamedTuple):
    """What inputs are fitted to."""

    num_frames: int
    fps: Fraction
    size_px: int


class Box(NamedTuple):
    """`x,y,w,h`: from the left, from the top, width, height; pixels, or shares of the input where all are at most 1."""

    x: float
    y: float
    w: float
    h: float


@dataclass(frozen=True)
class Crop:
    """The centred square of an input, and what is said of it."""

    left: int
    top: int
    side: int

    def of(self, frames_THWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The square of each frame."""
        return frames_THWC[:, self.top : self.top + self.side, self.left : self.left + self.side]


class Fitted(NamedTuple):
    """An input in the model's geometry."""

    frames_THWC: NDArray[np.uint8]
    """Of an image, T is 1."""
    said: list[str]
    crop: Crop
    size: tuple[int, int]
    """(H, W) of the input: what a mask refers to."""


def parse_box(text: str) -> Box | None:
    """The box that a text is; None where it is none, such as a file's name.

    Raises:
        InputError: A box without area.
    """
    found = _BOX.fullmatch(text.strip())
    if found is None:
        return None
    box = Box(*(float(number) for number in found.groups()))
    if not box.w or not box.h:
        raise InputError(f"mask {text!r}: a box x,y,w,h with a width and a height is expected")
    return box


def read_image(path: str) -> NDArray[np.uint8]:
    """(1, H, W, 3), upright.

    Raises:
        InputError: No such file, or no image.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))[None]
    except FileNotFoundError as error:
        raise InputError(f"image {path}: no such file") from error
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"image {path}: not a readable image: {error}") from error


def fit_image(path: str, geometry: Geometry) -> Fitted:
    """Crop the centred square and scale it."""
    frames_1HWC = read_image(path)
    crop, said = _square(frames_1HWC, "image")
    return Fitted(_scaled(crop.of(frames_1HWC), geometry.size_px, "image", said), said, crop, _size(frames_1HWC))


def fit_video(path: str, geometry: Geometry) -> Fitted:
    """Crop, scale, and take the frame that is shown at each of the geometry's times; a short video stays at its end.

    Raises:
        InputError: No such file, or no video.
    """
    video = _read(path)
    crop, said = _square(video.frames_THWC, "video")
    frames_THWC = _timed(video, geometry, "video", said)
    return Fitted(_scaled(crop.of(frames_THWC), geometry.size_px, "video", said), said, crop, _size(video.frames_THWC))


def fit_mask(mask: str, like: Fitted, geometry: Geometry) -> tuple[NDArray[np.bool_], list[str]]:
    """True where something is to be made: white in a mask's image or video, or inside a box. (T, H, W).

    Args:
        mask: `x,y,w,h`, or a file.
        like: The input that it belongs to: it is cropped and scaled in the same way.
        geometry: As for the input.

    Raises:
        InputError: No such file, another kind of file, or a box outside the input.
    """
    said: list[str] = []
    box = parse_box(mask)
    if box is not None:
        frames_THW = _drawn(mask, box, like.size)[None]
    elif Path(mask).suffix.lower() in VIDEOS:
        frames_THW = _timed(_read(mask), geometry, "mask", said)[..., 0] >= _WHITE
    elif Path(mask).suffix.lower() in IMAGES:
        frames_THW = read_image(mask)[..., 0] >= _WHITE
    else:
        raise InputError(f"mask {mask}: a box x,y,w,h, an image or a video is expected; known are {IMAGES + VIDEOS}")
    if frames_THW.shape[1:] != like.size:
        said.append(f"mask: scaled from {_told(frames_THW.shape[1:])} to its input's {_told(like.size)}")
        frames_THW = np.stack([_resized(frame, like.size) for frame in frames_THW])
    square = like.crop.of(frames_THW.astype(np.uint8) * 255)
    small = np.stack([_resized(frame >= _WHITE, (geometry.size_px, geometry.size_px)) for frame in square])
    if not small.any():
        said.append("mask: nothing of it is left in the cropped square")
    return np.broadcast_to(small, (geometry.num_frames, *small.shape[1:])).copy(), said


def place_box(text: str | None, size_px: int) -> tuple[int, int, int, int]:
    """Where outpainting puts the video on its canvas, (left, top, width, height) in pixels; the middle by default.

    Raises:
        InputError: Not a box, or one that leaves the canvas.
    """
    if text is None:
        side = round(0.625 * size_px)
        return (size_px - side) // 2, (size_px - side) // 2, side, side
    box = parse_box(text)
    if box is None:
        raise InputError(f"mask {text!r}: outpainting expects the box x,y,w,h where the video lies on the canvas")
    left, top, width, height = (round(number) for number in _in_pixels(box, (size_px, size_px)))
    if left + width > size_px or top + height > size_px or not width or not height:
        raise InputError(f"mask {text!r}: a box within the canvas of {size_px}x{size_px} pixels is expected")
    return left, top, width, height


def scaled(frames_THWC: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Frames of another size: averaged where they shrink, interpolated where they grow."""
    if frames_THWC.shape[1:3] == (height, width):
        return frames_THWC
    images = (Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS) for frame in frames_THWC)
    return np.stack([np.asarray(image) for image in images])


def _read(path: str) -> Video:
    if not Path(path).is_file():
        raise InputError(f"video {path}: no such file")
    try:
        return read_video(path)
    except VideoError as error:
        raise InputError(f"video {error}") from error


def _square(frames_THWC: NDArray[np.uint8], name: str) -> tuple[Crop, list[str]]:
    height, width = _size(frames_THWC)
    side = min(height, width)
    said = [] if height == width else [f"{name}: cropped from {width}x{height} to its middle {side}x{side}"]
    return Crop((width - side) // 2, (height - side) // 2, side), said


def _scaled(frames_THWC: NDArray[np.uint8], side: int, name: str, said: list[str]) -> NDArray[np.uint8]:
    before = frames_THWC.shape[1]
    if before != side:
        said.append(f"{name}: scaled from {before}x{before} to {side}x{side}")
    return scaled(frames_THWC, side, side)


def _timed(video: Video, geometry: Geometry, name: str, said: list[str]) -> NDArray[np.uint8]:
    """The frame on the screen at time i / fps for each i."""
    given = len(video.frames_THWC)
    indices = [math.floor(index * video.fps / geometry.fps) for index in range(geometry.num_frames)]
    if indices == list(range(given)):
        return video.frames_THWC
    taken = [min(index, given - 1) for index in indices]
    said.append(
        f"{name}: {geometry.num_frames} frames at {float(geometry.fps):g} fps taken from {given} at "
        f"{float(video.fps):g} fps"
    )
    missing = sum(index >= given for index in indices)
    if missing:
        said.append(f"{name}: too short, its last frame stands for {missing} more")
    return video.frames_THWC[taken]


def _drawn(text: str, box: Box, size: tuple[int, int]) -> NDArray[np.bool_]:
    x, y, w, h = _in_pixels(box, size)
    mask_HW = np.zeros(size, bool)
    mask_HW[round(y) : round(y + h), round(x) : round(x + w)] = True
    if not mask_HW.any():
        raise InputError(f"mask {text!r}: a box inside the input of {_told(size)} pixels is expected")
    return mask_HW


def _in_pixels(box: Box, size: tuple[int, int]) -> tuple[float, float, float, float]:
    height, width = size
    if max(box) > 1:
        return box
    return box.x * width, box.y * height, box.w * width, box.h * height


def _resized(mask_HW: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A pixel is in the mask where half of what it shows is."""
    image = Image.fromarray(mask_HW.astype(np.uint8) * 255)
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BOX)) >= _WHITE


def _size(frames_THWC: NDArray[np.uint8]) -> tuple[int, int]:
    return frames_THWC.shape[1], frames_THWC.shape[2]


def _told(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"
