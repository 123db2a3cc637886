"""Videos that users bring: the frames that are shown at given times, upright and with square pixels, one by one.

Demuxing, limits, exact times and the checks of a decoder's output are curation's (`pipelines.curation.container`,
`timeline`, `pyav_reader`). In memory are the compressed file, one decoded frame, and what is kept of each.

Shape letters: T frames, H height, W width, C channels (RGB).
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from pipelines.curation.config import LimitsConfig, Recipe
from pipelines.curation.container import (
    ClipRejectedError,
    Track,
    declared_duration_s,
    demux,
    open_source,
    reject,
    video_stream,
)
from pipelines.curation.pyav_reader import kept_frames
from pipelines.curation.timeline import Window, shown_at
from pipelines.generation.refusal import InputError

Keep = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""What is kept of a frame (H, W, C): cropped, scaled."""

_RECIPE = Recipe(limits=LimitsConfig(min_short_side_px=2, max_pixels=8192 * 4352, max_bytes=1024**3))
"""Of what may be opened; its geometry is not used."""


class Times(NamedTuple):
    """Which frames are taken of a video, and what is said of that."""

    pts: tuple[int, ...]
    """In ticks of the stream, one a frame of the result; some may stand there twice."""
    fps: Fraction
    """Of the result."""
    said: list[str]


class Wish(NamedTuple):
    """How long and how fast a video shall be; None: as it is."""

    num_frames: int | None
    fps: Fraction | None
    max_frames: int
    """Where no number is given."""


class Footage:
    """An open video; make it by `open_footage`.

    Args:
        container: Which holds it.
        track: Its picture.
        name: `video` or `mask`: what sentences begin with.
    """

    def __init__(self, container: InputContainer, track: Track, name: str) -> None:
        self._track, self._name = track, name
        self._declared_s = declared_duration_s(container, track.stream)

    def at(self, num_frames: int, fps: Fraction) -> Times:
        """The frame on the screen at time i / fps for each i; a short video stays at its end."""
        timeline = self._track.timeline
        self._check_whole(num_frames / fps)
        # Containers round times to ticks: half of one later, a frame that was rounded up is there too.
        pts = shown_at(timeline, Window(timeline.time_base / 2, num_frames, fps))
        if tuple(pts) == timeline.pts:
            return Times(timeline.pts, fps, [])
        missing = sum(index / fps >= timeline.duration_s for index in range(num_frames))
        return Times(tuple(pts), fps, self._said(num_frames, fps, missing))

    def wished(self, wish: Wish) -> Times:
        """The video's own frames at its own rate, where nothing else is wished.

        Where they are not evenly spaced, those that are shown at its mean rate.
        """
        timeline = self._track.timeline
        self._check_whole(self._declared_s)
        given, own_fps = len(timeline.pts), timeline.fps.limit_denominator(1001)
        fps = wish.fps or own_fps
        if not fps:
            raise InputError(f"{self._name}: frames that last for some time are expected, given {given} of no duration")
        whole = max(1, round(timeline.duration_s * fps))
        num_frames = wish.num_frames or min(whole, wish.max_frames)
        key = "ssr.max_frames" if wish.num_frames is None else "frames"
        cut = [f"{self._name}: cut to the first {num_frames} of {whole} frames ({key})"] if num_frames < whole else []
        if fps == own_fps and self._is_even() and num_frames <= given:
            return Times(timeline.pts[:num_frames], fps, cut)
        times = self.at(num_frames, fps)
        return times._replace(said=cut + times.said)

    def frames(self, times: Times, keep: Keep) -> NDArray[np.uint8]:
        """What is kept of each frame, stacked: (T, ...).

        Raises:
            ClipRejectedError: A frame that cannot be decoded; `open_footage` turns it into an `InputError`.
        """
        track, upright = self._track, _Upright(self._track)
        kept = kept_frames(track, track.packets, times.pts, lambda frame: keep(upright(frame)), _RECIPE)
        return np.stack([kept[pts] for pts in times.pts])

    def _is_even(self) -> bool:
        gaps = [later - earlier for earlier, later in pairwise(self._track.timeline.pts)]
        return not gaps or max(gaps) - min(gaps) <= max(2, min(gaps) // 20)

    def _said(self, num_frames: int, fps: Fraction, missing: int) -> list[str]:
        timeline, name = self._track.timeline, self._name
        if num_frames == 1:
            return [f"{name}: its first frame is used, of {len(timeline.pts)}"]
        spacing = "" if self._is_even() else ", unevenly spaced"
        said = [
            f"{name}: {num_frames} frames at {float(fps):.4g} fps taken from {len(timeline.pts)} at "
            f"{float(timeline.fps):.4g} fps{spacing}"
        ]
        if missing:
            said.append(f"{name}: too short, its last frame stands for {missing} more")
        return said

    def _check_whole(self, end_s: Fraction) -> None:
        """Refuse a file that was cut off before the time that is asked for, and before its own end."""
        timeline = self._track.timeline
        end_s = min(end_s, self._declared_s) if self._declared_s else end_s
        if self._track.damage and timeline.duration_s + timeline.time_base < end_s:
            reject("corrupt", f"{self._track.damage}: {float(timeline.duration_s):.3f} of {float(end_s):.3f} s")


class _Upright:
    """Frames as they are shown: RGB, turned, their pixels square; all of the first one's size."""

    def __init__(self, track: Track) -> None:
        self._track = track
        self._size: tuple[int, int] | None = None

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        if self._size is None:
            self._size = self._track.width_px, frame.height
        width, height = self._size
        if self._size != (frame.width, frame.height):
            frame = frame.reformat(width=width, height=height, format="rgb24")
        frame_HWC = frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
        return np.rot90(frame_HWC, round(frame.rotation / 90) % 4)


@contextmanager
def open_footage(path: str, name: str = "video") -> Generator[Footage]:
    """Open a user's video; nothing is decoded yet.

    Args:
        path: A local file.
        name: What the request calls it.

    Raises:
        InputError: No such file, no video, one that is damaged where it is wanted, or one that is too large. Inside
            the block too.
    """
    file, most = Path(path), _RECIPE.limits.max_bytes
    if not file.is_file():
        raise InputError(f"{name} {path}: no such file")
    if most is not None and file.stat().st_size > most:
        raise InputError(f"{name} {path}: {file.stat().st_size} bytes, at most {most} expected; cut it first")
    source = file.read_bytes()
    try:
        with open_source(source) as container:
            track = demux(source, container, video_stream(container, _RECIPE), _RECIPE.limits)
            yield Footage(container, track, name)
    except ClipRejectedError as rejected:
        verdict, reason = rejected.rejection
        what = "too large" if verdict == "too_large" else "not a readable video"
        raise InputError(f"{name} {path}: {what}: {reason}") from rejected
