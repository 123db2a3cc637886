"""Every frame of several hundred generated files equals that of a brute-force decode."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.curation.config import Recipe
from pipelines.curation.decode import Span, decode
from pipelines.curation.records import DecodedClip

Frames = NDArray[np.uint8]
Draw = Callable[..., Frames]

RECIPE = Recipe(frames=16, fps=8, size_px=32)
SECONDS = Fraction(8, 3)
NTSC_FILM, NTSC = Fraction(24000, 1001), Fraction(30000, 1001)
RATES = (
    Fraction(12),
    Fraction(15),
    NTSC_FILM,
    Fraction(24),
    Fraction(25),
    NTSC,
    Fraction(30),
    Fraction(48),
    Fraction(50),
    2 * NTSC,
    Fraction(60),
)
QUIET_X265 = "log-level=none:pools=none:frame-threads=1"
CODECS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "h264": ("libx264", {"bf": "2"}),
    "h264_pyramid": ("libx264", {"bf": "4", "b-pyramid": "normal", "b-adapt": "0", "g": "12"}),
    "h264_no_b": ("libx264", {"bf": "0"}),
    "h264_open_gop": ("libx264", {"bf": "3", "g": "10", "x264-params": "open-gop=1"}),
    "h264_refresh": ("libx264", {"bf": "0", "g": "20", "intra-refresh": "1"}),
    "hevc": ("libx265", {"x265-params": f"{QUIET_X265}:bframes=4:b-pyramid=1:keyint=14"}),
    "hevc_closed": ("libx265", {"x265-params": f"{QUIET_X265}:bframes=2:open-gop=0:keyint=20"}),
    "vp9": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "g": "20"}),
    "vp9_alt_ref": ("libvpx-vp9", {"deadline": "good", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16"}),
    "vp8": ("libvpx", {"deadline": "realtime", "cpu-used": "8"}),
    "vp8_alt_ref": ("libvpx", {"deadline": "good", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16"}),
    "av1": ("libsvtav1", {"preset": "12", "g": "20"}),
    "mpeg4": ("mpeg4", {"bf": "2", "g": "12"}),
    "mpeg2": ("mpeg2video", {"bf": "2", "g": "12"}),
    "prores": ("prores_ks", {}),
}


@dataclass(frozen=True)
class File:
    """How a file is made, and what must be known to decode it by force."""

    suffix: str
    codec: str
    fps: Fraction = Fraction(24)
    size: tuple[int, int] = (72, 96)
    pix_fmt: str = "yuv420p"
    options: Mapping[str, str] = field(default_factory=dict)
    pixel_aspect: Fraction = Fraction(1)
    rotation: int = 0
    seed: int | None = None
    """Of a variable rate; None: a constant one."""
    start_ticks: int = 0
    """By how much of a millisecond time base the first frame is late."""
    skipped: int = 0
    """Frames at the start that an edit list hides."""
    streams: tuple[str, ...] = ("video",)
    colorspace: int | None = None
    span: Span = field(default_factory=Span)


def files() -> dict[str, File]:
    """More than two hundred, by name."""
    return {
        **_of_every_rate(),
        **_of_variable_rate(),
        **_spans(),
        **_shapes(),
        **_pixel_formats(),
        **_starts(),
    }


def _of_every_rate() -> dict[str, File]:
    kinds = {
        **{"h264": "mp4", "h264_pyramid": "mov", "h264_no_b": "mkv", "h264_open_gop": "ts", "h264_refresh": "mkv"},
        **{"hevc": "mp4", "hevc_closed": "mkv", "vp9": "webm", "vp9_alt_ref": "mkv", "av1": "mp4"},
        **{"mpeg4": "avi", "vp8": "webm", "vp8_alt_ref": "webm"},
    }
    named = {f"{codec}-{float(fps):.5g}fps": File(kinds[codec], codec, fps) for codec in kinds for fps in RATES}
    pairs = (("av1", "webm"), ("av1", "mkv"), ("vp9", "mp4"), ("hevc", "ts"), ("hevc", "mov"), ("h264_no_b", "avi"))
    more = (("h264_pyramid", "mkv"), ("h264", "flv"), ("mpeg2", "ts"), ("mpeg2", "mpg"), ("mpeg4", "mp4"))
    for (codec, suffix), fps in itertools.product((*pairs, *more), (Fraction(24), NTSC)):
        named[f"{codec}-{suffix}-{float(fps):.5g}fps"] = File(suffix, codec, fps)
    return named


def _of_variable_rate() -> dict[str, File]:
    kinds = (("h264", "mkv"), ("h264_pyramid", "mp4"), ("hevc", "mkv"), ("vp9", "webm"), ("av1", "mkv"))
    return {
        f"vfr-{codec}-{suffix}-{seed}": File(suffix, codec, Fraction(30), seed=seed)
        for (codec, suffix), seed in itertools.product(kinds, range(5))
    }


def _spans() -> dict[str, File]:
    kinds = (
        *(("h264", "mp4"), ("h264_pyramid", "mkv"), ("h264_open_gop", "ts"), ("h264_refresh", "mp4")),
        *(
            ("hevc", "mp4"),
            ("hevc_closed", "ts"),
            ("vp9", "webm"),
            ("vp9_alt_ref", "webm"),
            ("av1", "mp4"),
            ("vp8", "mkv"),
        ),
    )
    spans = (Span(0.1), Span(0.5, 2.5), Span(0.371, 2.42))
    return {
        f"span-{codec}-{suffix}-{span.start_s}": File(suffix, codec, Fraction(25), span=span)
        for (codec, suffix), span in itertools.product(kinds, spans)
    }


def _shapes() -> dict[str, File]:
    named: dict[str, File] = {}
    for angle, (codec, suffix) in itertools.product((90, 180, 270), (("h264", "mp4"), ("hevc_closed", "mov"))):
        named[f"rotated-{angle}-{codec}"] = File(suffix, codec, rotation=angle)
    named["rotated-90-stretched"] = File("mp4", "h264", rotation=90, pixel_aspect=Fraction(4, 3))
    kinds = (("h264", "mp4"), ("h264", "mkv"), ("h264", "ts"), ("hevc", "mkv"), ("mpeg4", "avi"), ("hevc", "ts"))
    for aspect, (codec, suffix) in itertools.product(
        (Fraction(4, 3), Fraction(10, 11), Fraction(2), Fraction(1, 2)), kinds
    ):
        named[f"aspect-{float(aspect):.2f}-{codec}-{suffix}"] = File(suffix, codec, pixel_aspect=aspect)
    for size in ((73, 97), (75, 96), (72, 99), (33, 121)):
        for codec, suffix, pix_fmt in (
            ("vp9", "webm", "yuv420p"),
            ("vp8", "webm", "yuv420p"),
            ("h264", "mp4", "yuv444p"),
        ):
            named[f"odd-{size[0]}x{size[1]}-{codec}"] = File(suffix, codec, size=size, pix_fmt=pix_fmt)
    return named


def _pixel_formats() -> dict[str, File]:
    kinds = (
        *(("mp4", "h264", "yuv420p10le"), ("mp4", "hevc", "yuv420p10le")),
        *(("mkv", "av1", "yuv420p10le"), ("mp4", "h264", "yuvj420p"), ("mkv", "h264", "yuvj420p")),
        *(("mp4", "h264", "yuv422p"), ("mkv", "h264", "yuvj444p"), ("mov", "prores", "yuv422p10le")),
    )
    named = {f"{pix_fmt}-{codec}-{suffix}": File(suffix, codec, pix_fmt=pix_fmt) for suffix, codec, pix_fmt in kinds}
    for colorspace in (1, 5, 6, 9):
        named[f"matrix-{colorspace}"] = File("mp4", "h264", colorspace=colorspace)
    named["interlaced-h264"] = File("mp4", "h264", options={"x264-params": "tff=1"})
    named["interlaced-mpeg2"] = File("ts", "mpeg2", options={"flags": "+ildct+ilme"})
    return named


def _starts() -> dict[str, File]:
    named: dict[str, File] = {}
    for ticks, (codec, suffix) in itertools.product(
        (1, 500, 40_017), (("h264", "mkv"), ("hevc", "mp4"), ("h264", "ts"))
    ):
        named[f"start-{ticks}-{suffix}"] = File(suffix, codec, start_ticks=ticks)
    for skipped, codec in itertools.product((1, 5, 12, 17), ("h264", "h264_pyramid", "hevc")):
        named[f"edit-{skipped}-{codec}"] = File("mp4", codec, skipped=skipped)
    named["streams-sound-first"] = File("mp4", "h264", streams=("sound", "video"))
    named["streams-small-last"] = File("mp4", "h264", streams=("video", "small"))
    named["streams-all"] = File("mkv", "vp9", streams=("sound", "video", "small"))
    return named


def write(path: Path, file: File, draw: Draw) -> None:
    """Encode a file whose frames all differ."""
    with av.open(str(path), "w") as container:
        streams = {name: _add(container, name, file) for name in file.streams}
        for name, stream in streams.items():
            for packet in _sound(stream) if name == "sound" else _picture(stream, file, draw):
                container.mux(packet)


def _add(container: Any, name: str, file: File) -> Any:
    if name == "sound":
        return container.add_stream("libopus", rate=48000, layout="mono")
    codec, options = CODECS[file.codec]
    stream = container.add_stream(codec, rate=file.fps, options={**options, **file.options})
    stream.height, stream.width = file.size if name == "video" else (48, 64)
    stream.pix_fmt = file.pix_fmt
    stream.codec_context.sample_aspect_ratio = file.pixel_aspect
    if file.seed is not None or file.start_ticks:
        stream.codec_context.time_base = Fraction(1, 1000)
    if file.rotation:
        stream.set_display_rotation(file.rotation)
    if file.colorspace is not None:
        stream.codec_context.colorspace = file.colorspace
    return stream


def _picture(stream: Any, file: File, draw: Draw) -> Iterator[Any]:
    context = stream.codec_context
    frames = draw(int(SECONDS * file.fps) + file.skipped, context.height, context.width, seed=context.width)
    gaps = np.full(len(frames), float(1000 / file.fps))
    if file.seed is not None:
        gaps = np.random.default_rng(file.seed).integers(8, 60, len(frames))
    milliseconds = file.start_ticks + gaps.cumsum() - gaps[0]
    for index, frame_HWC in enumerate([*frames, None]):
        frame = None if frame_HWC is None else av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")
        if frame is not None and context.time_base == Fraction(1, 1000):
            frame.pts, frame.time_base = round(milliseconds[index]), context.time_base
        for packet in stream.encode(frame):
            shift = round(file.skipped / file.fps / packet.time_base)
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            yield packet


def _sound(stream: Any) -> Iterator[Any]:
    for index in range(150):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), format="flt", layout="mono")
        frame.sample_rate, frame.pts = 48000, 960 * index
        yield from stream.encode(frame)
    yield from stream.encode(None)


FILES = files()
FAST = frozenset(
    (
        *("h264-24fps", "h264_open_gop-29.97fps", "h264_refresh-25fps", "hevc-30fps", "vp9-23.976fps", "av1-12fps"),
        *("mpeg4-15fps", "vfr-h264-mkv-0", "vfr-vp9-webm-1", "span-h264_open_gop-ts-0.371", "span-hevc-mp4-0.5"),
        *("rotated-90-stretched", "aspect-1.33-h264-ts", "odd-73x97-vp9", "yuvj420p-h264-mp4", "yuv420p10le-h264-mp4"),
        *("matrix-1", "start-500-ts", "edit-5-h264_pyramid", "streams-all", "interlaced-h264", "vp8_alt_ref-24fps"),
    )
)


def test_there_are_more_than_two_hundred_files_and_the_fast_ones_are_among_them() -> None:
    assert len(FILES) > 200
    assert FILES.keys() >= FAST


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in FILES])
def test_every_frame_equals_that_of_a_brute_force_decode(
    name: str, tmp_path: Path, moving: Draw, brute_force: Draw
) -> None:
    file, path = FILES[name], tmp_path / f"clip.{FILES[name].suffix}"
    write(path, file, moving)
    result = decode(path.read_bytes(), file.span, RECIPE).result
    assert isinstance(result, DecodedClip), result
    expected = brute_force(
        path,
        RECIPE,
        Fraction(str(file.span.start_s or 0)),
        stream=[each for each in file.streams if each != "sound"].index("video"),
        pixel_aspect=file.pixel_aspect,
        turns=file.rotation // 90,
    )
    np.testing.assert_array_equal(result.yuv.planes_TPW, expected)
    assert result.yuv.colorspace in ((2, 5) if file.colorspace is None else (file.colorspace,))
