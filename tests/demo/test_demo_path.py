"""The whole path, as `make demo` runs it."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from demo.summary import check_labels
from pipelines.curation.catalog import Catalog
from pipelines.video_file import read_video


def run_demo(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "demo.run", *words]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=1500, check=False)


def test_verdicts_are_compared_with_labels_one_line_a_label() -> None:
    rows = [("still", "still"), ("still", "kept"), ("kept", "kept"), ("kept", "kept"), ("cut", "cut")]
    checks = {check.label: check for check in check_labels(rows)}
    assert list(checks) == ["kept", "cut", "still"]
    assert (checks["still"].clips, checks["still"].right, checks["still"].others) == (2, 1, "1 kept")
    assert (checks["kept"].clips, checks["kept"].right, checks["kept"].others) == (2, 2, "")


def test_clips_that_are_not_there_are_refused_at_once(root: Path, tmp_path: Path) -> None:
    result = run_demo(root, "--clips", str(tmp_path / "absent.csv"))
    assert result.returncode == 2
    assert "absent.csv: no such file or folder" in result.stderr


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_make_demo_runs_from_clips_to_a_judged_study(root: Path, tmp_path: Path) -> None:
    result = run_demo(root, "--out", str(tmp_path), "--num-clips", "40", "--train", "steps=6")
    assert result.returncode == 0, result.stderr[-4000:]
    catalog = Catalog.open(str(tmp_path / "dataset"))
    assert sum(catalog.verdicts().values()) == 40
    assert catalog.verdicts()["kept"] >= 25
    assert (tmp_path / "runs" / "demo" / "model" / "temporal.safetensors").is_file()
    videos = sorted((tmp_path / "videos" / "trained").glob("*.mp4"))
    assert len(videos) >= 12
    assert read_video(videos[0]).frames_THWC.shape == (16, 32, 32, 3)
    made_of = json.loads(videos[0].with_suffix(".json").read_text())
    assert made_of["prompt"]
    with (tmp_path / "study" / "preferences.csv").open(newline="") as file:
        assert {row["baseline"] for row in csv.DictReader(file)} == {"untrained"}
    for word in ("flaws", "training loss", "fidelity", "SIMULATED", "make ui"):
        assert word in result.stdout, result.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_own_clips_without_anything_usable_end_with_their_verdicts_and_no_training(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "text.mp4").write_text("not a video")
    result = run_demo(root, "--clips", str(folder), "--out", str(tmp_path / "out"))
    assert result.returncode == 0, result.stderr[-4000:]
    assert "unreadable" in result.stdout
    assert "nothing was trained" in result.stdout
    assert not (tmp_path / "out" / "runs").exists()
