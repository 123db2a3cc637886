"""Decoded frames are those of a brute-force decode, and a bad file is a verdict."""

from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.curation.config import LimitsConfig, Recipe
from pipelines.curation.decode import Span, decode
from pipelines.curation.records import DecodedClip, Rejection

Frames = NDArray[np.uint8]
Draw = Callable[..., Frames]
Write = Callable[..., Path]

RECIPE = Recipe(frames=16, fps=8, size_px=32)
RECIPE_100 = Recipe(frames=200, fps=100, size_px=32)
CASES = {
    "h264_12fps": ("mp4", "libx264", Fraction(12), {}),
    "h264_24fps_b_pyramid": ("mp4", "libx264", Fraction(24), {"bf": "3", "b-pyramid": "normal", "g": "12"}),
    "h264_25fps_no_b": ("mkv", "libx264", Fraction(25), {"bf": "0"}),
    "h264_ntsc": ("mp4", "libx264", Fraction(30000, 1001), {"bf": "2"}),
    "h264_50fps_ts": ("ts", "libx264", Fraction(50), {"bf": "2", "g": "25"}),
    "h264_60fps": ("mp4", "libx264", Fraction(60), {"bf": "3"}),
    "hevc_30fps": ("mp4", "libx265", Fraction(30), {"x265-params": "log-level=none:bframes=4:b-pyramid=1"}),
    "vp9_24fps": ("webm", "libvpx-vp9", Fraction(24), {"deadline": "realtime", "cpu-used": "8"}),
    "vp9_60fps": ("webm", "libvpx-vp9", Fraction(60), {"deadline": "realtime", "cpu-used": "8"}),
    "av1_30fps": ("mkv", "libsvtav1", Fraction(30), {"preset": "12"}),
    "mpeg4_15fps": ("mp4", "mpeg4", Fraction(15), {"bf": "2"}),
}


def planes_of(path: Path, recipe: Recipe = RECIPE, span: Span | None = None) -> Frames:
    return clip_of(path, recipe, span).yuv.planes_TPW


def frames_of(path: Path, recipe: Recipe = RECIPE) -> Frames:
    return clip_of(path, recipe).yuv.to_rgb()


def clip_of(path: Path, recipe: Recipe = RECIPE, span: Span | None = None) -> DecodedClip:
    result = decode(path.read_bytes(), span or Span(), recipe).result
    assert isinstance(result, DecodedClip), result
    return result


def remux(source: Path, target: Path, change: Callable[[int, av.Packet], list[av.Packet]], **options: str) -> None:
    with av.open(str(source)) as given, av.open(str(target), "w", options=options) as copy:
        stream = copy.add_stream_from_template(given.streams.video[0])
        for index, packet in enumerate(packet for packet in given.demux(video=0) if packet.size):
            for changed in change(index, packet):
                changed.stream = stream
                copy.mux(changed)


def verdict_of(source: bytes, recipe: Recipe = RECIPE, span: Span | None = None) -> str:
    result = decode(source, span or Span(), recipe).result
    return result.verdict if isinstance(result, Rejection) else "decoded"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory, moving: Draw, video_writer: Write) -> Callable[[str], Path]:
    """Each case is rendered once."""
    folder = tmp_path_factory.mktemp("rendered")

    def render(name: str) -> Path:
        suffix, codec, fps, options = CASES[name]
        path = folder / f"{name}.{suffix}"
        if not path.exists():
            video_writer(path, moving(int(fps * 3) + 1), fps, codec, options)
        return path

    return render


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("fps", [8, 16])
def test_frames_equal_a_brute_force_decode(
    rendered: Callable[[str], Path], brute_force: Draw, name: str, fps: int
) -> None:
    path, recipe = rendered(name), Recipe(frames=2 * fps, fps=fps, size_px=32)
    np.testing.assert_array_equal(planes_of(path, recipe), brute_force(path, recipe))


@pytest.mark.parametrize("name", ["h264_24fps_b_pyramid", "hevc_30fps", "vp9_60fps", "av1_30fps", "h264_50fps_ts"])
def test_frames_of_a_span_equal_a_brute_force_decode(
    rendered: Callable[[str], Path], brute_force: Draw, name: str
) -> None:
    path = rendered(name)
    span = planes_of(path, RECIPE, Span(0.77, 2.9))
    np.testing.assert_array_equal(span, brute_force(path, RECIPE, Fraction("0.77")))


