"""kill -9 at any point, of the driver or of a worker, then the same command again: nothing lost, nothing doubled."""

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.curation.catalog import Catalog, open_if_there

ROOT = Path(__file__).resolve().parents[2]
REFRESH = str(Path(__file__).with_name("refresh_process.py"))
KEYS = ("frames=8", "fps=8", "size_px=16", "samples_per_shard=3", "clips_per_slice=2")
NUM_CLIPS = 10
NUM_POINTS = 15  # with the five that are chosen by what happens there: 20
EVENTS_OF_A_SLICE = 8  # at least so many happen to files where a worker does one

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


def again(run: Run, dataset: Path, *keys: str) -> None:
    """The same command, as a scheduler would: the lease of a process that is dead is no hindrance."""
    ended = run(dataset, *keys)
    assert ended.returncode == 0, ended.stderr


def check_told(dataset: Path) -> None:
    """Each version has its list of shards, and its refresh a record, whenever the process was killed."""
    for version in range(Catalog.open(dataset).version + 1):
        listed = (dataset / "versions" / f"{version:05d}.txt").read_text().split()
        assert listed == Catalog.open(dataset, version).shards()
    records = [json.loads(path.read_text()) for path in (dataset / "refreshes").glob("*.json")]
    committed = {entry["refresh_id"] for entry in Catalog.open(dataset).table.history()}
    assert committed <= {record["refresh_id"] for record in records}


def check_same(dataset: Path, undisturbed: Path) -> None:
    assert hashes(dataset) == hashes(undisturbed)
    assert facts(dataset) == facts(undisturbed)


@pytest.fixture(scope="module")
def events(run: Run, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a refresh that nobody disturbs does to files, in its order."""
    folder = tmp_path_factory.mktemp("events")
    ended = run(folder / "data", f"events={folder / 'events.txt'}")
    assert ended.returncode == 0, ended.stderr
    return (folder / "events.txt").read_text().split()


@pytest.mark.parametrize("part", range(NUM_POINTS))
def test_a_kill_at_a_random_point_costs_nothing(
    run: Run, undisturbed: Path, events: list[str], tmp_path: Path, part: int
) -> None:
    """One point, drawn with a fixed seed, in each of as many parts of the refresh, so that together they cover it."""
    edges = [len(events) * edge // NUM_POINTS for edge in (part, part + 1)]
    point = random.Random(part).randrange(edges[0] + 1, edges[1] + 1)
    killed = run(tmp_path / "data", f"kill_at={point}")
    assert killed.returncode == -signal.SIGKILL, f"nothing was killed at {point} of {len(events)}: {killed.stderr}"
    again(run, tmp_path / "data")
    check_same(tmp_path / "data", undisturbed)
    check_told(tmp_path / "data")


@pytest.mark.parametrize("event", ["os.rename", "os.link", "os.remove"])
def test_a_kill_right_before_a_random_rename_link_or_removal_costs_nothing(
    run: Run, undisturbed: Path, events: list[str], tmp_path: Path, event: str
) -> None:
    point = random.Random(event).choice([number for number, name in enumerate(events, 1) if name == event])
    assert run(tmp_path / "data", f"kill_at={point}").returncode == -signal.SIGKILL
    again(run, tmp_path / "data")
    check_same(tmp_path / "data", undisturbed)
    check_told(tmp_path / "data")


@pytest.mark.parametrize(
    ("file", "versions"), [("catalog/*.parquet", (None, 0)), ("catalog/_delta_log/00000000000000000000.json", (0,))]
)
def test_a_kill_while_the_commit_is_written_or_right_after_it_costs_nothing(
    run: Run, undisturbed: Path, tmp_path: Path, file: str, versions: tuple[int | None, ...]
) -> None:
    killed = run(tmp_path / "data", f"kill_when={file}")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    catalog = open_if_there(tmp_path / "data")
    assert (None if catalog is None else catalog.version) in versions
    again(run, tmp_path / "data")
    check_same(tmp_path / "data", undisturbed)
    check_told(tmp_path / "data")


def test_kills_one_after_another_cost_nothing(run: Run, undisturbed: Path, tmp_path: Path) -> None:
    chance, dataset = random.Random(0), tmp_path / "data"
    for _ in range(4):
        killed = run(dataset, f"kill_at={chance.randint(5, 25)}")
        assert killed.returncode == -signal.SIGKILL, killed.stderr
    again(run, dataset)
    check_same(dataset, undisturbed)
    check_told(dataset)


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


def test_workers_killed_at_random_points_cost_nothing(run: Run, undisturbed: Path, tmp_path: Path) -> None:
    """Six workers of Ray, one after another, as they read, write and rename; others do their tasks again."""
    chance, dead = random.Random(0), tmp_path / "dead"
    dead.mkdir()
    numbers = [chance.randint(1, EVENTS_OF_A_SLICE) for _ in range(6)]
    ended = run(
        tmp_path / "data", "on_ray=2", "clips_per_slice=1", f"kill_workers_at={dead}:{','.join(map(str, numbers))}"
    )
    assert ended.returncode == 0, ended.stderr
    assert len(list(dead.iterdir())) == len(numbers)
    check_same(tmp_path / "data", undisturbed)


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
        again(run, disk / "data")
        check_same(disk / "data", undisturbed)
    finally:
        subprocess.run(["umount", str(disk)], check=False)
