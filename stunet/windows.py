"""MultiDiffusion over temporal windows (Lumiere, section 3.2; arXiv 2302.08113).

At each denoising step the predictions of overlapping windows are averaged, the solution of
argmin_J' sum_i ||J'_i - Phi(J_i)||^2, and ONE scheduler step is made with the average.
Shape letters: B batch, C channels, T frames, H height, W width.
"""

import torch
from torch import Tensor

from stunet.sampler import Denoiser, Prompts


def window_starts(num_frames: int, window: int, overlap: int) -> list[int]:
    """First frames of the windows that cover a video; the last one ends with it.

    Raises:
        ValueError: The overlap is not shorter than the window.
    """
    if not 0 <= overlap < window:
        raise ValueError(f"overlap: 0 to {window - 1} frames expected for windows of {window}, given {overlap}")
    if num_frames <= window:
        return [0]
    inner = range(0, num_frames - window, window - overlap)
    return [*inner, num_frames - window]


def windowed(denoiser: Denoiser, window: int = 16, overlap: int = 2) -> Denoiser:
    """A denoiser for videos longer than `window`: all windows in one batch, averaged where they overlap.

    Wrap the guided denoiser, so that what is averaged is the guided prediction.
    """

    def predict(video_BCTHW: Tensor, timestep_B: Tensor, prompts: Prompts) -> Tensor:
        batch, _, num_frames = video_BCTHW.shape[:3]
        starts = window_starts(num_frames, window, overlap)
        pieces = torch.cat([video_BCTHW[:, :, start : start + window] for start in starts])
        predictions = denoiser(pieces, timestep_B.repeat(len(starts)), _repeated(prompts, len(starts))).split(batch)
        total = predictions[0].new_zeros((batch, predictions[0].shape[1], *video_BCTHW.shape[2:]))
        count_T = total.new_zeros(num_frames)
        for start, prediction in zip(starts, predictions, strict=True):
            total[:, :, start : start + window] += prediction
            count_T[start : start + window] += 1
        return total / count_T[:, None, None]

    return predict


def _repeated(prompts: Prompts, times: int) -> Prompts:
    null = prompts.null_text_BLD
    return Prompts(prompts.text_BLD.repeat(times, 1, 1), null if len(null) == 1 else null.repeat(times, 1, 1))
