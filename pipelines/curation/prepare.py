"""What touches a clip's foreign bytes, in one call: decode, measure, encode, and pictures for alignment.

It takes bytes and gives bytes and numbers, so that it can run in a process of its own (`pipelines.curation.isolation`),
and imports nothing heavy: no torch, no Ray, no tracker.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pipelines.curation.config import Recipe
from pipelines.curation.decode import Span, decode
from pipelines.curation.filters import bar_lines, brightest_channel, measure
from pipelines.curation.near_duplicates import fingerprint
from pipelines.curation.records import NO_BARS, Measures, Rejection, SourceFacts
from pipelines.curation.timeline import evenly_spaced
from pipelines.video_file import encode_yuv_mp4

_JPEG_QUALITY = 95


class PreparedClip(NamedTuple):
    """All that is left of a clip once its frames are gone."""

    mp4: bytes
    """Frames at the data set's rate and size, H.264."""
    measures: Measures
    crop: tuple[int, int, int, int]
    """Left, top, width, height of the part that is kept, in pixels of the upright source picture, made square."""
    fingerprint: bytes
    """By which near duplicates are found."""
    align_jpegs: tuple[bytes, ...]
    """The frames that alignment looks at; empty where it was not asked for."""


class Preparation(NamedTuple):
    """What became of a clip, and what was learnt about its source either way."""

    result: PreparedClip | Rejection
    facts: SourceFacts


Prepare = Callable[[bytes, Span, int], Preparation]
"""(source, span, number of frames that alignment looks at) -> `Preparation`; here, or in another process."""


def prepare(source: bytes, span: Span, num_align_frames: int, recipe: Recipe) -> Preparation:
    """Turn a source's bytes into what the data set keeps of it, or say why not."""
    decoded, facts = decode(source, span, recipe)
    if isinstance(decoded, Rejection):
        return Preparation(decoded, facts)
    frames_THWC = decoded.yuv.to_rgb()
    bars = bar_lines(brightest_channel(frames_THWC)) if recipe.letterbox == "crop" else NO_BARS
    if any(bars):
        decoded, facts = decode(source, span, recipe, bars)
        if isinstance(decoded, Rejection):
            return Preparation(decoded, facts)
        frames_THWC = decoded.yuv.to_rgb()
    chosen = evenly_spaced(len(frames_THWC), num_align_frames)
    clip = PreparedClip(
        mp4=encode_yuv_mp4(decoded.yuv, recipe.rate),
        measures=measure(frames_THWC),
        crop=decoded.crop,
        fingerprint=fingerprint(frames_THWC),
        align_jpegs=tuple(encode_jpeg(frames_THWC[index]) for index in chosen),
    )
    return Preparation(clip, facts)


def encode_jpeg(frame_HWC: NDArray[np.uint8]) -> bytes:
    """One RGB frame as JPEG, quality 95: near enough to the frame for an embedding, a tenth of its bytes."""
    done, jpeg = cv2.imencode(
        ".jpg", frame_HWC[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1]
    )
    assert done, "a uint8 RGB picture can always be written as JPEG"
    return jpeg.tobytes()


def decode_jpegs(jpegs: Sequence[bytes]) -> NDArray[np.uint8]:
    """(K, H, W, 3) RGB of K pictures that `encode_jpeg` wrote: what an `Aligner` scores, in the task or elsewhere."""
    return np.stack([_decode_jpeg(jpeg) for jpeg in jpegs])


def _decode_jpeg(jpeg: bytes) -> NDArray[np.uint8]:
    picture_HWC = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture_HWC is not None, "what encode_jpeg wrote can be read"
    return picture_HWC[..., ::-1].astype(np.uint8, copy=False)
