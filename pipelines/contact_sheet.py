"""Contact sheets: many short videos on one picture, a row each, evenly spaced frames from left to right."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_INK = (32, 32, 36)
_PAPER = (255, 255, 255)
_GAP_PX = 4
_LABEL_PX = 18


def contact_sheet(
    videos: Sequence[NDArray[np.uint8]], labels: Sequence[str], frames_per_video: int = 8, cell_px: int = 96
) -> NDArray[np.uint8]:
    """Draw one row a video, with its label above it.

    Args:
        videos: (T, H, W, 3) uint8 each; lengths and sizes may differ.
        labels: One a video; cut to the sheet's width.
        frames_per_video: Frames drawn, evenly spaced from the first to the last.
        cell_px: Side of a cell in pixels; frames keep their aspect ratio inside it.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: No video, or another number of labels than of videos.
    """
    if not videos or len(videos) != len(labels):
        raise ValueError(f"one label a video and at least one video expected, given {len(videos)} and {len(labels)}")
    row_px = _LABEL_PX + cell_px + _GAP_PX
    width = frames_per_video * (cell_px + _GAP_PX) + _GAP_PX
    sheet = Image.new("RGB", (width, len(videos) * row_px + _GAP_PX), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for row, (frames_THWC, label) in enumerate(zip(videos, labels, strict=True)):
        top = row * row_px
        draw.text((_GAP_PX, top + 2), _fit(draw, label, font, width - 2 * _GAP_PX), fill=_INK, font=font)
        for column, index in enumerate(np.linspace(0, len(frames_THWC) - 1, frames_per_video).round().astype(int)):
            cell = _cell(frames_THWC[index], cell_px)
            left = _GAP_PX + column * (cell_px + _GAP_PX)
            sheet.paste(cell, (left + (cell_px - cell.width) // 2, top + _LABEL_PX + (cell_px - cell.height) // 2))
    return np.asarray(sheet)


def _cell(frame_HWC: NDArray[np.uint8], cell_px: int) -> Image.Image:
    image = Image.fromarray(frame_HWC)
    scale = cell_px / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS)


def _fit(
    draw: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: int
) -> str:
    line = " ".join(text.split())
    if draw.textlength(line, font=font) <= width_px:
        return line
    while line and draw.textlength(line + "…", font=font) > width_px:
        line = line[:-1]
    return line + "…"
