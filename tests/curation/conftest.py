"""Real clips, rendered for these tests: a textured picture over which a bright square moves."""

import csv
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.curation.config import Recipe, RefreshConfig
from pipelines.curation.isolation import PROGRAM
from pipelines.curation.refresh import refresh
from pipelines.curation.summary import RefreshSummary
from pipelines.curation.tasks import BY_RAY, HERE, Tasks
from pipelines.tracking import TrackingConfig

Frames = NDArray[np.uint8]


def draw_moving(num_frames: int, height: int = 72, width: int = 96, seed: int = 0) -> Frames:
    """(T, H, W, 3): no two frames are equal, and there is something sharp, bright and lively in each."""
    rng = np.random.default_rng(seed)
    texture = rng.integers(40, 160, (9, 12, 3), dtype=np.uint8)
    background = cv2.resize(texture, (width, height), interpolation=cv2.INTER_CUBIC)
    frames = np.stack([background] * num_frames)
    side = height // 4
    for index, frame_HWC in enumerate(frames):
        left = (index * 3 + seed) % (width - side)
        frame_HWC[height // 2 : height // 2 + side, left : left + side] = (250, 240, 40)
        digits = np.repeat([(index >> bit & 1) * 220 for bit in range(8)], width // 12)
        frame_HWC[4 : 4 + height // 6, 2 : 2 + len(digits)] = digits[:, None]
    return frames


def write_video(
    path: Path,
    frames_THWC: Frames,
    fps: Fraction | int = 24,
    codec: str = "libx264",
    options: Mapping[str, str] | None = None,
    *,
    pts: Sequence[int] | None = None,
    pix_fmt: str = "yuv420p",
    time_base: Fraction | None = None,
) -> Path:
    """Encode frames; with `pts` at those ticks of `time_base` (a variable rate), else at a constant rate."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=Fraction(fps), options=dict(options or {}))
        stream.height, stream.width = frames_THWC.shape[1:3]
        stream.pix_fmt = pix_fmt
        if time_base is not None:
            stream.codec_context.time_base = time_base
        for index, frame_HWC in enumerate(frames_THWC):
            frame = av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")
            if pts is not None:
                frame.pts, frame.time_base = pts[index], time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def decode_by_force(
    path: Path,
    recipe: Recipe,
    start_s: Fraction = Fraction(0),
    *,
    stream: int = 0,
    pixel_aspect: Fraction = Fraction(1),
    turns: int = 0,
) -> Frames:
    """What `decode` should give, (T, P, W) planes, by decoding everything and scaling each frame by itself.

    It shares no code with the package: times by exact fractions and a search through all of them.
    """
    with av.open(str(path)) as container:
        frames = [frame for frame in container.decode(container.streams.video[stream])]
    times = [frame.pts * frame.time_base for frame in frames]
    shown = []
    for k in range(recipe.frames):
        target = min(times) + start_s + k / Fraction(str(recipe.fps))
        latest = max(time for time in times if time <= target)
        shown.append(square_by_force(frames[times.index(latest)], recipe.size_px, pixel_aspect, turns))
    return np.stack(shown)


def square_by_force(frame: av.VideoFrame, size: int, pixel_aspect: Fraction, turns: int) -> Frames:
    """(P, W) planes of the middle of one frame."""
    scale = size / min(frame.width * pixel_aspect, Fraction(frame.height))
    width, height = round(frame.width * pixel_aspect * scale), round(frame.height * scale)
    scaled = frame.reformat(width, height, "yuv420p", interpolation="AREA", dst_color_range="MPEG")
    rows: list[Frames] = []
    for plane, divisor in zip(scaled.planes, (1, 2, 2), strict=True):
        lines = [bytes(plane)[row * plane.line_size :][: plane.width] for row in range(plane.height)]
        picture = np.array([list(line) for line in lines], np.uint8)
        for _ in range(turns):
            picture = picture.T[::-1]
        upright_height, upright_width = (width, height) if turns % 2 else (height, width)
        top, left = (upright_height - size) // 4 * 2 // divisor, (upright_width - size) // 4 * 2 // divisor
        rows.append(picture[top:, left:][: size // divisor, : size // divisor].reshape(-1, size))
    return np.concatenate(rows)


def write_sound(path: Path) -> Path:
    """A second of sound without a picture, in mp4."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        for _ in range(16):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 16000
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_manifest(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """A CSV with the first row's columns."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="session")
def moving() -> Callable[..., Frames]:
    return draw_moving


@pytest.fixture(scope="session")
def video_writer() -> Callable[..., Path]:
    return write_video


@pytest.fixture(scope="session")
def sound_writer() -> Callable[[Path], Path]:
    return write_sound


@pytest.fixture(scope="session")
def manifest_writer() -> Callable[[Path, Sequence[Mapping[str, object]]], Path]:
    return write_manifest


@pytest.fixture(scope="session")
def brute_force() -> Callable[..., Frames]:
    return decode_by_force


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips that differ, `clip0.mp4` to `clip5.mp4`; to be copied, never changed."""
    folder = tmp_path_factory.mktemp("library")
    for seed in range(6):
        write_video(folder / f"clip{seed}.mp4", draw_moving(24, height=36, width=48, seed=seed), 12)
    return folder


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A folder for source videos."""
    folder = tmp_path / "clips"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def refresh_tracking(tmp_path_factory: pytest.TempPathFactory) -> TrackingConfig:
    """One real MLflow store for all refreshes: making its tables takes seconds."""
    folder = tmp_path_factory.mktemp("tracking")
    return TrackingConfig(uri=f"sqlite:///{folder}/mlflow.db", artifacts=str(folder / "artifacts"))


@pytest.fixture(scope="session")
def clock() -> Callable[[], datetime]:
    """Ticks a second each time it is read."""
    return (datetime(2030, 1, 1, tzinfo=UTC) + timedelta(seconds=second) for second in range(10**6)).__next__


@pytest.fixture
def refresh_here(refresh_tracking: TrackingConfig, clock: Callable[[], datetime]) -> Callable[..., RefreshSummary]:
    """Refresh as the job does, but in this process and without pictures: those are told by `run_refresh`."""
    return partial(_refresh, refresh_tracking, clock, HERE._replace(report=lambda *arguments: None))


@pytest.fixture
def run_refresh(
    local_ray: None, refresh_tracking: TrackingConfig, clock: Callable[[], datetime]
) -> Callable[..., RefreshSummary]:
    """Refresh as the job does, on this session's Ray."""
    return partial(_refresh, refresh_tracking, clock, BY_RAY)


def _refresh(
    tracking: TrackingConfig,
    clock: Callable[[], datetime],
    tasks: Tasks,
    manifest: Path | str,
    dataset: Path | str,
    program: Path = PROGRAM,
    **keys: Any,
) -> RefreshSummary:
    given = {"frames": 16, "fps": 8, "size_px": 32, "clips_per_slice": 4, "tracking": tracking, **keys}
    config = RefreshConfig(manifest=str(manifest), dataset=str(dataset), **given)
    return refresh(config, nullcontext, clock, tasks=tasks._replace(program=program))
