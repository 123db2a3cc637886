"""The decode kernel against other ways to the same frames, and against what its codec alone takes."""

import io
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple

import decord
from pairs import in_pairs

from curation.rows import Row, Setting
from curation.sources import Sources, generated, of_folder
from pipelines.curation.config import Recipe
from pipelines.curation.container import Track, demux, open_source, video_stream
from pipelines.curation.decode import Span, decode
from pipelines.curation.pyav_reader import decoded
from pipelines.curation.records import Rejection
from pipelines.curation.timeline import Window, shown_at

RECIPE = Recipe()
ONE_THREAD = ("-filter_threads", "1", "-threads", "1")


def rows(setting: Setting) -> Iterator[Row]:
    """All ratios of the table, for each group of clips."""
    if setting.clips is not None:
        yield from _rows_of(of_folder(setting.clips), setting, ("<= 0.92", ">= 0.78"))
    for sources in generated():
        yield from _rows_of(sources, setting, ("<= 0.80", ">= 0.85" if "720p" in sources.name else ""))


def _rows_of(sources: Sources, setting: Setting, bars: tuple[str, str]) -> Iterator[Row]:
    name, given = sources
    clips = [clip for clip in given if not isinstance(decode(clip, Span(), RECIPE).result, Rejection)]
    if len(clips) < len(given):
        print(f"{len(given) - len(clips)} of {len(given)} cannot be used: {name}")
    with ExitStack() as stack:
        tracks = [_track(clip, stack) for clip in clips]
        plans = [_decord_plan(track) for track in tracks]
        files = [_file(clip, stack) for clip in clips]
        ours, in_rgb = partial(_kernels, clips), partial(_rgb_kernels, clips)
        decords, codecs = partial(_decords, plans), partial(_codecs, tracks)
        yield Row.of(in_pairs(f"decode kernel / decord, {name}", ours, decords, setting.pairs), bars[0])
        yield Row.of(in_pairs(f"... with RGB of all frames / decord, {name}", in_rgb, decords, setting.pairs), "")
        yield Row.of(in_pairs(f"codec alone / decode kernel, {name}", codecs, ours, setting.pairs), bars[1])
        if setting.ffmpeg is not None:
            command, on_one_thread = (partial(_ffmpegs, files, setting.ffmpeg, words) for words in ([], ONE_THREAD))
            yield Row.of(in_pairs(f"decode kernel / ffmpeg one pass, {name}", ours, command, setting.pairs), "<= 0.70")
            yield Row.of(in_pairs(f"... / ffmpeg on one thread, {name}", ours, on_one_thread, setting.pairs), "")
        else:
            print(f"not run, no ffmpeg command: decode kernel / ffmpeg one pass, {name}")


def _kernels(clips: Sequence[bytes]) -> None:
    for clip in clips:
        decode(clip, Span(), RECIPE)


def _rgb_kernels(clips: Sequence[bytes]) -> None:
    for clip in clips:
        result = decode(clip, Span(), RECIPE).result
        assert not isinstance(result, Rejection)
        result.yuv.to_rgb()


class _Decord(NamedTuple):
    clip: bytes
    indices: list[int]
    width: int
    height: int


def _decord_plan(track: Track) -> _Decord:
    """What decord is told for nothing: indices by exact time, and the size to scale to."""
    rank = {pts: index for index, pts in enumerate(track.timeline.pts)}
    scale = RECIPE.size_px / min(track.stream.width, track.stream.height)
    width, height = (round(side * scale) for side in (track.stream.width, track.stream.height))
    return _Decord(track.source, [rank[pts] for pts in _targets(track)], width, height)


def _decords(plans: Sequence[_Decord]) -> None:
    for plan in plans:
        video = decord.VideoReader(io.BytesIO(plan.clip), width=plan.width, height=plan.height, num_threads=1)
        video.get_batch(plan.indices).asnumpy()


def _codecs(tracks: Sequence[Track]) -> None:
    """Open files, packets in memory: only the decoder runs, and only for the frames that are needed."""
    for track in tracks:
        track.stream.codec_context.flush_buffers()
        for _ in decoded(track, track.packets, frozenset(_targets(track))):
            pass


def _ffmpegs(files: Sequence[Path], ffmpeg: str, threads: Sequence[str]) -> None:
    """Decode, choose by time, scale, crop: the same frames in the same format, through a pipe."""
    size = RECIPE.size_px
    scale = f"scale=w='if(gt(iw,ih),-2,{size})':h='if(gt(iw,ih),{size},-2)':flags=area"
    picture = f"fps={RECIPE.rate}:round=up,{scale},crop={size}:{size}"
    for file in files:
        words = [ffmpeg, "-v", "error", *threads, "-i", str(file), "-an", "-vf", picture]
        output = ["-frames:v", str(RECIPE.frames), "-f", "rawvideo", "-pix_fmt", "yuv420p", "-"]
        done = subprocess.run([*words, *output], stdout=subprocess.PIPE, check=True)
        assert len(done.stdout) == RECIPE.frames * size * size * 3 // 2, file


def _track(clip: bytes, stack: ExitStack) -> Track:
    container = stack.enter_context(open_source(clip))
    return demux(clip, container, video_stream(container, RECIPE), RECIPE.limits)


def _targets(track: Track) -> list[int]:
    return shown_at(track.timeline, Window(Fraction(0), RECIPE.frames, RECIPE.rate))


def _file(clip: bytes, stack: ExitStack) -> Path:
    path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "clip"
    path.write_bytes(clip)
    return path
