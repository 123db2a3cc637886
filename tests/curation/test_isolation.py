"""A clip that crashes, hangs or eats memory costs itself alone."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from pipelines.curation.catalog import Catalog
from pipelines.curation.config import LimitsConfig, Recipe
from pipelines.curation.decode import Span, decode
from pipelines.curation.isolation import DecodingProcess, DecodingProcessError
from pipelines.curation.prepare import PreparedClip, decode_jpegs, prepare
from pipelines.curation.records import Rejection
from pipelines.curation.summary import RefreshSummary

Frames = NDArray[np.uint8]

POISON = Path(__file__).parent / "planted" / "poison.py"
TIMEOUT_S = 3
LIMITS = LimitsConfig(timeout_s=TIMEOUT_S, max_memory_bytes=256 * 1024**2)
RECIPE = Recipe(frames=16, fps=8, size_px=32, limits=LIMITS)
ENDS = {
    b"segfault": ("crashed", "decoding was ended by SIGSEGV"),
    b"bomb": ("crashed", "needs more than 268435456 bytes of memory"),
    b"exit": ("crashed", "decoding ended with exit status 3"),
    b"raise": ("crashed", "ZeroDivisionError: nobody foresaw this"),
    b"sleep": ("timeout", "not done after 3 s"),
    b"spin": ("timeout", "not done after 3 s"),
}
PARENT = """
import sys, time
from pathlib import Path
from pipelines.curation.config import Recipe
from pipelines.curation.decode import Span
from pipelines.curation.isolation import DecodingProcess

isolated = DecodingProcess(Recipe.model_validate_json(sys.argv[1]), Path(sys.argv[2]))
isolated(b"", Span(), 0)
print(isolated.pid, flush=True)
if sys.argv[3]:
    isolated(sys.argv[3].encode(), Span(), 0)
