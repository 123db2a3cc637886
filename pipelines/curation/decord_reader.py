"""The alternative frame reader: decord. Frames are chosen by the same timestamps; decord only decodes and scales.

decord 0.6 knows no AV1, hides nothing that an edit list hides, ignores rotation and the shape of pixels, and flags no
damage. Such sources are left to PyAV, but for the damaged: they pass silently, which is why PyAV is the default.
"""

import io
from collections.abc import Sequence
from fractions import Fraction

from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter

from pipelines.curation.config import Recipe
from pipelines.curation.container import Track, check_size, reject
from pipelines.curation.picture import Pictures, crop, scaled_size

_CODECS = ("h264", "hevc", "vp8", "vp9", "mpeg4")


def can_read(track: Track) -> bool:
    """Whether decord reads this source as PyAV does. One frame is decoded: some files tell such things only there."""
    if track.stream.codec_context.name not in _CODECS or track.has_discarded_packets:
        return False
    frame = _first_frame(track)
    return frame is not None and not frame.rotation and track.pixel_aspect == 1


def read_frames(track: Track, wanted: Sequence[int], recipe: Recipe) -> Pictures:
    """A `FrameReader`.

    Raises:
        ClipRejectedError: `corrupt`, where decord gives up.
    """
    import decord

    check_size(track.stream.width, track.stream.height, recipe)
    width, height = scaled_size(track.stream.width, track.stream.height, Fraction(1), recipe.size_px)
    rank = {pts: index for index, pts in enumerate(track.timeline.pts)}
    try:
        video = decord.VideoReader(io.BytesIO(track.source), width=width, height=height, num_threads=1)
        frames_NHWC = video.get_batch([rank[pts] for pts in wanted]).asnumpy()
    except (decord.DECORDError, RuntimeError, IndexError) as error:
        reject("corrupt", f"decord: {str(error).splitlines()[0]}")
    to_yuv = VideoReformatter()
    frames = (VideoFrame.from_ndarray(frame_HWC, format="rgb24") for frame_HWC in frames_NHWC)
    scaled = (to_yuv.reformat(frame, format="yuv420p", threads=1) for frame in frames)
    return Pictures([crop(frame, recipe.size_px) for frame in scaled], Colorspace.ITU601)


def _first_frame(track: Track) -> VideoFrame | None:
    """The first frame that decodes; None where there is none: PyAV then tells why."""
    try:
        frames = (frame for packet in (*track.packets, None) for frame in track.stream.decode(packet))
        return next(frames, None)
    except FFmpegError as error:
        if isinstance(error, MemoryError):
            raise
        return None
    finally:
        track.stream.codec_context.flush_buffers()
