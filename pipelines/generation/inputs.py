"""What a request brings along: an image, a video, a mask, fitted to the geometry that the model makes.

Everything that is done to an input is said, as a sentence in the result's JSON. Shape letters: T frames, H height, W
width, C channels (RGB).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pipelines.generation.boxes import Place, drawn, parse_box, place_box
from pipelines.generation.footage import Footage, Times, Wish, open_footage
from pipelines.generation.refusal import InputError

S = TypeVar("S", bound=np.generic)

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
VIDEOS = (".mp4", ".webm", ".mkv", ".mov", ".avi", ".m4v", ".gif")
_WHITE = 128
_ROUNDING_PX = 0.5


class Geometry(NamedTuple):
    """What inputs are fitted to."""

    num_frames: int
    fps: Fraction
    size_px: int


@dataclass(frozen=True)
class Framing:
    """The part of an input that is kept, around its middle, and the size that it becomes."""

    size: tuple[int, int]
    """(H, W) of the input: what a mask refers to."""
    part: Place
    to: tuple[int, int]
    """(H, W) of the result, of the part's aspect but for half a pixel."""

    @classmethod
    def of(cls, size: tuple[int, int], to: tuple[int, int]) -> "Framing":
        """All of an input of that aspect, else the largest part in its middle; never stretched."""
        (height, width), (to_height, to_width) = size, to
        across, down = width * to_height / height - to_width, height * to_width / width - to_height
        if min(abs(across), abs(down)) > _ROUNDING_PX:
            if across > 0:
                width = round(height * to_width / to_height)
            else:
                height = round(width * to_height / to_width)
        part = Place((size[1] - width) // 2, (size[0] - height) // 2, width, height)
        return cls(size, part, to)

    def frame(self, frame_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The part of a frame, scaled: averaged where it shrinks, interpolated where it grows."""
        cut_HWC = self._cut(frame_HWC)
        if cut_HWC.shape[:2] == self.to:
            return cut_HWC.copy()
        image = Image.fromarray(np.ascontiguousarray(cut_HWC))
        return np.asarray(image.resize((self.to[1], self.to[0]), Image.Resampling.LANCZOS))

    def mask(self, mask_HW: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The same part of a mask of any size."""
        return _resized(self._cut(_resized(mask_HW, self.size)), self.to)

    def said(self, name: str) -> list[str]:
        """What `frame` does."""
        before, said = (self.part.height, self.part.width), list[str]()
        if before != self.size:
            said.append(f"{name}: cropped from {_told(self.size)} to its middle {_told(before)}")
        if before != self.to:
            said.append(f"{name}: scaled from {_told(before)} to {_told(self.to)}")
        return said

    def _cut(self, frame: NDArray[S]) -> NDArray[S]:
        left, top, width, height = self.part
        return frame[top : top + height, left : left + width]


class Fitted(NamedTuple):
    """An input in the model's geometry."""

    frames_THWC: NDArray[np.uint8]
    """Of an image, T is 1."""
    said: list[str]
    framing: Framing
    fps: Fraction
    """Of a video's frames."""


def read_image(path: str, name: str = "image") -> NDArray[np.uint8]:
    """(H, W, 3), upright.

    Raises:
        InputError: No such file, or no image.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except FileNotFoundError as error:
        raise InputError(f"{name} {path}: no such file") from error
    # What Pillow's readers raise for damaged files of one format or another.
    except (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError) as error:
        raise InputError(f"{name} {path}: not a readable image: {error}") from error


def fit_image(path: str, geometry: Geometry) -> Fitted:
    """Crop the centred square and scale it.

    Raises:
        InputError: No such file, or no image.
    """
    frame_HWC = read_image(path)
    framing = Framing.of(_size(frame_HWC), (geometry.size_px, geometry.size_px))
    return Fitted(framing.frame(frame_HWC)[None], framing.said("image"), framing, geometry.fps)


def fit_video(path: str, geometry: Geometry) -> Fitted:
    """Crop, scale, and take the frame that is shown at each of the geometry's times; a short video stays at its end.

    Raises:
        InputError: No such file, or no video.
    """
    square = geometry.size_px, geometry.size_px
    return _cut(
        path, lambda footage: footage.at(geometry.num_frames, geometry.fps), lambda size: Framing.of(size, square)
    )


def fit_clip(path: str, wish: Wish, size_px: int) -> Fitted:
    """A video of its own length and rate where nothing else is wished, its centred square scaled.

    Raises:
        InputError: No such file, or no video.
    """
    return _cut(path, lambda footage: footage.wished(wish), lambda size: Framing.of(size, (size_px, size_px)))


class Laid(NamedTuple):
    """A video on outpainting's canvas."""

    frames_THWC: NDArray[np.uint8]
    place: Place
    said: list[str]


def fit_on_canvas(path: str, box: str | None, geometry: Geometry) -> Laid:
    """A video for its box on the canvas: whole where the box has its aspect, else the middle of it; never stretched.

    Args:
        path: The video.
        box: `x,y,w,h` on the canvas; None: the middle, in the video's aspect.
        geometry: Of the canvas.

    Raises:
        InputError: No such file, no video, not a box, or one that leaves the canvas.
    """
    places: list[Place] = []

    def plan(size: tuple[int, int]) -> Framing:
        places.append(place_box(box, geometry.size_px, size))
        return Framing.of(size, (places[0].height, places[0].width))

    fitted = _cut(path, lambda footage: footage.at(geometry.num_frames, geometry.fps), plan)
    place = places[0]
    laid = (
        f"video: {place.width}x{place.height} pixels of it lie {place.left} from the left and {place.top} from the top "
        f"of the canvas of {geometry.size_px}x{geometry.size_px}"
    )
    return Laid(fitted.frames_THWC, place, [*fitted.said, laid])


def fit_mask(mask: str, like: Framing, geometry: Geometry) -> tuple[NDArray[np.bool_], list[str]]:
    """True where something is to be made: white in a mask's image or video, or inside a box. (T, H, W).

    Args:
        mask: `x,y,w,h`, or a file.
        like: Of the input that it belongs to: the mask is cropped and scaled in the same way.
        geometry: As for the input.

    Raises:
        InputError: No such file, another kind of file, or a box outside the input.
    """
    box, suffix = parse_box(mask), Path(mask).suffix.lower()
    if box is not None:
        mask_HW, said = drawn(mask, box, like.size)
        frames_THW = like.mask(mask_HW)[None]
    elif suffix in VIDEOS:
        frames_THW, said = _mask_of_video(mask, like, geometry)
    elif suffix in IMAGES:
        image_HWC = read_image(mask, "mask")
        said = _mask_said(_size(image_HWC), like)
        frames_THW = like.mask(image_HWC[..., 0] >= _WHITE)[None]
    else:
        raise InputError(f"mask {mask}: a box x,y,w,h, an image or a video is expected; known are {IMAGES + VIDEOS}")
    if not frames_THW.any():
        said.append("mask: nothing of it is left in the cropped square")
    return np.broadcast_to(frames_THW, (geometry.num_frames, *frames_THW.shape[1:])).copy(), said


def _mask_of_video(path: str, like: Framing, geometry: Geometry) -> tuple[NDArray[np.bool_], list[str]]:
    sizes: list[tuple[int, int]] = []

    def keep(frame_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        sizes.append(_size(frame_HWC))
        return like.mask(frame_HWC[..., 0] >= _WHITE).astype(np.uint8)

    with open_footage(path, "mask") as footage:
        times = footage.at(geometry.num_frames, geometry.fps)
        frames_THW = footage.frames(times, keep)
    return frames_THW.astype(bool), times.said + _mask_said(sizes[0], like)


def _mask_said(size: tuple[int, int], like: Framing) -> list[str]:
    return [] if size == like.size else [f"mask: scaled from {_told(size)} to its input's {_told(like.size)}"]


def _cut(path: str, when: Callable[[Footage], Times], plan: Callable[[tuple[int, int]], Framing]) -> Fitted:
    """The frames of a video at some times, all cut as its first one asks for."""
    framings: list[Framing] = []

    def keep(frame_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if not framings:
            framings.append(plan(_size(frame_HWC)))
        return framings[0].frame(frame_HWC)

    with open_footage(path) as footage:
        times = when(footage)
        frames_THWC = footage.frames(times, keep)
    (framing,) = framings  # a video without a frame was refused
    return Fitted(frames_THWC, times.said + framing.said("video"), framing, times.fps)


def _resized(mask_HW: NDArray[np.bool_], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A pixel is in the mask where half of what it shows is."""
    if mask_HW.shape == size:
        return mask_HW
    image = Image.fromarray(mask_HW.astype(np.uint8) * 255)
    return np.asarray(image.resize((size[1], size[0]), Image.Resampling.BOX)) >= _WHITE


def _size(frame_HWC: NDArray[np.uint8]) -> tuple[int, int]:
    return frame_HWC.shape[0], frame_HWC.shape[1]


def _told(size: tuple[int, ...]) -> str:
    return f"{size[1]}x{size[0]}"
