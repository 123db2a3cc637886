"""From a request's files to C and M of <J, C, M> (section 4), in pixels.

Shape letters: C channels, T frames, H height, W width.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipelines.generation.inputs import Geometry, fit_image, fit_mask, fit_video, place_box, scaled
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


def knowledge(request: Request, geometry: Geometry) -> Knowledge:
    """C and M of a request; nothing is known for text alone.

    Raises:
        InputError: A file or a box that cannot be used.
    """
    return _TASKS[request["task"]](request, geometry)


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
    fill_THW, said = fit_mask(_given(request, "mask"), video, geometry)
    return Knowledge(conditions.inpainting(to_tensor(video.frames_THWC), _mask(fill_THW)), video.said + said)


def _outpainting(request: Request, geometry: Geometry) -> Knowledge:
    video = fit_video(_given(request, "video"), geometry)
    left, top, width, height = place_box(request["mask"], geometry.size_px)
    small = to_tensor(scaled(video.frames_THWC, width, height))
    said = f"video: scaled to {width}x{height} and laid {left} from the left and {top} from the top of the canvas"
    side = geometry.size_px
    return Knowledge(conditions.outpainting(small, (side, side), (top, left)), [*video.said, said])


def _cinemagraph(request: Request, geometry: Geometry) -> Knowledge:
    image = fit_image(_given(request, "image"), geometry)
    moving_THW, said = fit_mask(_given(request, "mask"), image, geometry)
    image_BCHW, moving_B1HW = to_tensor(image.frames_THWC)[:, :, 0], _mask(moving_THW)[:, :, 0]
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
