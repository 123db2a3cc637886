"""Keep the predicted video in its range while it is denoised (Imagen, arXiv 2205.11487, section 2.3).

One bound a video, never one a frame: that would flicker. Shape letters: B batch, C channels, T frames, H, W pixels.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from torch import Tensor

_MOST_VALUES = 2**24
"""`torch.quantile` takes no more; of a longer video every n-th value is looked at."""
_PIXEL_CHANNELS = 3
_LEAST_SIGNAL = 1e-6
"""Of sqrt(alpha_bar), far below that of a cosine schedule's end (5e-5): without any signal epsilon tells no video."""

Kind = Literal["auto", "none", "static", "dynamic"]


class Bound(NamedTuple):
    """How the predicted video is kept in its range."""

    kind: Kind
    quantile: float = 1.0
    """Of `dynamic`, in (0, 1]."""
    most: float = math.inf
    """The largest s of `dynamic`."""


def resolved(kind: Kind, scheduler: Any, quantile: float, channels: int) -> Bound:
    """What is asked, or, for `auto`, what the backbone's scheduler says.

    `auto` is dynamic where the backbone works on pixels and its scheduler's configuration has `thresholding: true`
    (DeepFloyd IF), with the quantile `dynamic_thresholding_ratio` and with s at most `sample_max_value`; else it is
    none. `clip_sample: true` does not count: diffusers writes it into every scheduler of which nobody said otherwise.

    Args:
        kind: What is asked.
        scheduler: The backbone's.
        quantile: Of `dynamic`.
        channels: C of the U-Net's space.

    Raises:
        ValueError: Static or dynamic thresholding of latents.
    """
    check_space(kind, channels)
    if kind != "auto":
        return Bound(kind, quantile)
    config = scheduler.config
    if channels != _PIXEL_CHANNELS or not config.get("thresholding", False):
        return Bound("none")
    return Bound("dynamic", config["dynamic_thresholding_ratio"], config["sample_max_value"])


def check_space(kind: Kind, channels: int) -> None:
    """Refuse to threshold latents: they reach 4 and more, and [-1, 1] is the range of pixels.

    Raises:
        ValueError: Static or dynamic thresholding where C is not 3.
    """
    if kind in ("static", "dynamic") and channels != _PIXEL_CHANNELS:
        raise ValueError(
            f"thresholding: none or auto expected in latent space, given {kind}: it is for pixels of "
            f"{_PIXEL_CHANNELS} channels, these are latents of {channels}"
        )


def thresholded(denoiser: Callable[..., Tensor], scheduler: Any, kind: Kind, quantile: float) -> Any:
    """A denoiser whose prediction stands for a video within its range.

    The prediction is turned into the video x0 that it stands for, x0 is clipped, and turned back into a prediction of
    the same type. Wrap it around windows, so that the bound is the whole video's.

    Args:
        denoiser: `sampler.Denoiser`.
        scheduler: The backbone's: `alphas_cumprod` and the prediction type.
        kind: `static` clips x0 to [-1, 1]; `dynamic` to the video's own quantile s of |x0|, at least 1, and divides
            by s; `none` changes nothing; `auto` is one of them, see `resolved`.
        quantile: Of `dynamic`, in (0, 1].

    Raises:
        ValueError: At the first call: latents, or a prediction type other than epsilon, v_prediction and sample.
    """
    if kind == "none":
        return denoiser

    def predict(video_BCTHW: Tensor, timestep_B: Tensor, prompts: Any) -> Tensor:
        bound = resolved(kind, scheduler, quantile, video_BCTHW.shape[1])
        prediction = denoiser(video_BCTHW, timestep_B, prompts)
        if bound.kind == "none":
            return prediction
        alpha_B = scheduler.alphas_cumprod.to(video_BCTHW.device).double()[timestep_B.long()]
        signal, noise = (value.float()[:, None, None, None, None] for value in (alpha_B.sqrt(), (1 - alpha_B).sqrt()))
        clean = clipped(_clean(prediction, video_BCTHW, signal, noise, scheduler.config.prediction_type), bound)
        return _told(clean, video_BCTHW, signal, noise, scheduler.config.prediction_type)

    return predict


def clipped(clean_BCTHW: Tensor, bound: Bound) -> Tensor:
    """x0 within its bound, video by video; `dynamic` is also scaled to [-1, 1]."""
    if bound.kind == "static":
        return clean_BCTHW.clamp(-1, 1)
    size_BN = clean_BCTHW.abs().flatten(1)
    stride = -(-size_BN.shape[1] // (_MOST_VALUES // len(size_BN)))
    bound_B = size_BN[:, ::stride].float().quantile(bound.quantile, dim=1).clamp(min=1.0, max=max(1.0, bound.most))
    most = bound_B[:, None, None, None, None]
    return clean_BCTHW.clamp(-most, most) / most


def _clean(prediction: Tensor, noisy: Tensor, signal: Tensor, noise: Tensor, kind: str) -> Tensor:
    """x0 that a prediction stands for: noisy = signal x0 + noise epsilon, v = signal epsilon - noise x0."""
    match kind:
        case "epsilon":
            return (noisy - noise * prediction) / signal.clamp(min=_LEAST_SIGNAL)
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