def test_frames_of_a_variable_rate_equal_a_brute_force_decode(
    clips: Path, moving: Draw, video_writer: Write, brute_force: Draw
) -> None:
    gaps = np.random.default_rng(5).integers(8, 140, 60)
    pts = np.concatenate(([0], gaps.cumsum())).tolist()
    path = video_writer(
        clips / "vfr.mkv", moving(len(pts)), 30, options={"bf": "2"}, pts=pts, time_base=Fraction(1, 1000)
    )
    np.testing.assert_array_equal(planes_of(path), brute_force(path, RECIPE))


def test_neighbouring_frames_differ_where_the_source_has_enough_of_them(rendered: Callable[[str], Path]) -> None:
    frames = frames_of(rendered("h264_60fps"))
    assert all((earlier != later).any() for earlier, later in pairwise(frames))


@pytest.mark.parametrize("name", ["h264_24fps_b_pyramid", "h264_ntsc", "hevc_30fps", "vp9_24fps"])
def test_decord_reads_the_frames_that_pyav_reads(rendered: Callable[[str], Path], name: str) -> None:
    by_pyav = frames_of(rendered(name)).astype(int)
    by_decord = frames_of(rendered(name), RECIPE.model_copy(update={"decoder": "decord"})).astype(int)
    # Both scale with swscale but by other kernels, so pixels are near, and nearest at the same index.
    distance = np.abs(by_pyav[:, None] - by_decord[None]).mean(axis=(2, 3, 4))
    assert (distance.argmin(axis=1) == np.arange(len(by_pyav))).all()
    assert distance.diagonal().max() < 6


def test_what_decord_cannot_read_is_left_to_pyav(rendered: Callable[[str], Path]) -> None:
    path = rendered("av1_30fps")
    np.testing.assert_array_equal(frames_of(path, RECIPE.model_copy(update={"decoder": "decord"})), frames_of(path))


@pytest.mark.parametrize(
    ("suffix", "rotation", "pixel_aspect"),
    [
        *[(suffix, rotation, Fraction(1)) for suffix in ("mp4", "mov") for rotation in (90, 270)],
        *[(suffix, 0, Fraction(2)) for suffix in ("mp4", "mov", "ts", "mkv")],
    ],
)
def test_pictures_whose_shape_decord_ignores_are_left_to_pyav_and_their_crop_is_told_upright(
    clips: Path, moving: Draw, suffix: str, rotation: int, pixel_aspect: Fraction
) -> None:
    path = clips / f"shaped.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height, stream.width, stream.pix_fmt = 72, 96, "yuv420p"
        stream.codec_context.sample_aspect_ratio = pixel_aspect
        if rotation:
            stream.set_display_rotation(rotation)
        for frame_HWC in moving(60):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")))
        container.mux(stream.encode(None))
    by_pyav, by_decord = clip_of(path), clip_of(path, RECIPE.model_copy(update={"decoder": "decord"}))
    np.testing.assert_array_equal(by_decord.yuv.planes_TPW, by_pyav.yuv.planes_TPW)
    left, top, width, height = by_pyav.crop
    assert by_decord.crop == by_pyav.crop
    assert (width, height) == (72, 72)
    assert (left, top) == pytest.approx((0, 12) if rotation else ((96 * pixel_aspect - 72) / 2, 0), abs=3)


def test_a_wide_picture_is_cropped_at_its_centre(clips: Path, video_writer: Write) -> None:
    frames = np.zeros((24, 64, 128, 3), np.uint8)
    frames[:, :, 32:96] = 200
    decoded = decode(
        video_writer(clips / "wide.mp4", frames, 8).read_bytes(), Span(), Recipe(frames=16, fps=8, size_px=32)
    ).result
    assert isinstance(decoded, DecodedClip)
    assert decoded.yuv.to_rgb().shape == (16, 32, 32, 3)
    assert decoded.crop == (32, 0, 64, 64)
    assert decoded.yuv.to_rgb()[:, :, 2:-2].min() > 180


