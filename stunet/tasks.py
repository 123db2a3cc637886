"""Tasks drawn at random for training (Lumiere, section 4): one model learns them all.

What a sample's task is, and its mask, is a function of (seed, global sample index) and of the video alone. Shape
letters: B batch, C channels, T frames, H height, W width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from stunet.conditions import Known, cinemagraph, image_to_video, inpainting, nothing
from stunet.objective import sample_rng

_STREAM = 1
"""Of chance: noise, timestep and dropout of the same sample have stream 0."""
_FILL_SIDES = (0.35, 0.85)
"""Sides of a box to fill, as shares of the frame's."""
_KNOWN_SIDES = (0.5, 0.85)
"""Sides of the box that outpainting knows."""
_CHANGE = 0.08
"""A pixel moves where it differs more from frame 0 (of a range of 2): codecs change less."""
_MARGIN = 0.15
"""Of a cinemagraph's region around what moves, in sides of the frame, at most."""


@dataclass(frozen=True)
class TaskConfig:
    """How often each task is drawn; shares are relative to their sum.

    Attributes:
        text_to_video: Nothing is known.
        image_to_video: Frame 0 is known.
        inpainting: All but a box is known. Object replacement is the same.
        outpainting: A box is known.
        cinemagraph: Frame 0 is known, and on the others all but a box around what moves, which stands still.
        dropout: Share of the samples of all tasks whose C and M are taken away.
    """

    text_to_video: float = 1.0
    image_to_video: float = 0.0
    inpainting: float = 0.0
    outpainting: float = 0.0
    cinemagraph: float = 0.0
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.dropout <= 1.0:
            raise ValueError(f"dropout: 0 to 1 expected, given {self.dropout}")
        if min(self.shares.values()) < 0 or sum(self.shares.values()) <= 0:
            raise ValueError(f"tasks: shares of at least 0 and one above it expected, given {self.shares}")

    @property
    def shares(self) -> dict[str, float]:
        """Share by task."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name != "dropout"}


class Drawn(NamedTuple):
    """A batch and what is known of it."""

    video_BCTHW: Tensor
    """To be learned: as it was given, but for cinemagraphs, which stand still outside their region."""
    known: Known
    names: list[str]
    """The task of each sample."""


def draw_tasks(seed: int, sample_indices: Sequence[int], video_BCTHW: Tensor, config: TaskConfig) -> Drawn:
    """Draw a task and a mask for each sample of a batch.

    Args:
        seed: Of the training run.
        sample_indices: Global indices of the samples; B of them.
        video_BCTHW: Pixels in [-1, 1].
        config: `TaskConfig`.
    """
    shares = config.shares
    videos, knowns, names = list[Tensor](), list[Known](), list[str]()
    for index, video_CTHW in zip(sample_indices, video_BCTHW, strict=True):
        rng = sample_rng(seed, index, _STREAM)
        place, chance = torch.rand(2, generator=rng, dtype=torch.float64).tolist()
        name = _at(shares, place)
        video_1CTHW, known = _TASKS[name](video_CTHW[None], rng)
        if chance < config.dropout:
            known = nothing(video_1CTHW)
        videos.append(video_1CTHW)
        knowns.append(known)
        names.append(name)
    c_BCTHW, m_B1THW = (torch.cat(values) for values in zip(*knowns, strict=True))
    return Drawn(torch.cat(videos), Known(c_BCTHW, m_B1THW), names)


def moving_box(video_1CTHW: Tensor, margin: float) -> Tensor:
    """(1, 1, H, W): 1 in the box around all pixels that change over time, and `margin` sides of the frame around it."""
    change_HW = (video_1CTHW - video_1CTHW[:, :, :1]).abs().amax((0, 1, 2))
    box_11HW = torch.zeros_like(change_HW)[None, None]
    moving = change_HW > _CHANGE
    rows, columns = moving.any(1).nonzero(), moving.any(0).nonzero()
    if not len(rows):
        return box_11HW
    height, width = change_HW.shape
    down, across = round(margin * height), round(margin * width)
    top, bottom = int(rows[0]) - down, int(rows[-1]) + 1 + down
    left, right = int(columns[0]) - across, int(columns[-1]) + 1 + across
    box_11HW[..., max(0, top) : bottom, max(0, left) : right] = 1
    return box_11HW


def _text_to_video(video: Tensor, rng: torch.Generator) -> tuple[Tensor, Known]:
    return video, nothing(video)


def _image_to_video(video: Tensor, rng: torch.Generator) -> tuple[Tensor, Known]:
    return video, image_to_video(video[:, :, 0], video.shape[2])


def _inpainting(video: Tensor, rng: torch.Generator) -> tuple[Tensor, Known]:
    return video, inpainting(video, _box(video, _FILL_SIDES, rng))


def _outpainting(video: Tensor, rng: torch.Generator) -> tuple[Tensor, Known]:
    return video, inpainting(video, 1 - _box(video, _KNOWN_SIDES, rng))


def _cinemagraph(video: Tensor, rng: torch.Generator) -> tuple[Tensor, Known]:
    region_11HW = moving_box(video, _MARGIN * float(torch.rand(1, generator=rng)))
    still = video[:, :, :1]
    calm = torch.where(region_11HW[:, :, None] > 0, video, still)
    return calm, cinemagraph(still[:, :, 0], region_11HW, video.shape[2])


_TASKS: dict[str, Callable[[Tensor, torch.Generator], tuple[Tensor, Known]]] = {
    "text_to_video": _text_to_video,
    "image_to_video": _image_to_video,
    "inpainting": _inpainting,
    "outpainting": _outpainting,
    "cinemagraph": _cinemagraph,
}


def _box(video: Tensor, sides: tuple[float, float], rng: torch.Generator) -> Tensor:
    """(1, 1, T, H, W): 1 in a box at a place of its own, the same on all frames."""
    box = torch.zeros_like(video[:, :1])
    cut: list[slice] = []
    for length in video.shape[-2:]:
        share, place = torch.rand(2, generator=rng).tolist()
        side = max(1, round((sides[0] + share * (sides[1] - sides[0])) * length))
        start = round(place * (length - side))
        cut.append(slice(start, start + side))
    box[..., cut[0], cut[1]] = 1
    return box


def _at(shares: dict[str, float], place: float) -> str:
    """The task at a place in [0, 1) of the shares laid end to end."""
    left = place * sum(shares.values())
    for name, share in shares.items():
        left -= share
        if left < 0:
            return name
    return [name for name, share in shares.items() if share > 0][-1]
