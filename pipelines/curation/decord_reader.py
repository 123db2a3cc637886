"""The alternative frame reader: decord. Frames are chosen by the same timestamps; decord only decodes and scales.

decord 0.6 knows no AV1, hides nothing that an edit list hides, ignores rotation and flags no damage. Sources of the
first three kinds are left to PyAV; damaged frames pass silently, which is why PyAV is the default.
"""

import io
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pipelines.curation.container import Track, reject

_CODECS = ("h264", "hevc", "vp8", "vp9", "mpeg4")


def can_read(track: Track) -> bool:
    """Whether decord reads this source as PyAV does."""
    is_rotated = any(packet.has_sidedata("display_matrix") for packet in track.packets[:1]) or bool(
        track.stream.metadata.get("rotate")
    )
    is_square = track.stream.sample_aspect_ratio in (None, 0, 1)
    is_known = track.stream.codec_context.name in _CODECS
    return is_known and is_square and not is_rotated and not track.has_discarded_packets


def read_frames(track: Track, wanted: Sequence[int], size_px: int) -> list[NDArray[np.uint8]]:
    """A `FrameReader`.

    Raises:
        ClipRejectedError: `corrupt`, where decord gives up.
    """
    import decord

    scale = Fraction(size_px, min(track.stream.width, track.stream.height))
    width = max(size_px, round(track.stream.width * scale))
    height = max(size_px, round(track.stream.height * scale))
    rank = {pts: index for index, pts in enumerate(track.timeline.pts)}
    try:
        video = decord.VideoReader(io.BytesIO(track.source), width=width, height=height, num_threads=1)
        frames_NHWC = video.get_batch([rank[pts] for pts in wanted]).asnumpy()
    except (decord.DECORDError, RuntimeError, IndexError) as error:
        reject("corrupt", f"decord: {str(error).splitlines()[0]}")
    return list(frames_NHWC)
