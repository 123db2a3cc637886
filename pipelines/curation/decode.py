"""One clip's bytes to its frames: T frames at the data set's rate, square.

`decode` is a function of (bytes, span, recipe) and the one place where foreign data meets a decoder; whoever isolates
decoding (another process, a watchdog, a memory limit) isolates this call.

Shape letters: T frames in time, P the rows that the planes Y, U and V fill one after another, W width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from av.container import InputContainer

from pipelines.curation import pyav_reader
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
from pipelines.curation.picture import Pictures, zoomed_px
from pipelines.curation.records import NO_BARS, Bars, DecodedClip, Rejection, SourceFacts
from pipelines.curation.timeline import Window, is_covered, shown_at
from pipelines.video_file import Yuv

FrameReader = Callable[[Track, Sequence[int], Recipe], Pictures]
"""(track, wanted pts ascending, recipe) -> for each the upright square that the data set keeps."""


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


class Excerpt(NamedTuple):
    """What is taken of a source, in time and space."""

    span: Span
    bars: Bars


class Decoding(NamedTuple):
    """What became of a clip, and what was learnt about its source either way."""

    result: DecodedClip | Rejection
    facts: SourceFacts


def decode(source: bytes, span: Span, recipe: Recipe, bars: Bars = NO_BARS) -> Decoding:
    """Decode a clip to `recipe.frames` frames at `recipe.fps`, or say why not: a bad clip is a value, no error.

    Args:
        source: The file.
        span: The part of it that is asked for.
        recipe: What is asked for.
        bars: Of what was decoded before: the square between them is kept, `too_small` where there is too little of it.
    """
    facts = source_facts(source, None)
    try:
        with open_source(source) as container:
            track = demux(source, container, video_stream(container, recipe), recipe.limits)
            facts = source_facts(source, track)
            return Decoding(_frames(container, track, Excerpt(span, bars), recipe), facts)
    except ClipRejectedError as rejected:
        return Decoding(rejected.rejection, facts)


def _frames(container: InputContainer, track: Track, excerpt: Excerpt, recipe: Recipe) -> DecodedClip:
    window = Window(excerpt.span.start, recipe.frames, recipe.rate)
    _check_length(container, track, excerpt.span, window)
    _check_rate(track, recipe)
    targets = shown_at(track.timeline, window)
    wanted = sorted(set(targets))
    if any(excerpt.bars):
        pictures = pyav_reader.read_frames(track, wanted, recipe, excerpt.bars)
    else:
        pictures = reader(recipe.decoder, track)(track, wanted, recipe)
    # Some files tell the shape of their pixels, and so the width of the picture, only with their frames.
    scale = Fraction(min(track.width_px, track.stream.height), zoomed_px(recipe.size_px, excerpt.bars))
    if any(excerpt.bars):
        _check_inside(scale * recipe.size_px, recipe)
    place = {pts: index for index, pts in enumerate(wanted)}
    planes_TPW = np.stack([pictures.squares[place[pts]].planes_PW for pts in targets])
    _, left, top = pictures.squares[0]
    crop = (round(left * scale), round(top * scale), round(recipe.size_px * scale), round(recipe.size_px * scale))
    return DecodedClip(Yuv(planes_TPW, pictures.colorspace), crop)


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


def _check_inside(side_px: Fraction, recipe: Recipe) -> None:
    if side_px < recipe.min_short_side_px:
        reject("too_small", f"{round(side_px)} px between black bars, at least {recipe.min_short_side_px} px")


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
    return pyav_reader.read_frames
