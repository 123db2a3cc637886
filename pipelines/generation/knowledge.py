"""From a request's files to what the models are given: C and M of <J, C, M> (section 4), or a video to work on, in
pixels.

Shape letters: C channels, T frames, H height, W width.
"""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.generation.inputs import (
    VIDEOS,
    Fitted,
    Geometry,
    fit_clip,
    fit_image,
    fit_mask,
    fit_on_canvas,
    fit_video,
)
from pipelines.generation.recipe import Enlargement
from pipelines.generation.requests import Request
from pipelines.pixels import to_unit
from stunet import conditions
from stunet.conditions import Known


class Knowledge(NamedTuple):
    """What is known of one video."""

    known: Known
    """One video's: (1, C, T, H, W) and (1, 1, T, H, W)."""
    said: list[str]
    """What was done to the inputs."""


class Source(NamedTuple):
    """A video to stylise or to enlarge."""

    video_1CTHW: Tensor
    """In [-1, 1]."""
    said: list[str]
    fps: Fraction


def knowledge(request: Request, geometry: Geometry) -> Knowledge:
    """C and M of a request; nothing is known for text alone.

    Raises:
        InputError: A file or a box that cannot be used.
    """
    return _TASKS[request["task"]](request, geometry)


def source(request: Request, geometry: Geometry) -> Source:
    """The video that is stylised, in the geometry of the model.

    Raises:
        InputError: A video that cannot be used.
    """
    return _source(fit_video(_given(request, "video"), geometry))


def low_source(request: Request, ssr: Enlargement) -> Source:
    """The video that is enlarged, of its own length and rate where nothing else is wished.

    Raises:
        InputError: A video that cannot be used.
    """
    fitted = fit_clip(_given(request, "video"), ssr.wish, ssr.low_px)
    side = fitted.framing.part.width
    if side > ssr.low_px:
        fitted.said.append(
            f"video: scaled down to the side that goes into the upscaler; ssr.low_size_px={side} enlarges all of its "
            f"pixels to {round(side * ssr.size_px / ssr.low_px)}"
        )
    return _source(fitted)


def _source(fitted: Fitted) -> Source:
    return Source(to_tensor(fitted.frames_THWC), fitted.said, fitted.fps)


def to_tensor(frames_THWC: NDArray[np.uint8]) -> Tensor:
    """uint8 frames to (1, C, T, H, W) in [-1, 1]."""
    return to_unit(frames_THWC).permute(3, 0, 1, 2)[None]


def _nothing(request: Request, geometry: Geometry) -> Knowledge:
    video = torch.zeros(1, 3, geometry.num_frames, geometry.size_px, geometry.size_px)
    return Knowledge(conditions.nothing(video), [])


def _image_to_video(request: Request, geometry: Geometry) -> Knowledge:
    image = fit_image(_given(request, "image"), geometry)
    return Knowledge(conditions.image_to_video(to_tensor(image.frames_THWC)[:, :, 0], geometry.num_frames), image.said)


def _inpainting(request: Request, geometry: Geometry) -> Knowledge:
    video = fit_video(_given(request, "video"), geometry)
    fill_THW, said = fit_mask(_given(request, "mask"), video.framing, geometry)
    return Knowledge(conditions.inpainting(to_tensor(video.frames_THWC), _mask(fill_THW)), video.said + said)


def _outpainting(request: Request, geometry: Geometry) -> Knowledge:
    laid, side = fit_on_canvas(_given(request, "video"), request["mask"], geometry), geometry.size_px
    known = conditions.outpainting(to_tensor(laid.frames_THWC), (side, side), (laid.place.top, laid.place.left))
    return Knowledge(known, laid.said)


def _cinemagraph(request: Request, geometry: Geometry) -> Knowledge:
    image, mask = fit_image(_given(request, "image"), geometry), _given(request, "mask")
    # The region does not change over time, so one frame of a mask is looked at.
    moving_1HW, said = fit_mask(mask, image.framing, geometry._replace(num_frames=1))
    if Path(mask).suffix.lower() in VIDEOS:
        said.append("mask: a cinemagraph's region stays where it is, the video's later frames are not looked at")
    image_BCHW, moving_B1HW = to_tensor(image.frames_THWC)[:, :, 0], _mask(moving_1HW)[:, :, 0]
    return Knowledge(conditions.cinemagraph(image_BCHW, moving_B1HW, geometry.num_frames), image.said + said)


_TASKS: dict[str, Callable[[Request, Geometry], Knowledge]] = {
    "text_to_video": _nothing,
    "image_to_video": _image_to_video,
    "inpainting": _inpainting,
    "object_replacement": _inpainting,
    "outpainting": _outpainting,
    "cinemagraph": _cinemagraph,
}


def _mask(mask_THW: NDArray[np.bool_]) -> Tensor:
    return torch.from_numpy(mask_THW)[None, None].float()


def _given(request: Request, name: str) -> str:
    value = request.get(name)
    assert isinstance(value, str)  # `read_requests` has looked
    return value