time.sleep(60)
"""


@pytest.fixture(scope="module")
def good(
    tmp_path_factory: pytest.TempPathFactory, moving: Callable[..., object], video_writer: Callable[..., Path]
) -> bytes:
    return video_writer(tmp_path_factory.mktemp("good") / "good.mp4", moving(60), 24).read_bytes()


@pytest.fixture
def poisoned() -> Iterator[DecodingProcess]:
    with DecodingProcess(RECIPE, POISON) as process:
        yield process


def test_another_process_prepares_what_this_one_does(good: bytes) -> None:
    with DecodingProcess(RECIPE) as isolated:
        for source, span, num_frames in (
            (good, Span(), 0),
            (good, Span(0.25, 2.4), 4),
            (good, Span(2.0), 2),
            (good[:3000], Span(), 0),
            (b"", Span(), 0),
        ):
            assert isolated(source, span, num_frames) == prepare(source, span, num_frames, RECIPE)


def test_a_clip_needs_no_temporary_folder(good: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = prepare(good, Span(), 0, RECIPE)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "full"))
    assert isinstance(expected.result, PreparedClip)
    assert prepare(good, Span(), 0, RECIPE) == expected


def test_one_process_does_many_clips_and_starts_with_the_first(good: bytes) -> None:
    with DecodingProcess(RECIPE) as isolated:
        assert isolated.pid is None
        isolated(good, Span(), 0)
        first = isolated.pid
        isolated(good, Span(), 0)
        assert isolated.pid == first
    assert first is not None
    assert not psutil.pid_exists(first)


@pytest.mark.slow
def test_clips_that_end_their_process_cost_themselves_alone_and_say_how(poisoned: DecodingProcess, good: bytes) -> None:
    expected = prepare(good, Span(), 0, RECIPE)
    for source, (verdict, reason) in ENDS.items():
        result, facts = poisoned(source, Span(), 0)
        assert result == Rejection(verdict, reason)  # pyright: ignore[reportArgumentType]
        assert facts["source_bytes"] == len(source)
        assert poisoned(good, Span(), 0) == expected


def test_a_segmentation_fault_costs_one_clip(poisoned: DecodingProcess, good: bytes) -> None:
    assert poisoned(b"segfault", Span(), 0).result == Rejection("crashed", "decoding was ended by SIGSEGV")
    assert not isinstance(poisoned(good, Span(), 0).result, Rejection)


def test_a_process_that_something_else_killed_costs_no_clip(poisoned: DecodingProcess, good: bytes) -> None:
    expected = poisoned(good, Span(), 0)
    assert poisoned.pid is not None
    os.kill(poisoned.pid, signal.SIGKILL)
    assert poisoned(good, Span(), 0) == expected


@pytest.mark.slow
@pytest.mark.parametrize("source", [b"", b"spin"], ids=["idle", "hanging"])
def test_the_process_ends_with_its_parent(source: bytes) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, RECIPE.model_dump_json(), str(POISON), source], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    assert child.is_running()
    child.wait(60)


def test_pictures_for_alignment_are_few_bytes_and_near_the_frames(
    tmp_path: Path, moving: Callable[..., Frames], video_writer: Callable[..., Path]
) -> None:
    source = video_writer(tmp_path / "large.mp4", moving(144, 360, 640), 24).read_bytes()
    recipe = Recipe()
    frames_THWC = decode(source, Span(), recipe).result.yuv.to_rgb()
    clip = prepare(source, Span(), 4, recipe).result
    assert isinstance(clip, PreparedClip)
    assert sum(len(jpeg) for jpeg in clip.align_jpegs) < 50 * 1024
    pictures_KHWC = decode_jpegs(clip.align_jpegs)
    assert np.abs(pictures_KHWC.astype(int) - frames_THWC[[0, 26, 53, 79]]).mean() < 3


def test_the_process_is_light() -> None:
    names = "('ray', 'torch', 'mlflow', 'open_clip', 'deltalake')"
    code = f"import sys, pipelines.curation.decoding_process; print([m for m in {names} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_process_that_cannot_start_stops_the_job_and_is_named(tmp_path: Path) -> None:
    program = tmp_path / "broken.py"
    program.write_text("raise SystemExit(5)\n")
    with DecodingProcess(RECIPE, program) as isolated, pytest.raises(DecodingProcessError, match=r"broken.py: .* 5 "):
        isolated(b"", Span(), 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")
def test_a_refresh_of_good_clips_and_poison_keeps_the_good_ones_and_names_each_poison(
    tmp_path: Path,
    clips: Path,
    moving: Callable[..., Frames],
    video_writer: Callable[..., Path],
    manifest_writer: Callable[..., Path],
    run_refresh: Callable[..., RefreshSummary],
) -> None:
    good = [video_writer(clips / f"good{seed}.mp4", moving(60, seed=seed), 24).name for seed in range(4)]
    for poison in ENDS:
        (clips / poison.decode()).write_bytes(poison)
    names = [good[0], "sleep", "segfault", good[1], "bomb", "raise", good[2], "exit", "spin", good[3]]
    for dataset, videos in (("pure", good), ("mixed", names)):
        rows = [{"video": name, "caption": f"A yellow square, {name}"} for name in videos]
        manifest = manifest_writer(clips / f"{dataset}.csv", rows)
        summary = run_refresh(manifest, tmp_path / dataset, POISON, limits=LIMITS, clips_per_slice=10)
    assert summary.by_verdict == {"kept": 4, "timeout": 2, "crashed": 4}
    found = {Path(row["uri"]).name: row for row in Catalog.open(tmp_path / "mixed").rows().to_pylist()}
    for poison, (verdict, reason) in ENDS.items():
        row = found[poison.decode()]
        assert (row["verdict"], row["reason"], row["source_bytes"]) == (verdict, reason, len(poison))
    pure, mixed = ([path.read_bytes() for path in (tmp_path / name / "shards").iterdir()] for name in ("pure", "mixed"))
    assert pure == mixed
