"""Several hundred bad files of many kinds: each gets a verdict that fits, none ends or holds the process."""

import io
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.curation.config import LimitsConfig, Recipe
from pipelines.curation.decode import Span
from pipelines.curation.isolation import DecodingProcess
from pipelines.curation.records import Rejection

Frames = NDArray[np.uint8]
Bases = dict[str, bytes]

LIMITS = LimitsConfig(timeout_s=30, max_pixels=640 * 480, max_duration_s=600, max_frames=2000)
RECIPE = Recipe(frames=16, fps=8, size_px=32, limits=LIMITS)
DAMAGED = {"unreadable", "corrupt"}
LYING = {"no_video", "too_short", "too_large", "low_fps"}
"""What may rightly be said of a file whose damaged index or head tells of other streams, rates or durations."""


class Kind(NamedTuple):
    """Files of one kind and the verdicts that fit it; `decoded` where the fault may lie beside what is read."""

    make: Callable[[Bases, np.random.Generator], Iterator[bytes]]
    verdicts: set[str]
    least: Mapping[str, float] = MappingProxyType({})
    """Verdicts that at least this share of the files must get."""


def patched(source: bytes, at: int, new: bytes) -> bytes:
    return source[:at] + new + source[at + len(new) :]


def flipped(source: bytes, first: int, last: int, count: int, rng: np.random.Generator) -> bytes:
    mutable = bytearray(source)
    for place in rng.integers(first, last, count):
        mutable[place] ^= int(rng.integers(1, 256))
    return bytes(mutable)


def media(source: bytes) -> tuple[int, int]:
    """Where the frames of an mp4 lie."""
    at = source.index(b"mdat")
    return at + 4, at - 4 + int.from_bytes(source[at - 4 : at], "big")


def cut(names: tuple[str, ...], shares: tuple[float, float], count: int) -> Callable[..., Iterator[bytes]]:
    def make(bases: Bases, rng: np.random.Generator) -> Iterator[bytes]:
        for name in names:
            for share in rng.uniform(*shares, count):
                yield bases[name][: int(share * len(bases[name]))]

    return make


def flips_in_frames(bases: Bases, rng: np.random.Generator) -> Iterator[bytes]:
    for name in ("h264.mp4", "hevc.mp4", "mpeg4.mp4"):
        first, last = media(bases[name])
        for _ in range(10):
            yield flipped(bases[name], first, last, 60, rng)


def flips_in_blocks(bases: Bases, rng: np.random.Generator) -> Iterator[bytes]:
    for name in ("vp9.webm", "av1.mkv", "h264.ts", "mpeg4.avi"):
        for _ in range(8):
            yield flipped(bases[name], 600, len(bases[name]) - 10, 30, rng)


def flips_in_index(bases: Bases, rng: np.random.Generator) -> Iterator[bytes]:
    source = bases["h264.mp4"]
    for _ in range(30):
        yield flipped(source, source.index(b"moov"), len(source), 3, rng)


def flips_in_head(bases: Bases, rng: np.random.Generator) -> Iterator[bytes]:
    for name in ("vp9.webm", "av1.mkv", "mpeg4.avi", "h264.ts"):
        for _ in range(6):
            yield flipped(bases[name], 0, 600, 4, rng)