def test_a_rotated_picture_stands_upright(clips: Path) -> None:
    path, frame_HWC = clips / "rotated.mp4", np.zeros((64, 96, 3), np.uint8)
    frame_HWC[:, :48] = 220
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        stream.set_display_rotation(90)
        for _ in range(24):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(path)) as container:
        angle = next(container.decode(video=0)).rotation
    assert abs(angle) == 90
    frames = frames_of(path)
    lit, dark = (frames[:, 16:], frames[:, :16]) if angle == 90 else (frames[:, :16], frames[:, 16:])
    assert lit.mean() > 150
    assert dark.mean() < 60


def test_a_clip_that_ends_before_its_last_frame_is_over_is_too_short(
    rendered: Callable[[str], Path],
) -> None:
    source = rendered("h264_24fps_b_pyramid").read_bytes()
    assert verdict_of(source, Recipe(frames=24, fps=8, size_px=32)) == "decoded"
    assert verdict_of(source, Recipe(frames=25, fps=8, size_px=32)) == "too_short"
    assert verdict_of(source, RECIPE, Span(1.2)) == "too_short"
    assert verdict_of(source, RECIPE, Span(0.0, 1.5)) == "too_short"


@pytest.mark.parametrize(("fps", "num_frames"), [(12, 59), (8, 39)])
def test_no_frame_is_repeated_for_one_that_an_avi_lacks(
    clips: Path, moving: Draw, video_writer: Write, fps: int, num_frames: int
) -> None:
    recipe = Recipe(frames=80, fps=16, size_px=32)
    short = video_writer(clips / "short.avi", moving(num_frames), fps, "mpeg4").read_bytes()
    whole = video_writer(clips / "whole.avi", moving(num_frames + 1), fps, "mpeg4").read_bytes()
    assert (verdict_of(short, recipe), verdict_of(whole, recipe)) == ("too_short", "decoded")


def test_files_that_are_no_video_are_unreadable(rendered: Callable[[str], Path]) -> None:
    assert verdict_of(b"A text that someone has named clip.mp4.\n" * 40) == "unreadable"
    assert verdict_of(b"") == "unreadable"
    assert verdict_of(b"\xff\xd8\xff\xe0 no such picture") == "unreadable"
    # The index of this mp4 lies at its end, and is cut off.
    assert verdict_of(rendered("h264_60fps").read_bytes()[:-4000]) == "unreadable"


