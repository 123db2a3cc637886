"""What it costs that clips are prepared in a process of their own."""

import time
from collections.abc import Iterator, Sequence
from functools import partial

import cv2
from pairs import cpu_s, in_pairs

from curation.rows import Row, Setting
from curation.sources import Sources, generate, of_folder
from pipelines.curation.config import Recipe
from pipelines.curation.decode import Span
from pipelines.curation.isolation import DecodingProcess
from pipelines.curation.prepare import Prepare, prepare

RECIPE = Recipe()


def rows(setting: Setting) -> Iterator[Row]:
    """A slice of clips, decoded, measured and encoded: in another process / in this one."""
    cv2.setNumThreads(1)
    name, clips = (
        Sources("8 x generated 360p 24 fps", [generate(360, 640, 24)] * 8)
        if setting.clips is None
        else of_folder(setting.clips)
    )
    with DecodingProcess(RECIPE) as isolated:
        isolated(b"", Span(), 0)
        pid = isolated.pid
        assert pid is not None
        away, here = partial(_slice, clips, isolated), partial(_slice, clips, partial(prepare, recipe=RECIPE))
        clock = partial(_cpu_s_with, pid)
        yield Row.of(in_pairs(f"isolated / in the task, {name}", away, here, setting.pairs, clock), "<= 1.03")


def _slice(clips: Sequence[bytes], prepare_clip: Prepare) -> None:
    for clip in clips:
        prepare_clip(clip, Span(), 4)


def _cpu_s_with(pid: int) -> float:
    """CPU seconds of this process and of that one, which lives on; its clock's number is Linux's."""
    return cpu_s() + time.clock_gettime(~pid << 3 | 2)
