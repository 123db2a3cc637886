"""kill -9 at any point, of the driver or of a worker, then the same command again: nothing lost, nothing doubled."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from pipelines.curation.catalog import Catalog

ROOT = Path(__file__).resolve().parents[2]
REFRESH = str(Path(__file__).with_name("refresh_process.py"))
KEYS = ("frames=8", "fps=8", "size_px=16", "samples_per_shard=3", "lease_s=3", "clips_per_slice=2")
NUM_CLIPS = 10

pytestmark = pytest.mark.slow

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def library(
    tmp_path_factory: pytest.TempPathFactory,
    moving: Callable[..., NDArray[np.uint8]],
    video_writer: Callable[..., Path],
    manifest_writer: Callable[..., Path],
) -> Path:
    """Nine clips, a copy and a file that is no video."""
    folder = tmp_path_factory.mktemp("library")
    names = [f"clip{seed}.mp4" for seed in range(NUM_CLIPS - 2)]
    for seed, name in enumerate(names):
        video_writer(folder / name, moving(16, height=24, width=32, seed=seed), 12)
    shutil.copy(folder / "clip2.mp4", folder / "copy.mp4")
    (folder / "text.mp4").write_text("no video")
    rows = [{"video": name, "caption": f"About {name}"} for name in (*names, "copy.mp4", "text.mp4")]
    return manifest_writer(folder / "manifest.csv", rows)


@pytest.fixture(scope="module")
def words(library: Path, tmp_path_factory: pytest.TempPathFactory, python: str) -> Callable[..., list[str]]:
    store = tmp_path_factory.mktemp("tracking")

    def words(dataset: Path, *keys: str) -> list[str]:
        tracking = (f"tracking.uri=sqlite:///{store}/mlflow.db", f"tracking.artifacts={store}/artifacts")
        return [python, REFRESH, f"manifest={library}", f"dataset={dataset}", *KEYS, *tracking, *keys]

    return words


@pytest.fixture(scope="module")
def run(words: Callable[..., list[str]]) -> Run:
    def run(dataset: Path, *keys: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(words(dataset, *keys), cwd=ROOT, capture_output=True, text=True, timeout=500, check=False)

    return run


@pytest.fixture(scope="module")
def undisturbed(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    dataset = tmp_path_factory.mktemp("undisturbed") / "data"
    ended = run(dataset)
    assert ended.returncode == 0, ended.stderr
    return dataset


def hashes(dataset: Path) -> dict[str, str]:
    """sha256 of each shard that the newest version names."""
    names = Catalog.open(dataset).shards()
    return {name: hashlib.sha256((dataset / "shards" / name).read_bytes()).hexdigest() for name in names}


def facts(dataset: Path) -> list[tuple[object, ...]]:
    """What is said of each clip, but for when and from which slice."""
    columns = ("row_id", "key", "verdict", "reason", "shard", "offset", "bytes", "json_offset", "motion", "attempts")
    return sorted(tuple(row[name] for name in columns) for row in Catalog.open(dataset).rows().to_pylist())


def again_until_done(run: Run, dataset: Path) -> None:
    """The same command, as a scheduler would: a lease of the dead is waited for."""
    for _ in range(10):
        ended = run(dataset)
        if ended.returncode == 0:
            return
        assert "LeaseHeldError" in ended.stderr, ended.stderr
        time.sleep(1)
    pytest.fail("the lease of a killed refresh never ran out")


def check_same(dataset: Path, undisturbed: Path) -> None:
    assert hashes(dataset) == hashes(undisturbed)
    assert facts(dataset) == facts(undisturbed)


# A refresh of five slices and three shards renames about 16 files and makes two links for its lease.
POINTS = [
    *[f"os.rename:{number}" for number in (1, 2, 3, 6, 11, 12, 13, 14)],
    *[f"os.link:{number}" for number in (1, 2)],
    *[f"open:{number}" for number in (3, 20, 45)],
    "os.remove:3",
]


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_right_before_a_file_appears_or_goes_costs_nothing(
    run: Run, undisturbed: Path, tmp_path: Path, point: str
) -> None:
    killed = run(tmp_path / "data", f"kill_at={point}")
    assert killed.returncode in (-signal.SIGKILL, 0), killed.stderr
    again_until_done(run, tmp_path / "data")
    check_same(tmp_path / "data", undisturbed)


def test_a_kill_while_the_commit_is_written_costs_nothing(
    run: Run, words: Callable[..., list[str]], undisturbed: Path, tmp_path: Path
) -> None:
    log = tmp_path / "data" / "catalog" / "_delta_log"
    with subprocess.Popen(
        words(tmp_path / "data"), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        # The table's folder appears when its first file is written, its log a moment later.
        while not log.parent.exists() and process.poll() is None:
            time.sleep(0.0005)
        process.kill()
    again_until_done(run, tmp_path / "data")
    check_same(tmp_path / "data", undisturbed)


def test_kills_at_random_times_one_after_another_cost_nothing(
    run: Run, words: Callable[..., list[str]], undisturbed: Path, tmp_path: Path
) -> None:
    chance, dataset = random.Random(0), tmp_path / "data"
    for _ in range(4):
        with subprocess.Popen(
            words(dataset), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            while not dataset.exists() and process.poll() is None:
                time.sleep(0.01)
            time.sleep(chance.uniform(0, 3))
            process.kill()
    again_until_done(run, dataset)
    check_same(dataset, undisturbed)


def test_the_order_of_tasks_does_not_matter(run: Run, undisturbed: Path, tmp_path: Path) -> None:
    for seed in (1, 2):
        assert run(tmp_path / str(seed) / "data", f"shuffle_tasks={seed}").returncode == 0
        check_same(tmp_path / str(seed) / "data", undisturbed)


@pytest.mark.parametrize("num_workers", [1, 2, 4])
def test_any_number_of_workers_makes_the_same_shards(
    run: Run, undisturbed: Path, tmp_path: Path, num_workers: int
) -> None:
    ended = run(tmp_path / "data", f"on_ray={num_workers}")
    assert ended.returncode == 0, ended.stderr
    check_same(tmp_path / "data", undisturbed)


def test_killed_workers_cost_nothing(words: Callable[..., list[str]], undisturbed: Path, tmp_path: Path) -> None:
    """Workers of Ray are killed whenever a slice has appeared; Ray has others do their tasks again."""
    dataset, num_killed = tmp_path / "data", 0
    with subprocess.Popen(
        words(dataset, "on_ray=2"), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        seen = 0
        while process.poll() is None:
            num_slices = len(list(dataset.rglob("*.mp4s")))
            if num_slices > seen and num_killed < 4:
                seen = num_slices
                num_killed += _kill_a_worker(process.pid)
            time.sleep(0.01)
    assert process.returncode == 0
    assert num_killed
    check_same(dataset, undisturbed)


def _kill_a_worker(driver: int) -> int:
    workers = [child for child in psutil.Process(driver).children(recursive=True) if _is_working(child)]
    if workers:
        os.kill(workers[0].pid, signal.SIGKILL)
    return len(workers[:1])


def _is_working(process: psutil.Process) -> bool:
    try:
        title = " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False
    # Not the actors with which Ray Data counts: they are no workers.
    return title.startswith("ray::") and "Map(" in title


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_stops_the_job_with_a_clear_error_and_space_lets_it_go_on(
    run: Run, undisturbed: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr}")
    try:
        full = run(disk / "data")
        assert full.returncode == 1
        assert "No space left on device" in full.stderr
        assert not (disk / "data" / "catalog" / "_delta_log").exists()
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        again_until_done(run, disk / "data")
        check_same(disk / "data", undisturbed)
    finally:
        subprocess.run(["umount", str(disk)], check=False)
