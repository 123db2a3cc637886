"""The demo's clips as files: real, of many kinds, the same for one seed, and flawed as their labels say."""

import csv
import os
import random
import subprocess
from collections import Counter
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from demo import flaws
from demo.encode import CODECS, Encoding, Timing, encode
from demo.render import render
from demo.scene import draw_scene
from demo.shapes import Clip, clip_bytes, plan_clips, plan_prompts, write_clips
from pipelines.curation.captions import judge_caption
from pipelines.curation.config import FilterConfig, Recipe
from pipelines.curation.decode import Span, decode
from pipelines.curation.filters import judge, measure
from pipelines.curation.records import Rejection
from pipelines.video_file import read_video

RECIPE = Recipe(frames=16, fps=8, size_px=32)
SUFFIXES = {"h264": "mp4", "hevc": "mp4", "vp9": "webm", "av1": "mkv"}
DECODERS = {"h264": "h264", "hevc": "hevc", "vp9": "vp9", "av1": "libdav1d"}
PIXEL_FLAWS = ("still", "dark", "cut", "letterboxed", "blurred", "short", "truncated", "flipped", "text", "audio")


def verdict(data: bytes, caption: str = "a red star moving up") -> str:
    """What curation says of a file, without alignment and without looking for duplicates."""
    decoded = decode(data, Span(), RECIPE).result
    if isinstance(decoded, Rejection):
        return decoded.verdict
    rejection = judge(measure(decoded.yuv.to_rgb()), FilterConfig()) or judge_caption(caption, FilterConfig())
    return rejection.verdict if rejection else "kept"


def flawed(flaw: str, count: int, seed: int = 3) -> list[Clip]:
    """Some clips with a flaw."""
    return [clip for clip in plan_clips(200, 190, seed) if clip.flaw == flaw][:count]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("is_varying", [False, True])
def test_every_codec_writes_all_frames_at_their_times(codec: str, is_varying: bool, tmp_path: Path) -> None:
    ticks = (0, 40, 57, 90, 140, 157, 240, 300) if is_varying else tuple(range(8))
    timing = Timing(Fraction(1, 1000) if is_varying else Fraction(1, 25), ticks, Fraction(25))
    encoding = Encoding(codec, SUFFIXES[codec], 96, 64, timing)
    frames = render(draw_scene(random.Random(0)), timing.times_s, 96, 64)
    path = tmp_path / f"clip.{encoding.suffix}"
    path.write_bytes(encode(frames, encoding))
    assert np.abs(read_video(path).frames_THWC.astype(int) - frames).mean() < 6
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == DECODERS[codec]
        shown = [float(frame.pts * frame.time_base) for frame in container.decode(stream)]
    np.testing.assert_allclose(shown, timing.times_s, atol=0.0011)


def test_a_plan_holds_every_codec_flaw_and_kind_of_timing() -> None:
    clips = plan_clips(200, 100, 0)
    assert {clip.encoding.codec for clip in clips} == set(CODECS)
    assert {clip.encoding.suffix for clip in clips} == {"mp4", "webm", "mkv"}
    assert {clip.flaw for clip in clips} == {None, *flaws.VERDICTS}
    rates = {clip.encoding.timing.fps for clip in clips}
    assert (min(rates), max(rates)) == (12, 60)
    assert any(len(set(np.diff(clip.encoding.timing.ticks))) > 1 for clip in clips)
    seconds = [clip.encoding.timing.times_s[-1] for clip in clips if clip.flaw is None]
    assert 2.0 < min(seconds) < 2.5
    assert 10 < max(seconds) <= 20
    assert any(clip.encoding.height > clip.encoding.width for clip in clips)


def test_one_clip_of_each_flaw_before_a_second_of_any() -> None:
    counts = Counter(clip.flaw for clip in plan_clips(100, 20, 0))
    assert counts.pop(None) == 80
    assert set(counts) == set(flaws.VERDICTS)
    assert set(counts.values()) == {1, 2}


def test_more_flawed_clips_than_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="flawed: 0 to 4 expected .* given 5"):
        plan_clips(5, 5, 0)


