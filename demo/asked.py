"""What is asked of the demo's STUNet when it is measured, task by task.

Shape letters: B videos, C channels, T frames, H height, W width.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from demo.clips import NUM_FRAMES, Held
from demo.scene import COLORS
from demo.train_clip import FRAME_PX
from stunet import conditions
from stunet.conditions import Known
from stunet.tasks import moving_box

_FILL = slice(8, 24)
"""Rows and columns of the box that inpainting fills."""
_KNOWN = slice(5, 27)
"""Rows and columns that outpainting knows."""


class Asked(NamedTuple):
    """A batch of videos to make."""

    captions: list[str]
    known: Known | None = None
    source_BCTHW: Tensor | None = None
    """Videos to stylise."""
    alpha: float | None = None
    """Of the style that is worn."""


Task = Callable[[Sequence[Held], Tensor], Asked]
"""From held-out scenes and their clips, (B, C, T, H, W)."""


def tasks() -> dict[str, Task]:
    """By name."""
    return {
        "text_to_video": lambda held, _: Asked(_captions(held)),
        "image_to_video": lambda held, clips: Asked(
            _captions(held), conditions.image_to_video(clips[:, :, 0], NUM_FRAMES)
        ),
        "inpainting": _inpainting,
        "object_replacement": _object_replacement,
        "outpainting": _outpainting,
        "cinemagraph": _cinemagraph,
        "stylisation": lambda held, clips: Asked([recoloured(one) for one in held], source_BCTHW=clips),
        "style-0.5": lambda held, _: Asked(_captions(held), alpha=0.5),
        "style-1.0": lambda held, _: Asked(_captions(held), alpha=1.0),
    }


def recoloured(held: Held) -> str:
    """The caption with the next colour in it: what a stylised clip shall show, all else as it is."""
    names = list(COLORS)
    own = held.scene.color
    return held.caption.replace(own, names[(names.index(own) + 1) % len(names)])


def _captions(held: Sequence[Held]) -> list[str]:
    return [one.caption for one in held]


def _inpainting(held: Sequence[Held], clips: Tensor) -> Asked:
    fill = torch.zeros_like(clips[:, :1])
    fill[..., _FILL, _FILL] = 1
    return Asked(_captions(held), conditions.inpainting(clips, fill))


def _object_replacement(held: Sequence[Held], clips: Tensor) -> Asked:
    """Where the thing passes is made anew, with another colour asked for."""
    regions_B1HW = _moving_regions(clips)
    fill = regions_B1HW.unsqueeze(2).expand(-1, -1, NUM_FRAMES, -1, -1)
    return Asked([recoloured(one) for one in held], conditions.inpainting(clips, fill))


def _outpainting(held: Sequence[Held], clips: Tensor) -> Asked:
    place = (_KNOWN.start, _KNOWN.start)
    return Asked(_captions(held), conditions.outpainting(clips[..., _KNOWN, _KNOWN], (FRAME_PX, FRAME_PX), place))


def _cinemagraph(held: Sequence[Held], clips: Tensor) -> Asked:
    return Asked(_captions(held), conditions.cinemagraph(clips[:, :, 0], _moving_regions(clips), NUM_FRAMES))


def _moving_regions(clips: Tensor) -> Tensor:
    """(B, 1, H, W): 1 in the box around all that moves."""
    return torch.cat([moving_box(clip[None], margin=0.05) for clip in clips])
