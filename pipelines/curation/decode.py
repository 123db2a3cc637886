"""One clip's bytes to its frames: T frames at the data set's rate, square, RGB.

`decode` is a function of (bytes, span, recipe) and the one place where foreign data meets a decoder; whoever isolates
decoding (another process, a watchdog, a memory limit) isolates this call.

Shape letters: N frames as asked, T frames in time, H height, W width, C channels (RGB).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipelines.curation.config import Recipe
from pipelines.curation.container import (
    ClipRejectedError,
    Track,
    declared_duration_s,
    demux,
    open_source,
    reject,
    source_facts,
    video_stream,
)
from pipelines.curation.records import DecodedClip, Rejection, SourceFacts
from pipelines.curation.timeline import Window, is_covered, shown_at

_SKIPPING_DECODERS = frozenset(("h264", "hevc", "vp9", "mpeg4"))
"""Look at `skip_frame` packet by packet; dav1d reads it once, when it is opened, and would then drop wanted frames."""

FrameReader = Callable[[Track, Sequence[int], int], list[NDArray[np.uint8]]]
"""(track, wanted pts ascending, size_px) -> for each an upright (H, W, 3) RGB picture whose short side is size_px."""


@dataclass(frozen=True)
class Span:
    """The part of a source that a manifest row names; None is the source's own start or end."""

    start_s: float | None = None
    end_s: float | None = None

    @property
    def start(self) -> Fraction:
        """Seconds after the source's first frame."""
        return Fraction(str(self.start_s or 0))

    @property
    def length(self) -> Fraction | None:
        """Seconds of the span; None: as long as the source."""
        return None if self.end_s is None else Fraction(str(self.end_s)) - self.start


class Decoding(NamedTuple):
    """What became of a clip, and what was learnt about its source either way."""

    result: DecodedClip | Rejection
    facts: SourceFacts


def decode(source: bytes, span: Span, recipe: Recipe) -> Decoding:
    """Decode a clip to `recipe.frames` frames at `recipe.fps`, or say why not: a bad clip is a value, no error."""
    facts = source_facts(source, None)
    try:
        with open_source(source) as container:
            track = demux(source, container, video_stream(container, recipe))
            facts = source_facts(source, track)
            return Decoding(_frames(container, track, span, recipe), facts)
    except ClipRejectedError as rejected:
        return Decoding(rejected.rejection, facts)


def _frames(container: InputContainer, track: Track, span: Span, recipe: Recipe) -> DecodedClip:
    window = Window(span.start, recipe.frames, recipe.rate)
    _check_length(container, track, span, window)
    _check_rate(track, recipe)
    targets = shown_at(track.timeline, window)
    wanted = sorted(set(targets))
    pictures = reader(recipe.decoder, track)(track, wanted, recipe.size_px)
    height, width, _ = pictures[0].shape
    top, left, side = (height - recipe.size_px) // 2, (width - recipe.size_px) // 2, recipe.size_px
    square = [picture_HWC[top : top + side, left : left + side] for picture_HWC in pictures]
    place = {pts: index for index, pts in enumerate(wanted)}
    frames_THWC = np.stack([square[place[pts]] for pts in targets])
    scale = min(track.width_px, track.stream.height) / side
    crop = (round(left * scale), round(top * scale), round(side * scale), round(side * scale))
    return DecodedClip(frames_THWC, crop)


def _check_length(container: InputContainer, track: Track, span: Span, window: Window) -> None:
    needed_s = window.num_frames / window.fps
    if span.length is not None and span.length < needed_s:
        reject("too_short", f"span of {float(span.length):.3f} s, {float(needed_s):.3f} s needed")
    if is_covered(track.timeline, window):
        return
    found = f"{float(track.timeline.duration_s):.3f} s, {float(window.end_s):.3f} s needed"
    if track.damage and declared_duration_s(container, track.stream) >= window.end_s:
        reject("corrupt", f"{track.damage}: {found}")
    reject("too_short", found)


def _check_rate(track: Track, recipe: Recipe) -> None:
    minimum = recipe.limits.min_source_fps
    if minimum is not None and track.timeline.fps < Fraction(str(minimum)):
        reject("low_fps", f"{float(track.timeline.fps):.2f} frames per second, at least {minimum}")


def reader(decoder: str, track: Track) -> FrameReader:
    """The frame reader of that name; pyav where decord cannot be trusted with the source."""
    if decoder == "decord":
        from pipelines.curation import decord_reader

        if decord_reader.can_read(track):
            return decord_reader.read_frames
    return read_frames


def read_frames(track: Track, wanted: Sequence[int], size_px: int) -> list[NDArray[np.uint8]]:
    """The default `FrameReader`: PyAV, decoding as little as gives the same pixels.

    It starts at the last key frame before the first wanted frame and stops after the last one. A packet whose pts is
    not wanted is decoded with `skip_frame=NONREF`: the decoder leaves it out where no other frame refers to it.

    Raises:
        ClipRejectedError: `corrupt`, by the decoder's own flags or because a wanted frame never comes.
    """
    packets = track.packets[_start(track.packets, wanted[0]) :]
    scaler, pictures = VideoReformatter(), dict[int, NDArray[np.uint8]]()
    is_wanted = frozenset(wanted)
    try:
        for frame in _decoded(track, packets, is_wanted):
            if frame.is_corrupt:
                reject("corrupt", f"the decoder marks the frame at {frame.time:.3f} s")
            if frame.pts in is_wanted:
                pictures[frame.pts] = _upright(frame, track, size_px, scaler)
            if len(pictures) == len(wanted):
                return [pictures[pts] for pts in wanted]
    except FFmpegError as error:
        reject("corrupt", f"after {len(pictures)} of {len(wanted)} wanted frames: {error.strerror}")
    reject("corrupt", f"{len(wanted) - len(pictures)} of {len(wanted)} wanted frames cannot be decoded")


def _decoded(track: Track, packets: "Sequence[Packet[VideoStream]]", wanted: frozenset[int]) -> Iterator[VideoFrame]:
    """Frames from the first packet's time on; what an open group of pictures shows before it has lost its reference."""
    context, first = track.stream.codec_context, packets[0].pts or 0
    can_skip = context.name in _SKIPPING_DECODERS
    for packet in (*packets, None):
        if packet is not None and can_skip:
            context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        for frame in track.stream.decode(packet):
            if frame.pts is not None and frame.pts >= first:
                yield frame


def _start(packets: "Sequence[Packet[VideoStream]]", first_wanted: int) -> int:
    starts = [i for i, packet in enumerate(packets) if packet.is_keyframe and (packet.pts or 0) <= first_wanted]
    return starts[-1] if starts else 0


def _upright(frame: VideoFrame, track: Track, size_px: int, scaler: VideoReformatter) -> NDArray[np.uint8]:
    width = frame.width * (track.stream.sample_aspect_ratio or 1)
    scale = size_px / min(width, Fraction(frame.height))
    scaled = scaler.reformat(
        frame,
        width=max(size_px, round(width * scale)),
        height=max(size_px, round(frame.height * scale)),
        format="rgb24",
        interpolation=Interpolation.AREA,
        threads=1,
    )
    picture_HWC = scaled.to_ndarray().astype(np.uint8, copy=False)
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(picture_HWC, turns)) if turns else picture_HWC
