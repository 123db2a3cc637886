"""The default frame reader: PyAV, decoding as little as gives the same pixels."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import TypeVar

from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from pipelines.curation.config import Recipe
from pipelines.curation.container import ClipRejectedError, Track, check_size, reject
from pipelines.curation.picture import Pictures, Square, Squarer, matrix_of
from pipelines.curation.records import NO_BARS, Bars

T = TypeVar("T")

_SKIPPING_DECODERS = frozenset(("h264", "hevc", "vp9", "mpeg4"))
"""Look at `skip_frame` packet by packet; dav1d reads it once, when it is opened, and would then drop wanted frames."""

_PREDICTED = frozenset((PictureType.P, PictureType.B))


def read_frames(track: Track, wanted: Sequence[int], recipe: Recipe, bars: Bars = NO_BARS) -> Pictures:
    """A `FrameReader`.

    It starts at the last key frame before the first wanted frame and ends with the packet of the last one. A packet
    whose pts is not wanted is decoded with `skip_frame=NONREF`: the decoder leaves it out where no other frame refers
    to it. Where a file calls a frame a key that later frames look behind, it reads from the file's start instead.

    Raises:
        ClipRejectedError: `corrupt`, by the decoder's own flags or because a wanted frame never comes; `unreadable`
            where timestamps are not those of the frames; `too_large` or `too_small` where frames are not of the
            declared size.
    """
    start = _start(track.packets, wanted[0])
    if start:
        try:
            return _read(track, track.packets[start:], wanted, Squarer(recipe.size_px, bars), recipe)
        except ClipRejectedError:
            track.stream.codec_context.flush_buffers()
    return _read(track, track.packets, wanted, Squarer(recipe.size_px, bars), recipe)


def _read(
    track: Track,
    packets: "Sequence[Packet[VideoStream]]",
    wanted: Sequence[int],
    squarer: Squarer,
    recipe: Recipe,
) -> Pictures:
    first: tuple[Fraction, int] | None = None

    def keep(frame: VideoFrame) -> Square:
        nonlocal first
        first = first or (track.pixel_aspect, matrix_of(frame))
        return squarer(frame, first[0])

    squares = kept_frames(track, packets, wanted, keep, recipe)
    return Pictures([squares[pts] for pts in wanted], first[1] if first else 0)


def kept_frames(
    track: Track,
    packets: "Sequence[Packet[VideoStream]]",
    wanted: Sequence[int],
    keep: Callable[[VideoFrame], T],
    recipe: Recipe,
) -> dict[int, T]:
    """What is kept of each wanted frame, by its pts; one decoded frame is held at a time.

    Raises:
        ClipRejectedError: As `read_frames`.
    """
    kept, is_wanted = dict[int, T](), frozenset(wanted)
    try:
        for frame in decoded(track, packets, is_wanted):
            if frame.pts in is_wanted:
                check_size(frame.width, frame.height, recipe)
                kept[frame.pts] = keep(frame)
    except FFmpegError as error:
        if isinstance(error, MemoryError):
            raise
        reject("corrupt", f"after {len(kept)} of {len(is_wanted)} wanted frames: {error.strerror}")
    if len(kept) < len(is_wanted):
        reject("corrupt", f"{len(is_wanted) - len(kept)} of {len(is_wanted)} wanted frames cannot be decoded")
    return kept


def decoded(track: Track, packets: "Sequence[Packet[VideoStream]]", wanted: frozenset[int]) -> Iterator[VideoFrame]:
    """Frames from the first packet's time on; what an open group of pictures shows before it has lost its reference."""
    context, first = track.stream.codec_context, packets[0].pts or 0
    can_skip, latest = context.name in _SKIPPING_DECODERS, None
    end = max(index for index, packet in enumerate(packets) if packet.pts in wanted) + 1
    for packet in (*packets[:end], None):
        if packet is not None and can_skip:
            context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        for frame in track.stream.decode(packet):
            if frame.pts is None or frame.pts < first:
                continue
            if frame.is_corrupt:
                reject("corrupt", f"the decoder marks the frame at {frame.time:.3f} s")
            if latest is None and frame.pict_type in _PREDICTED and not packets[0].is_discard:
                reject("corrupt", "reading starts at a frame that needs others")
            if latest is not None and frame.pts < latest:
                reject("unreadable", "timestamps are not in the order in which frames are shown")
            latest = frame.pts
            yield frame


def _start(packets: "Sequence[Packet[VideoStream]]", first_wanted: int) -> int:
    starts = [i for i, packet in enumerate(packets) if packet.is_keyframe and (packet.pts or 0) <= first_wanted]
    return starts[-1] if starts else 0