def zeros_in_frames(bases: Bases, rng: np.random.Generator) -> Iterator[bytes]:
    for name in ("h264.mp4", "hevc.mp4"):
        first, last = media(bases[name])
        for at in rng.integers(first, first + (last - first) // 2, 6):
            yield patched(bases[name], int(at), bytes(3000))


def scrambled(bases: Bases, rng: np.random.Generator) -> Iterator[bytes]:
    for name in ("h264.mp4", "hevc.mp4"):
        first, last = media(bases[name])
        for mask in rng.integers(1, 256, 4):
            frames = np.frombuffer(bases[name][first:last], np.uint8) ^ np.uint8(mask)
            yield patched(bases[name], first, frames.tobytes())


def appended(bases: Bases, rng: np.random.Generator) -> Iterator[bytes]:
    for name in ("h264.mp4", "front.mp4", "hevc.mp4", "mpeg4.mp4", "mpeg4.avi", "vp9.webm", "av1.mkv", "h264.ts"):
        yield bases[name] + rng.bytes(5000)


def twice(bases: Bases, rng: np.random.Generator) -> Iterator[bytes]:
    yield bases["h264.mp4"] + bases["hevc.mp4"]


def noise(bases: Bases, rng: np.random.Generator) -> Iterator[bytes]:
    for size in (0, 1, 7, 100, 5000, 200_000):
        yield rng.bytes(size)
    yield from (bytes(10_000), b"\xff" * 10_000)


def texts(bases: Bases, rng: np.random.Generator) -> Iterator[bytes]:
    yield b"<!doctype html><html><body>404 Not Found</body></html>" * 30
    yield b'{"error": "no such clip"}'
    yield b"ffconcat version 1.0\nfile '/etc/hostname'\n"
    yield b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
    yield b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>'


def pictures(bases: Bases, rng: np.random.Generator) -> Iterator[bytes]:
    picture = rng.integers(0, 255, (96, 96, 3), dtype=np.uint8)
    for suffix in (".jpg", ".png", ".bmp", ".webp"):
        yield cv2.imencode(suffix, picture)[1].tobytes()


def declared_sizes(bases: Bases, rng: np.random.Generator) -> Iterator[bytes]:
    for name, box in (("h264.mp4", b"avc1"), ("hevc.mp4", b"hev1")):
        at = bases[name].rindex(box) + 4 + 24
        for width, height in ((2, 2), (16, 16), (0, 0), (65535, 65535), (20000, 20000), (640, 481)):
            yield patched(bases[name], at, struct.pack(">HH", width, height))


def declared_counts(*counts: int) -> Callable[[Bases, np.random.Generator], Iterator[bytes]]:
    """Each number of frames in three places: of sizes, of equal sizes, of equal durations."""

    def make(bases: Bases, rng: np.random.Generator) -> Iterator[bytes]:
        source = bases["h264.mp4"]
        sizes, times = source.rindex(b"stsz") + 8, source.rindex(b"stts") + 12
        for count in counts:
            yield patched(source, sizes + 4, struct.pack(">I", count))
            yield patched(source, sizes, struct.pack(">II", 1, count))
            yield patched(source, times, struct.pack(">I", count))

    return make


def declared_durations(*ticks: int) -> Callable[[Bases, np.random.Generator], Iterator[bytes]]:
    def make(bases: Bases, rng: np.random.Generator) -> Iterator[bytes]:
        source = bases["h264.mp4"]
        for delta in ticks:
            yield patched(source, source.rindex(b"stts") + 16, struct.pack(">I", delta))

    return make


def remuxed(source: bytes, suffix: str, keep: Callable[[int], bool]) -> bytes:
    sink = io.BytesIO()
    with av.open(io.BytesIO(source)) as given, av.open(sink, "w", format=suffix) as copy:
        stream = copy.add_stream_from_template(given.streams.video[0])
        for index, packet in enumerate(packet for packet in given.demux(video=0) if packet.size):
            if keep(index):
                packet.stream = stream
                copy.mux(packet)
    return sink.getvalue()


def without_their_first_frame(bases: Bases, rng: np.random.Generator) -> Iterator[bytes]:
    for name in ("h264.mp4", "hevc.mp4", "mpeg4.mp4", "vp9.webm"):
        for count in (1, 3):
            yield remuxed(bases[name], "matroska", lambda index, count=count: index >= count)


def with_gaps(bases: Bases, rng: np.random.Generator) -> Iterator[bytes]:
    for name in ("h264.mp4", "hevc.mp4", "vp9.webm"):
        for _ in range(4):
            lost = set(rng.integers(1, 40, 6).tolist())
            yield remuxed(bases[name], "matroska", lambda index, lost=lost: index not in lost)


def without_times(bases: Bases, rng: np.random.Generator) -> Iterator[bytes]:
    yield remuxed(bases["h264.mp4"], "h264", lambda index: True)
    yield remuxed(bases["hevc.mp4"], "hevc", lambda index: True)
    yield bases["reordered.avi"]


def one(name: str) -> Callable[..., Iterator[bytes]]:
    return lambda bases, rng: iter((bases[name],))


def write_two_sizes(path: Path, halves: Sequence[Frames]) -> None:
    """One H.264 stream whose pictures change their size, at times that go on."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width, stream.pix_fmt = *halves[0].shape[1:3], "yuv420p"
        for index, frames in enumerate(halves):
            context = av.CodecContext.create("libx264", "w")
            context.height, context.width, context.pix_fmt = *frames.shape[1:3], "yuv420p"
            context.time_base, context.framerate = Fraction(1, 24), Fraction(24)
            context.options = {"bf": "0", "tune": "zerolatency"}
            pictures = [av.VideoFrame.from_ndarray(frame_HWC, format="rgb24") for frame_HWC in frames]
            for place, picture in enumerate(pictures):
                picture.pts = index * len(halves[0]) + place
            for packet in (packet for picture in (*pictures, None) for packet in context.encode(picture)):
                packet.stream, packet.time_base = stream, Fraction(1, 24)
                container.mux(packet)


KINDS = {
    "index at the end cut off": Kind(cut(("h264.mp4", "hevc.mp4"), (0.05, 0.9), 8), {"unreadable"}),
    "cut after the index": Kind(cut(("front.mp4",), (0.3, 0.6), 8), {"corrupt"}),
    "cut in the index": Kind(cut(("front.mp4",), (0.01, 0.05), 6), {"unreadable", "no_video"}),
    "cut without an index": Kind(cut(("vp9.webm", "av1.mkv"), (0.1, 0.6), 8), {"corrupt"}),
    "cut where no length is declared": Kind(cut(("h264.ts",), (0.1, 0.5), 6), {"corrupt", "too_short"}),
    "flips in frames": Kind(flips_in_frames, {"corrupt", "decoded"}, {"corrupt": 0.8}),
    "flips in blocks": Kind(flips_in_blocks, {*DAMAGED, *LYING, "decoded"}, {"corrupt": 0.8}),
    "flips in the index": Kind(flips_in_index, {*DAMAGED, *LYING, "decoded"}, {"corrupt": 0.2, "unreadable": 0.2}),
    "flips in the head": Kind(flips_in_head, {*DAMAGED, "decoded"}, {"decoded": 0.3, "unreadable": 0.2}),
    "zeros in frames": Kind(zeros_in_frames, {"corrupt"}),
    "scrambled frames": Kind(scrambled, {"corrupt"}),
    "something appended": Kind(appended, {"decoded"}),
    "two files in one": Kind(twice, {"decoded"}),
    "noise": Kind(noise, {"unreadable"}),
    "texts and playlists": Kind(texts, {"unreadable"}),
    "pictures": Kind(pictures, {"unreadable"}),
    "lies about the size": Kind(
        declared_sizes, {"decoded", "too_small", "too_large"}, {"too_small": 0.3, "too_large": 0.5}
    ),
    # "decoded": the number of equal durations is not what frames are read by.
    "lies about too many frames": Kind(
        declared_counts(10**9, 2**32 - 1, 10**6), {*DAMAGED, "decoded"}, {"corrupt": 0.4, "unreadable": 0.2}
    ),
    "lies about too few frames": Kind(declared_counts(0, 3), {"corrupt", "too_short"}, {"corrupt": 0.6}),
    "lies about a short duration": Kind(declared_durations(0, 1, 2**32 - 1), {"corrupt", "too_short"}),
    "lies about a long duration": Kind(declared_durations(2**31 - 1, 10**7), {"too_large"}),
    "first frames missing": Kind(without_their_first_frame, {"corrupt"}),
    "frames missing": Kind(with_gaps, {"corrupt", "decoded"}),
    "no timestamps": Kind(without_times, {"unreadable"}),
    "changes its size": Kind(one("changes.ts"), {"decoded"}),
    "grows beyond the limit": Kind(one("grows.ts"), {"too_large", "corrupt"}),
    "shrinks below the limit": Kind(one("shrinks.ts"), {"too_small"}),
}


@pytest.fixture(scope="module")
def bases(
    tmp_path_factory: pytest.TempPathFactory, moving: Callable[..., Frames], video_writer: Callable[..., Path]
) -> Bases:
    folder = tmp_path_factory.mktemp("bases")
    frames = moving(72)
    x265 = {"x265-params": "log-level=none:pools=none:keyint=72"}
    for name, codec, options in (
        ("h264.mp4", "libx264", {"g": "72"}),
        ("hevc.mp4", "libx265", x265),
        ("mpeg4.mp4", "mpeg4", {"g": "72"}),
        ("mpeg4.avi", "mpeg4", {"g": "72"}),
        ("vp9.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
        ("av1.mkv", "libsvtav1", {"preset": "12"}),
        ("h264.ts", "libx264", {"g": "72"}),
        ("reordered.avi", "libx264", {"bf": "3", "b-adapt": "0"}),
    ):
        video_writer(folder / name, frames, 24, codec, options)
    for name, size in (("grows.ts", (640, 960)), ("shrinks.ts", (24, 32)), ("changes.ts", (48, 80))):
        write_two_sizes(folder / name, (frames[:24], moving(48, *size)))
    with (
        av.open(str(folder / "h264.mp4")) as given,
        av.open(str(folder / "front.mp4"), "w", options={"movflags": "faststart"}) as copy,
    ):
        stream = copy.add_stream_from_template(given.streams.video[0])
        for packet in (packet for packet in given.demux(video=0) if packet.size):
            packet.stream = stream
            copy.mux(packet)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def isolated() -> Iterator[DecodingProcess]:
    with DecodingProcess(RECIPE) as process:
        yield process


def test_there_are_kinds_and_files_enough(bases: Bases) -> None:
    assert len(KINDS) >= 15
    assert sum(len(list(kind.make(bases, np.random.default_rng(0)))) for kind in KINDS.values()) >= 200


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_bad_file_gets_a_verdict_that_fits_and_the_same_one_again(
    bases: Bases, isolated: DecodingProcess, name: str
) -> None:
    kind, found = KINDS[name], []
    for source in kind.make(bases, np.random.default_rng(0)):
        results = [isolated(source, Span(), 0).result for _ in range(2)]
        assert results[0] == results[1]
        found.append(results[0].verdict if isinstance(results[0], Rejection) else "decoded")
    assert set(found) <= kind.verdicts
    for verdict, share in kind.least.items():
        assert found.count(verdict) >= share * len(found)
