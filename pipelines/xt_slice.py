"""X-T slices: one row of pixels over time. Steady motion is a slanted line, flicker is a stripe, a still is vertical.

Shape letters: T frames, H height, W width, C channels (RGB).
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.contact_sheet import contact_sheet


def xt_slice(frames_THWC: NDArray[np.uint8], side_px: int = 96) -> NDArray[np.uint8]:
    """The middle row of each frame, the first on top, as a square picture: (side, side, 3)."""
    rows_TWC = frames_THWC[:, frames_THWC.shape[1] // 2]
    picture = Image.fromarray(np.ascontiguousarray(rows_TWC)).resize((side_px, side_px), Image.Resampling.NEAREST)
    return np.asarray(picture)


def xt_sheet(videos: Sequence[NDArray[np.uint8]], labels: Sequence[str], cell_px: int = 96) -> NDArray[np.uint8]:
    """First, middle and last frame of each video, and its X-T slice, a row each.

    Raises:
        ValueError: Another number of labels than of videos, or no video.
    """
    rows: list[NDArray[np.uint8]] = []
    for frames_THWC in videos:
        chosen = [frames_THWC[0], frames_THWC[len(frames_THWC) // 2], frames_THWC[-1]]
        cells = [np.asarray(Image.fromarray(frame).resize((cell_px, cell_px))) for frame in chosen]
        rows.append(np.stack([*cells, xt_slice(frames_THWC, cell_px)]))
    return contact_sheet(rows, labels, frames_per_video=4, cell_px=cell_px)
