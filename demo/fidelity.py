"""How faithful a clip is to its prompt, by what is read out of the pixels: the metric `shapes` of `jobs/score.py`.

Shape letters: T frames in time, H height, W width, C channels (RGB).
"""

import numpy as np
from numpy.typing import NDArray

from demo.captions import words
from demo.readout import ReadOut, read_out
from demo.scene import COLORS, MOTIONS, SHAPES

_VERTICAL = {"up": "up", "upwards": "up", "down": "down", "downwards": "down"}
_HORIZONTAL = ("left", "right")


def fidelity(frames_THWC: NDArray[np.uint8], prompt: str) -> dict[str, float]:
    """1 for what the clip shows as the prompt says it, else 0; only what the prompt names is there.

    Args:
        frames_THWC: (T, H, W, 3) uint8 RGB.
        prompt: In the words of the demo's captions.

    Returns:
        Some of `color`, `shape`, `motion`, each 0.0 or 1.0.
    """
    return compare(said(prompt), read_out(frames_THWC))


def said(prompt: str) -> ReadOut:
    """What a prompt says; None for what it does not name."""
    present = words(prompt)
    vertical = next((_VERTICAL[word] for word in present if word in _VERTICAL), None)
    horizontal = next((word for word in present if word in _HORIZONTAL), None)
    motion = "-".join(part for part in (vertical, horizontal) if part)
    return ReadOut(
        color=next((word for word in present if word in COLORS), None),
        shape=next((word for word in present if word in SHAPES), None),
        motion=motion if motion in MOTIONS else None,
    )


def compare(wanted: ReadOut, seen: ReadOut) -> dict[str, float]:
    """1 for each wanted thing that is seen, 0 for each that is not."""
    pairs = zip(ReadOut._fields, wanted, seen, strict=True)
    return {name: float(want == found) for name, want, found in pairs if want is not None}
