"""MultiDiffusion over temporal windows (Lumiere, section 3.2; arXiv 2302.08113).

At each denoising step the predictions of overlapping windows are averaged, the solution of
argmin_J' sum_i ||J'_i - Phi(J_i)||^2, and ONE scheduler step is made with the average.
Shape letters: B batch, C channels, T frames, H height, W width.
"""

import torch
from torch import Tensor

from stunet.sampler import Denoiser, Prompts, repeated


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
        pieces = _cut(video_BCTHW, starts, window)
        predictions = denoiser(pieces, timestep_B.repeat(len(starts)), _cut_prompts(prompts, starts, window))
        total = predictions.new_zeros((batch, predictions.shape[1], *video_BCTHW.shape[2:]))
        count_T = total.new_zeros(num_frames)
        for start, prediction in zip(starts, predictions.split(batch), strict=True):
            total[:, :, start : start + window] += prediction
            count_T[start : start + window] += 1
        return total / count_T[:, None, None]

    return predict


def seam_ratio(video_BCTHW: Tensor, window: int, overlap: int) -> float:
    """How much more frames change where windows begin and end than elsewhere; 1: as much, no seam is seen.

    Mean absolute difference of the neighbouring frames between which a window begins or ends, over that of all others.

    Raises:
        ValueError: The video is one window, or nothing but borders.
    """
    num_frames = video_BCTHW.shape[2]
    starts = window_starts(num_frames, window, overlap)
    is_border_T = torch.zeros(num_frames - 1, dtype=torch.bool)
    for start in starts:
        for frame in (start, start + window):
            if 0 < frame < num_frames:
                is_border_T[frame - 1] = True
    if is_border_T.all() or not is_border_T.any():
        raise ValueError(f"window {window}, overlap {overlap}: some borders expected in a video of {num_frames} frames")
    change_T = video_BCTHW.float().diff(dim=2).abs().mean((0, 1, 3, 4)).cpu()
    return float(change_T[is_border_T].mean() / change_T[~is_border_T].mean().clamp(min=1e-8))


def _cut(video_BCTHW: Tensor, starts: list[int], window: int) -> Tensor:
    """All windows of all videos in one batch: the first window of each video, then the second of each, ..."""
    return torch.cat([video_BCTHW[:, :, start : start + window] for start in starts])


def _cut_prompts(prompts: Prompts, starts: list[int], window: int) -> Prompts:
    null, beside, times = prompts.null_text_BLD, prompts.beside_BKTHW, len(starts)
    null_times = 1 if len(null) == 1 else times
    return Prompts(
        repeated(prompts.text_BLD, times),
        repeated(null, null_times),
        None if beside is None else _cut(beside, starts, window),
        repeated(prompts.others, times),
        repeated(prompts.null_others, null_times),
    )