def test_good_clips_are_kept() -> None:
    for clip in plan_clips(16, 0, 4):
        assert (clip.label, verdict(clip_bytes(clip), clip.caption)) == ("kept", "kept"), clip


@pytest.mark.parametrize("flaw", PIXEL_FLAWS)
def test_a_flaw_gets_the_verdict_that_it_is_owed(flaw: str) -> None:
    clips = flawed(flaw, 3)
    assert len(clips) == 3
    assert [verdict(clip_bytes(clip)) for clip in clips] == [flaws.VERDICTS[flaw]] * 3


@pytest.mark.parametrize("flaw", ["empty_caption", "html_caption"])
def test_a_flawed_caption_stands_by_a_good_clip(flaw: str) -> None:
    for clip in flawed(flaw, 3):
        assert verdict(clip_bytes(clip), clip.caption) == clip.label == flaws.VERDICTS[flaw]


def test_a_duplicate_has_the_bytes_of_an_earlier_good_clip() -> None:
    clips = plan_clips(60, 40, 1)
    for place, clip in enumerate(clips):
        if clip.flaw == "duplicate":
            originals = [other for other in clips[:place] if other.flaw is None and other.encoding == clip.encoding]
            assert clip_bytes(clip) in [clip_bytes(other) for other in originals]


def test_a_wrong_caption_names_another_shape_and_another_colour() -> None:
    for clip in flawed("wrong_caption", 10):
        assert clip.scene.shape not in clip.caption
        assert clip.scene.color not in clip.caption


# The first four are H.264 clips that came out otherwise now and then while x264's macroblock tree was on.
@pytest.mark.parametrize("place", [85, 138, 145, 159, "hevc", "vp9", "av1"])
def test_a_clip_has_the_same_bytes_whatever_lay_in_memory_before(place: int | str) -> None:
    clips = plan_clips(160, 84, 1)
    clip = clips[place] if isinstance(place, int) else next(c for c in clips if c.encoding.codec == place)
    written = set[bytes]()
    for number in range(6):
        junk = [np.random.default_rng(number).integers(0, 255, 400_000, dtype=np.uint8) for _ in range(60)]
        del junk
        written.add(clip_bytes(clip))
    assert len(written) == 1


def test_prompts_are_captions_of_no_clip() -> None:
    clips = plan_clips(100, 20, 0)
    prompts = plan_prompts(clips, 12, 0)
    assert len(set(prompts)) == 12
    assert not {clip.caption for clip in clips} & set(prompts)


def test_the_manifest_tells_what_is_in_each_file(tmp_path: Path) -> None:
    clips = plan_clips(6, 2, 0)
    write_clips(tmp_path, clips, processes=1)
    with (tmp_path / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["video"] for row in rows] == [clip.file for clip in clips]
    assert [row["label"] for row in rows] == [clip.label for clip in clips]
    assert all((tmp_path / row["video"]).is_file() for row in rows)
    assert rows[0]["color"] in rows[0]["caption"]


@pytest.mark.slow
def test_the_command_writes_the_same_folder_with_one_process_and_with_two(
    root: Path, python: str, tmp_path: Path
) -> None:
    for processes in ("1", "2"):
        out = tmp_path / processes
        command = [python, "-m", "demo.shapes", "--out", str(out), "--clips", "30", "--flawed", "14"]
        subprocess.run([*command, "--processes", processes], cwd=root, check=True, capture_output=True)
    files = [sorted(path.relative_to(tmp_path / n) for path in (tmp_path / n).rglob("*")) for n in ("1", "2")]
    assert files[0] == files[1]
    for path in files[0]:
        if (tmp_path / "1" / path).is_file():
            assert (tmp_path / "1" / path).read_bytes() == (tmp_path / "2" / path).read_bytes(), path


def test_encoding_leaves_the_process_an_ordinary_one() -> None:
    """As root, SVT-AV1 would make it a real-time one, before which all else starves."""
    before = os.sched_getscheduler(0)
    frames = [np.zeros((64, 64, 3), np.uint8)] * 2
    encode(frames, Encoding("av1", "mp4", 64, 64, Timing(Fraction(1, 8), (0, 1), Fraction(8))))
    assert os.sched_getscheduler(0) == before
