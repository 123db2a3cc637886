"""A source file taken apart without decoding: its video stream, its packets, its presentation times.

Sources are foreign. Only formats that hold their data themselves are opened (a playlist could name other files), and
what a file declares is held against the limits before a frame is decoded.
"""

import io
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import NoReturn

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from pipelines.curation.config import Recipe
from pipelines.curation.records import Rejection, SourceFacts, Verdict
from pipelines.curation.timeline import Timeline, typical_gap

_FORMATS = "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,h264,hevc,obu,ivf,flv,asf,ogg,gif,nut,mxf"

_MIN_SHARE_OF_DECLARED = Fraction(9, 10)
"""A file with less than this of what it declares was cut off; declarations are rounded, and edit lists shorten."""


class ClipRejectedError(Exception):
    """Ends the reading of one clip; `pipelines.curation.decode.decode` turns it into its rejection."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(f"{rejection.verdict}: {rejection.reason}")
        self.rejection = rejection


def reject(verdict: Verdict, reason: str) -> NoReturn:
    """End the reading of this clip."""
    raise ClipRejectedError(Rejection(verdict, reason))


@dataclass(frozen=True)
class Track:
    """The video stream of an open source, demuxed."""

    source: bytes
    stream: VideoStream
    packets: "tuple[Packet[VideoStream], ...]"
    """In the order of the file, which is the order of decoding."""
    timeline: Timeline
    damage: str
    """What demuxing met: where the file ends early, or which packets are marked. Empty: nothing."""

    @property
    def width_px(self) -> int:
        """Width of the picture as shown: pixels that are not square are stretched."""
        return max(1, round(self.stream.width * (self.stream.sample_aspect_ratio or 1)))

    @property
    def has_discarded_packets(self) -> bool:
        """Whether an edit list hides packets."""
        return any(packet.is_discard for packet in self.packets)


@contextmanager
def open_source(source: bytes) -> Generator[InputContainer]:
    """Open the bytes of a file, and close them again.

    Raises:
        ClipRejectedError: `unreadable`.
    """
    try:
        container = av.open(io.BytesIO(source), "r", metadata_errors="ignore", options={"format_whitelist": _FORMATS})
    except (FFmpegError, ValueError) as error:
        reject("unreadable", f"cannot be opened as a video: {_words(error)}")
    try:
        yield container
    finally:
        container.close()


def video_stream(container: InputContainer, recipe: Recipe) -> VideoStream:
    """The stream to read, after what it declares has been held against the limits.

    Raises:
        ClipRejectedError: `no_video`, `too_large`, `too_small` or `unreadable`.
    """
    if not len(container.streams):
        reject("unreadable", "no stream in it")
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        reject("no_video", f"streams: {', '.join(other.type for other in container.streams) or 'none'}")
    limits, short_side_px = recipe.limits, min(stream.width, stream.height)
    if not short_side_px:
        reject("unreadable", "the picture's size is not declared")
    if limits.max_pixels is not None and stream.width * stream.height > limits.max_pixels:
        reject("too_large", f"{stream.width}x{stream.height} px, at most {limits.max_pixels} pixels")
    duration_s = declared_duration_s(container, stream)
    if limits.max_duration_s is not None and duration_s > limits.max_duration_s:
        reject("too_large", f"{float(duration_s):.1f} s long, at most {limits.max_duration_s} s")
    if short_side_px < recipe.min_short_side_px:
        reject("too_small", f"short side {short_side_px} px, at least {recipe.min_short_side_px} px")
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    return stream


def declared_duration_s(container: InputContainer, stream: VideoStream) -> Fraction:
    """Seconds that the file says it lasts; 0 where it does not say."""
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    # The container lasts as long as its longest stream, which may be another one.
    return Fraction(container.duration or 0, av.time_base) if len(container.streams) == 1 else Fraction(0)


def demux(source: bytes, container: InputContainer, stream: VideoStream) -> Track:
    """Read all packets of the stream; nothing is decoded.

    Raises:
        ClipRejectedError: `too_short` where there is no frame, `corrupt` where the file ends before its first frame,
            `unreadable` where frames bear no times.
    """
    packets: list[Packet[VideoStream]] = []
    damage = ""
    try:
        packets.extend(packet for packet in container.demux(stream) if packet.size)
    except FFmpegError as error:
        damage = f"packet {len(packets)}: {_words(error)}"
    if len(packets) < stream.frames:
        damage = damage or f"{len(packets)} of {stream.frames} declared packets"
    marked = sum(packet.is_corrupt for packet in packets)
    if marked:
        damage = damage or f"{marked} packets cut off"
    shown = [packet for packet in packets if not packet.is_discard]
    pts = sorted({packet.pts for packet in shown if packet.pts is not None})
    if not shown:
        reject("corrupt" if damage else "too_short", damage or "no frame in the video stream")
    if not pts or stream.time_base is None or any(packet.pts is None for packet in shown):
        reject("unreadable", "frames bear no timestamps")
    last = next(packet for packet in shown if packet.pts == pts[-1])
    timeline = Timeline(tuple(pts), last.duration or typical_gap(pts), stream.time_base)
    declared_s = declared_duration_s(container, stream)
    if timeline.duration_s < _MIN_SHARE_OF_DECLARED * declared_s:
        damage = damage or f"{float(timeline.duration_s):.3f} of {float(declared_s):.3f} declared seconds"
    return Track(source, stream, tuple(packets), timeline, damage)


def source_facts(source: bytes, track: Track | None) -> SourceFacts:
    """What the catalog says about a source; mostly null where it could not be demuxed."""
    return SourceFacts(
        codec=track.stream.codec_context.name if track else None,
        source_width=track.stream.width if track else None,
        source_height=track.stream.height if track else None,
        source_fps=float(track.timeline.fps) if track else None,
        source_duration_s=float(track.timeline.duration_s) if track else None,
        source_bytes=len(source),
    )


def _words(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
