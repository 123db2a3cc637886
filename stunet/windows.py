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


def windowed(denoiser: Denoiser, window: int = 16, overlap: int = 2, windows_per_batch: int | None = None) -> Denoiser:
    """A denoiser for videos longer than `window`: predictions of all windows, averaged where they overlap.

    Wrap the guided denoiser, so that what is averaged is the guided prediction.

    Args:
        denoiser: Of one window.
        window: Frames.
        overlap: Frames that neighbouring windows share.
        windows_per_batch: Windows of each video that pass the denoiser at once: less memory, the same average. None:
            all.

    Raises:
        ValueError: Less than 1 window at once; at the first call, an overlap that is not shorter than the window.
    """
    if windows_per_batch is not None and windows_per_batch < 1:
        raise ValueError(f"windows_per_batch: at least 1 expected, given {windows_per_batch}")

    def predict(video_BCTHW: Tensor, timestep_B: Tensor, prompts: Prompts) -> Tensor:
        batch, num_frames = video_BCTHW.shape[0], video_BCTHW.shape[2]
        starts = window_starts(num_frames, window, overlap)
        predictions: list[Tensor] = []
        for part in _parts(starts, windows_per_batch or len(starts)):
            pieces, given = _cut(video_BCTHW, part, window), _cut_prompts(prompts, part, window)
            predictions += denoiser(pieces, timestep_B.repeat(len(part)), given).split(batch)
        total = predictions[0].new_zeros((batch, predictions[0].shape[1], *video_BCTHW.shape[2:]))
        count_T = total.new_zeros(num_frames)
        for start, prediction in zip(starts, predictions, strict=True):
            total[:, :, start : start + window] += prediction
            count_T[start : start + window] += 1
        return total / count_T[:, None, None]

    return predict


def seams(num_frames: int, window: int, overlap: int) -> list[bool]:
    """For each frame but the first, whether a window begins with it or ends before it."""
    edges = {edge for start in window_starts(num_frames, window, overlap) for edge in (start, start + window)}
    return [frame in edges for frame in range(1, num_frames)]


def seam_ratio(video_BCTHW: Tensor, window: int, overlap: int) -> float:
    """How much more frames change where windows begin and end than elsewhere; 1: as much, no seam is seen.

    Mean absolute difference of the neighbouring frames between which a window begins or ends, over that of all others.

    Raises:
        ValueError: The video is one window, or nothing but borders: `seams` tells before.
    """
    num_frames = video_BCTHW.shape[2]
    is_border_T = torch.tensor(seams(num_frames, window, overlap), dtype=torch.bool)
    if is_border_T.all() or not is_border_T.any():
        raise ValueError(f"window {window}, overlap {overlap}: some borders expected in a video of {num_frames} frames")
    change_T = video_BCTHW.float().diff(dim=2).abs().mean((0, 1, 3, 4)).cpu()
    return float(change_T[is_border_T].mean() / change_T[~is_border_T].mean().clamp(min=1e-8))


def _parts(starts: list[int], size: int) -> list[list[int]]:
    return [starts[first : first + size] for first in range(0, len(starts), size)]


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
