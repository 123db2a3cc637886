"""Keep the predicted video in its range while it is denoised (Imagen, arXiv 2205.11487, section 2.3).

One bound a video, never one a frame: that would flicker. Shape letters: B batch, C channels, T frames, H, W pixels.
"""

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor

_MOST_VALUES = 2**24
"""`torch.quantile` takes no more; of a longer video every n-th value is looked at."""

Kind = Literal["none", "static", "dynamic"]


def thresholded(denoiser: Callable[..., Tensor], scheduler: Any, kind: Kind, quantile: float) -> Any:
    """A denoiser whose prediction stands for a video within its range.

    The prediction is turned into the video x0 that it stands for, x0 is clipped, and turned back into a prediction of
    the same type. Wrap it around windows, so that the bound is the whole video's.

    Args:
        denoiser: `sampler.Denoiser`.
        scheduler: The backbone's: `alphas_cumprod` and the prediction type.
        kind: `static` clips x0 to [-1, 1]; `dynamic` to the video's own quantile s of |x0|, at least 1, and divides
            by s; `none` returns the denoiser as it is.
        quantile: Of `dynamic`, in (0, 1].

    Raises:
        ValueError: A prediction type other than epsilon, v_prediction and sample, at the first call.
    """
    if kind == "none":
        return denoiser

    def predict(video_BCTHW: Tensor, timestep_B: Tensor, prompts: Any) -> Tensor:
        prediction = denoiser(video_BCTHW, timestep_B, prompts)
        alpha_B = scheduler.alphas_cumprod.to(video_BCTHW.device).double()[timestep_B.long()]
        signal, noise = (value.float()[:, None, None, None, None] for value in (alpha_B.sqrt(), (1 - alpha_B).sqrt()))
        clean = clipped(
            _clean(prediction, video_BCTHW, signal, noise, scheduler.config.prediction_type), kind, quantile
        )
        return _told(clean, video_BCTHW, signal, noise, scheduler.config.prediction_type)

    return predict


def clipped(clean_BCTHW: Tensor, kind: Kind, quantile: float) -> Tensor:
    """x0 within its bound, video by video; `dynamic` is also scaled to [-1, 1]."""
    if kind == "static":
        return clean_BCTHW.clamp(-1, 1)
    size_BN = clean_BCTHW.abs().flatten(1)
    stride = -(-size_BN.shape[1] // (_MOST_VALUES // len(size_BN)))
    bound_B = size_BN[:, ::stride].float().quantile(quantile, dim=1).clamp(min=1.0)
    bound = bound_B[:, None, None, None, None]
    return clean_BCTHW.clamp(-bound, bound) / bound


def _clean(prediction: Tensor, noisy: Tensor, signal: Tensor, noise: Tensor, kind: str) -> Tensor:
    """x0 that a prediction stands for: noisy = signal x0 + noise epsilon, v = signal epsilon - noise x0."""
    match kind:
        case "epsilon":
            return (noisy - noise * prediction) / signal
        case "v_prediction":
            return signal * noisy - noise * prediction
        case "sample":
            return prediction
        case other:
            raise ValueError(f"prediction_type: epsilon, v_prediction or sample expected, given {other!r}")


def _told(clean: Tensor, noisy: Tensor, signal: Tensor, noise: Tensor, kind: str) -> Tensor:
    """The prediction that stands for x0."""
    match kind:
        case "epsilon":
            return (noisy - signal * clean) / noise
        case "v_prediction":
            return (signal * noisy - clean) / noise
        case _:
            return clean