def test_a_playlist_that_names_another_file_is_not_followed(
    rendered: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = rendered("h264_12fps")
    monkeypatch.chdir(target.parent)
    assert verdict_of(f"ffconcat version 1.0\nfile '{target.name}'\n".encode()) == "unreadable"


def test_sound_alone_is_no_video(clips: Path, sound_writer: Callable[[Path], Path]) -> None:
    assert verdict_of(sound_writer(clips / "sound.mp4").read_bytes()) == "no_video"


@pytest.mark.parametrize("num_flipped", [1, 60])
def test_flipped_bytes_that_decoders_pass_silently_are_corrupt(
    clips: Path, moving: Draw, video_writer: Write, num_flipped: int
) -> None:
    source = bytearray(video_writer(clips / "a.mp4", moving(72, 144, 192), 24, options={"g": "72"}).read_bytes())
    first = source.index(b"mdat") + 4000
    for place in np.random.default_rng(0).integers(first, len(source) - 3000, num_flipped):
        source[place] ^= 0xFF
    result = decode(bytes(source), Span(), Recipe(frames=24, fps=8, size_px=32)).result
    assert isinstance(result, Rejection)
    assert result.verdict == "corrupt"
    assert result.reason.startswith("the decoder marks the frame at")


def test_a_file_that_ends_early_is_corrupt(rendered: Callable[[str], Path], clips: Path) -> None:
    whole = clips / "front.mp4"
    with (
        av.open(str(rendered("h264_24fps_b_pyramid"))) as given,
        av.open(str(whole), "w", options={"movflags": "faststart"}) as copy,
    ):
        stream = copy.add_stream_from_template(given.streams.video[0])
        for packet in given.demux(video=0):
            if packet.size:
                packet.stream = stream
                copy.mux(packet)
    source = whole.read_bytes()
    with av.open(str(whole)) as copy:
        packet = [packet for packet in copy.demux(video=0) if packet.size][30]
    between_packets = (packet.pos or 0) + packet.size
    assert verdict_of(source) == "decoded"
    assert verdict_of(source[:between_packets]) == "corrupt"
    assert verdict_of(source[: between_packets - 20]) == "corrupt"


@pytest.mark.parametrize(
    ("limits", "verdict"),
    [
        (LimitsConfig(max_pixels=96 * 72 - 1), "too_large"),
        (LimitsConfig(max_duration_s=2.5), "too_large"),
        (LimitsConfig(min_short_side_px=73), "too_small"),
        (LimitsConfig(min_source_fps=24.1), "low_fps"),
        (LimitsConfig(min_source_fps=24), "decoded"),
        (LimitsConfig(max_frames=73), "too_large"),
        (LimitsConfig(max_frames=74), "decoded"),
    ],
)
def test_limits_are_told_by_their_verdicts(rendered: Callable[[str], Path], limits: LimitsConfig, verdict: str) -> None:
    source = rendered("h264_24fps_b_pyramid").read_bytes()
    assert verdict_of(source, RECIPE.model_copy(update={"limits": limits})) == verdict


def test_the_duration_is_limited_where_none_is_declared_too(rendered: Callable[[str], Path], clips: Path) -> None:
    path = clips / "live.mkv"
    remux(rendered("h264_24fps_b_pyramid"), path, lambda index, packet: [packet], live="1")
    source = path.read_bytes()
    assert verdict_of(source) == "decoded"
    limits = LimitsConfig(max_duration_s=2.5)
    assert verdict_of(source, RECIPE.model_copy(update={"limits": limits})) == "too_large"


def test_a_frame_that_is_wrongly_called_a_key_is_not_where_reading_starts(
    clips: Path, moving: Draw, video_writer: Write, brute_force: Draw
) -> None:
    honest = video_writer(clips / "honest.mp4", moving(80), 24, "mpeg4", {"g": "100"})

    def call_it_a_key(index: int, packet: av.Packet) -> list[av.Packet]:
        packet.is_keyframe = True
        return [packet]

    remux(honest, clips / "lying.mp4", call_it_a_key)
    planes = planes_of(clips / "lying.mp4", RECIPE, Span(1.0))
    np.testing.assert_array_equal(planes, brute_force(honest, RECIPE, Fraction(1)))


def test_frames_that_only_serve_others_are_never_waited_for(
    clips: Path, moving: Draw, video_writer: Write, brute_force: Draw
) -> None:
    plain = video_writer(clips / "plain.webm", moving(60), 24, "libvpx", {"deadline": "realtime", "cpu-used": "8"})

    def hide(index: int, packet: av.Packet) -> list[av.Packet]:
        if index != 20:
            return [packet]
        data = bytes(packet)
        hidden = av.Packet(bytes((data[0] & ~0x10, *data[1:])))
        hidden.pts, hidden.dts, hidden.time_base = packet.pts + 9, packet.dts + 9, packet.time_base
        return [packet, hidden]

    remux(plain, clips / "hidden.webm", hide)
    np.testing.assert_array_equal(
        planes_of(clips / "hidden.webm", RECIPE_100), brute_force(clips / "hidden.webm", RECIPE_100)
    )


def test_nothing_is_scaled_up_unless_the_limits_allow_it(rendered: Callable[[str], Path]) -> None:
    source, recipe = rendered("h264_12fps").read_bytes(), Recipe(frames=16, fps=8, size_px=128)
    assert verdict_of(source, recipe) == "too_small"
    limits = LimitsConfig(min_short_side_px=64)
    assert verdict_of(source, recipe.model_copy(update={"limits": limits})) == "decoded"


def test_facts_of_the_source_are_told_of_rejected_clips_too(rendered: Callable[[str], Path]) -> None:
    path = rendered("vp9_24fps")
    facts = decode(path.read_bytes(), Span(), Recipe(frames=800, fps=8, size_px=32)).facts
    assert (facts["codec"], facts["source_width"], facts["source_height"]) == ("vp9", 96, 72)
    assert facts["source_fps"] == pytest.approx(24, abs=0.1)
    assert facts["source_bytes"] == path.stat().st_size
