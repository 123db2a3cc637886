"""A source file taken apart without decoding: its video stream, its packets, its presentation times.

Sources are foreign. Only formats that hold their data themselves are opened (a playlist could name other files), and
what a file declares is held against the limits before a frame is decoded.
"""

import io
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import NoReturn

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from pipelines.curation.config import LimitsConfig, Recipe
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
    def pixel_aspect(self) -> Fraction:
        """A pixel's width over its height. Some files only tell with their frames: ask once one has been decoded."""
        return Fraction(self.stream.sample_aspect_ratio or self.stream.codec_context.sample_aspect_ratio or 1)

    @property
    def width_px(self) -> int:
        """Width of the picture as shown: pixels that are not square are stretched."""
        return max(1, round(self.stream.width * self.pixel_aspect))

    @property
    def has_discarded_packets(self) -> bool:
        """Whether an edit list hides packets."""
        return any(packet.is_discard for packet in self.packets)


@contextmanager
def open_source(source: bytes) -> Generator[InputContainer]:
    """Open the bytes of a file, and close them again.

    FFmpeg would decode some frames to tell their pixel format, which costs up to a tenth of a clip and is of no use
    here. So no decoder is allowed, unless the container does not tell the size of the picture.

    Raises:
        ClipRejectedError: `unreadable`.
    """
    container = _open(source, {"codec_whitelist": "none"})
    stream = container.streams.best("video")
    if isinstance(stream, VideoStream) and _has_decoder(stream) and not stream.width:
        container.close()
        container = _open(source, {})
    try:
        yield container
    finally:
        container.close()


def _open(source: bytes, options: dict[str, str]) -> InputContainer:
    every = {"format_whitelist": _FORMATS, **options}
    try:
        return av.open(io.BytesIO(source), "r", metadata_errors="ignore", options=every)
    except (FFmpegError, ValueError) as error:
        if isinstance(error, MemoryError):
            raise
        reject("unreadable", f"cannot be opened as a video: {_words(error)}")


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
    if not _has_decoder(stream):
        reject("unreadable", "no decoder for its video stream")
    if not min(stream.width, stream.height):
        reject("unreadable", "the picture's size is not declared")
    check_size(stream.width, stream.height, recipe)
    _check_duration(declared_duration_s(container, stream), recipe.limits)
    stream.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    if recipe.limits.max_pixels is not None:
        # What a stream declares may be a lie; the decoder then refuses before it takes memory for the picture.
        stream.codec_context.options = {"max_pixels": str(recipe.limits.max_pixels)}
    return stream


def _has_decoder(stream: VideoStream) -> bool:
    """PyAV leaves a stream without a codec context where it knows no decoder."""
    return getattr(stream, "codec_context", None) is not None


def check_size(width: int, height: int, recipe: Recipe) -> None:
    """Hold a picture's size against the limits: the declared one, and that of each wanted frame.

    Raises:
        ClipRejectedError: `too_large` or `too_small`.
    """
    max_pixels, short_side_px = recipe.limits.max_pixels, min(width, height)
    if max_pixels is not None and width * height > max_pixels:
        reject("too_large", f"{width}x{height} px, at most {max_pixels} pixels")
    if short_side_px < recipe.min_short_side_px:
        reject("too_small", f"short side {short_side_px} px, at least {recipe.min_short_side_px} px")


def _check_duration(duration_s: Fraction, limits: LimitsConfig) -> None:
    if limits.max_duration_s is not None and duration_s > limits.max_duration_s:
        reject("too_large", f"{float(duration_s):.1f} s long, at most {limits.max_duration_s} s")


def declared_duration_s(container: InputContainer, stream: VideoStream) -> Fraction:
    """Seconds that the file says it lasts; 0 where it does not say."""
    if stream.duration and stream.time_base:
        return stream.duration * stream.time_base
    # The container lasts as long as its longest stream, which may be another one.
    return Fraction(container.duration or 0, av.time_base) if len(container.streams) == 1 else Fraction(0)


def demux(source: bytes, container: InputContainer, stream: VideoStream, limits: LimitsConfig) -> Track:
    """Read all packets of the stream; nothing is decoded.

    Raises:
        ClipRejectedError: `too_short` where there is no frame, `corrupt` where the file ends before its first frame,
            `unreadable` where frames bear no times, `too_large` where there are more than the limits allow.
    """
    packets, damage = _read_packets(container, stream, limits)
    shown = [packet for packet in packets if not packet.is_discard and not _is_hidden(packet)]
    pts = sorted({packet.pts for packet in shown if packet.pts is not None})
    declared_s = declared_duration_s(container, stream)
    if not shown:
        is_cut = damage or declared_s > 0
        reject("corrupt" if is_cut else "too_short", damage or "no frame in the video stream")
    if not pts or stream.time_base is None or any(packet.pts is None for packet in shown):
        reject("unreadable", "frames bear no timestamps")
    last = next(packet for packet in shown if packet.pts == pts[-1])
    timeline = Timeline(tuple(pts), last.duration or typical_gap(pts), stream.time_base)
    _check_duration(timeline.duration_s, limits)
    if timeline.duration_s < _MIN_SHARE_OF_DECLARED * declared_s:
        damage = damage or f"{float(timeline.duration_s):.3f} of {float(declared_s):.3f} declared seconds"
    return Track(source, stream, packets, timeline, damage)


def _read_packets(
    container: InputContainer, stream: VideoStream, limits: LimitsConfig
) -> "tuple[tuple[Packet[VideoStream], ...], str]":
    """The packets, and the first sign of damage; empty: there is none."""
    packets: list[Packet[VideoStream]] = []
    damage = ""
    try:
        packets.extend(packet for packet in islice(container.demux(stream), limits.max_frames) if packet.size)
    except IndexError:
        pass  # PyAV, after the last packet, where a stream appeared that the head does not name
    except FFmpegError as error:
        if isinstance(error, MemoryError):
            raise
        damage = f"packet {len(packets)}: {_words(error)}"
    if limits.max_frames is not None and len(packets) >= limits.max_frames:
        reject("too_large", f"{limits.max_frames} frames or more")
    if len(packets) < stream.frames:
        damage = damage or f"{len(packets)} of {stream.frames} declared packets"
    marked = sum(packet.is_corrupt for packet in packets)
    if marked:
        damage = damage or f"{marked} packets cut off"
    return tuple(packets), damage


def _is_hidden(packet: "Packet[VideoStream]") -> bool:
    """Whether the packet is one of VP8's that only serve others: they bear a time and are never shown."""
    return packet.stream.codec_context.name == "vp8" and not memoryview(packet)[0] & 0x10


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
