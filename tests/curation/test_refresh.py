"""The whole path on a real Ray: one verdict a clip, a second run that decodes nothing, and bytes that do not vary."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable
from numpy.typing import NDArray

from pipelines.curation.catalog import Catalog
from pipelines.curation.config import AlignConfig, FilterConfig
from pipelines.curation.summary import RefreshSummary
from pipelines.tracking import TrackingConfig
from pipelines.video_file import read_video

# Ray Data 2.60 warns of settings of its own when its context is first made.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")

Refresh = Callable[..., RefreshSummary]
Row = dict[str, object]
Write = Callable[[Path, Sequence[Mapping[str, object]]], Path]


@pytest.fixture(scope="module")
def library(
    tmp_path_factory: pytest.TempPathFactory,
    moving: Callable[..., NDArray[np.uint8]],
    video_writer: Callable[..., Path],
    sound_writer: Callable[[Path], Path],
) -> Path:
    """Good clips 0 to 3, and one file of each flaw."""
    folder = tmp_path_factory.mktemp("library")
    for seed in range(4):
        video_writer(folder / f"good{seed}.mp4", moving(60, seed=seed), 24)
    good = moving(60, seed=9)
    video_writer(folder / "still.mp4", np.stack([good[0]] * 60), 24)
    video_writer(folder / "dark.mp4", good // 12, 24)
    video_writer(folder / "cut.mp4", np.concatenate((good[:30], 255 - moving(30, seed=3))), 24)
    video_writer(folder / "short.mp4", good[:40], 24)
    sound_writer(folder / "sound.mp4")
    shutil.copy(folder / "good0.mp4", folder / "copy.mp4")
    (folder / "text.mp4").write_text("Not a video, whatever its name says.\n" * 30)
    (folder / "half.mp4").write_bytes((folder / "good1.mp4").read_bytes()[:3000])
    return folder


EXPECTED = {
    "good0": "kept",
    "good1": "kept",
    "good2": "kept",
    "good3": "kept",
    "still": "still",
    "dark": "too_dark",
    "cut": "cut",
    "short": "too_short",
    "sound": "no_video",
    "copy": "duplicate",
    "text": "unreadable",
    "half": "unreadable",
    "absent": "unreadable",
}


def rows_of(names: Sequence[str], caption: str = "A yellow square moves") -> list[Row]:
    return [{"video": f"{name}.mp4", "caption": f"{caption} {name}", "license": "CC0"} for name in names]


@pytest.fixture
def manifest(library: Path, clips: Path, manifest_writer: Write) -> Path:
    """All of the library, in a folder of the test's own."""
    for path in library.iterdir():
        shutil.copy2(path, clips)
    rows = rows_of(list(EXPECTED))
    rows.append({"video": "good2.mp4", "caption": "", "license": "CC0"})
    rows.append({"video": "good3.mp4", "caption": "<p>A yellow square</p>", "license": "CC0"})
    return manifest_writer(clips / "manifest.csv", rows)


def verdicts_by_name(dataset: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in sorted(Catalog.open(dataset).rows().to_pylist(), key=lambda row: row["caption"], reverse=True):
        found.setdefault(Path(row["uri"]).stem, []).append(row["verdict"])
    return found


def shard_hashes(dataset: Path) -> list[str]:
    return sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in (dataset / "shards").iterdir())


def test_every_clip_has_one_verdict_and_kept_samples_can_be_read(
    manifest: Path, tmp_path: Path, run_refresh: Refresh
) -> None:
    summary = run_refresh(manifest, tmp_path / "data", samples_per_shard=3)
    found = verdicts_by_name(tmp_path / "data")
    assert {name: verdicts[0] for name, verdicts in found.items()} == EXPECTED
    assert found["good2"] == ["kept", "caption_missing"]
    assert found["good3"] == ["kept", "caption_invalid"]
    assert summary.clips == sum(summary.by_verdict.values()) == len(EXPECTED) + 2
    assert (summary.version, summary.new, summary.decoded, summary.kept) == (0, 15, 15, 4)
    kept = Catalog.open(tmp_path / "data").kept().to_pylist()
    assert [row["key"] for row in kept] == sorted(row["key"] for row in kept)
    for row in kept:
        with (tmp_path / "data" / "shards" / row["shard"]).open("rb") as shard:
            shard.seek(row["offset"])
            video = read_video(shard.read(row["bytes"]))
            shard.seek(row["json_offset"])
            facts = json.loads(shard.read(row["json_bytes"]))
        assert video.frames_THWC.shape == (16, 32, 32, 3)
        assert video.fps == 8
        assert facts["manifest"] == {"license": "CC0"}
        assert facts["source"]["fps"] == 24
        assert facts["scores"]["motion"] == row["motion"]
    assert json.loads((tmp_path / "data" / "refreshes" / f"{summary.refresh_id}.json").read_text())["kept"] == 4
    # What is scored stays; the plan of it is gone with the commit.
    assert len(list((tmp_path / "data" / "slices").rglob("*.mp4s"))) == 4
    assert not list((tmp_path / "data" / "slices").rglob("plan-*"))


def test_a_second_run_decodes_nothing_and_commits_nothing(
    manifest: Path, tmp_path: Path, refresh_here: Refresh
) -> None:
    refresh_here(manifest, tmp_path / "data")
    before = shard_hashes(tmp_path / "data")
    again = refresh_here(manifest, tmp_path / "data")
    assert (again.decoded, again.new, again.changed, again.removed, again.unchanged) == (0, 0, 0, 0, 15)
    assert (again.version, again.kept, again.run_id) == (0, 4, None)
    assert shard_hashes(tmp_path / "data") == before


def test_shards_do_not_depend_on_slices_or_on_the_run(manifest: Path, tmp_path: Path, refresh_here: Refresh) -> None:
    refresh_here(manifest, tmp_path / "one", clips_per_slice=1, samples_per_shard=3)
    refresh_here(manifest, tmp_path / "two", clips_per_slice=100, samples_per_shard=3)
    assert len(shard_hashes(tmp_path / "one")) == 2
    assert shard_hashes(tmp_path / "one") == shard_hashes(tmp_path / "two")


def test_new_changed_and_removed_rows_are_the_only_work(
    manifest: Path, tmp_path: Path, refresh_here: Refresh, manifest_writer: Write
) -> None:
    dataset, clips = tmp_path / "data", manifest.parent
    manifest_writer(manifest, rows_of(["good0", "good1", "good2"]))
    refresh_here(manifest, dataset)
    first = Catalog.open(dataset)
    keys = {Path(row["uri"]).stem: row["key"] for row in first.kept().to_pylist()}

    shutil.copy(clips / "good3.mp4", clips / "good1.mp4")
    rows = [*rows_of(["good0", "good1", "dark"])]
    rows[0]["caption"] = "Another caption"
    summary = refresh_here(manifest_writer(manifest, rows), dataset)

    assert (summary.new, summary.changed, summary.rejudged, summary.removed, summary.unchanged) == (1, 1, 1, 1, 0)
    assert (summary.decoded, summary.version) == (2, 1)
    second = Catalog.open(dataset)
    assert {Path(row["uri"]).stem: row["verdict"] for row in second.rows().to_pylist()} == {
        "good0": "kept",
        "good1": "kept",
        "good2": "removed",
        "dark": "too_dark",
    }
    kept = {Path(row["uri"]).stem: row for row in second.kept().to_pylist()}
    assert kept["good0"]["key"] == keys["good0"]
    assert kept["good0"]["caption"] == "Another caption"
    assert kept["good1"]["key"] != keys["good1"]
    assert summary.by_verdict == {"kept": 2, "too_dark": 1, "removed": 1}
    # A version that a reader has pinned stays as it was.
    assert first.kept().num_rows == Catalog.open(dataset, version=0).kept().num_rows == 3


def test_a_clip_that_comes_back_is_kept_again(
    manifest: Path, tmp_path: Path, refresh_here: Refresh, manifest_writer: Write
) -> None:
    for names in (["good0", "good1"], ["good0"], ["good0", "good1"]):
        summary = refresh_here(manifest_writer(manifest, rows_of(names)), tmp_path / "data")
    assert summary.by_verdict == {"kept": 2}
    assert (summary.changed, summary.unchanged) == (1, 1)


def test_the_copy_takes_the_place_of_a_kept_clip_that_goes(
    manifest: Path, tmp_path: Path, refresh_here: Refresh, manifest_writer: Write
) -> None:
    refresh_here(manifest_writer(manifest, rows_of(["good0", "copy", "good1"])), tmp_path / "data")
    assert verdicts_by_name(tmp_path / "data")["copy"] == ["duplicate"]
    summary = refresh_here(manifest_writer(manifest, rows_of(["copy", "good1"])), tmp_path / "data")
    assert verdicts_by_name(tmp_path / "data") == {"good1": ["kept"], "good0": ["removed"], "copy": ["kept"]}
    assert (summary.decoded, summary.rejudged) == (0, 1)


def test_the_earlier_of_two_equal_clips_is_kept_and_a_kept_one_stays(
    manifest: Path, tmp_path: Path, refresh_here: Refresh, manifest_writer: Write
) -> None:
    refresh_here(manifest_writer(manifest, rows_of(["copy", "good0"])), tmp_path / "data")
    assert verdicts_by_name(tmp_path / "data") == {"copy": ["kept"], "good0": ["duplicate"]}
    refresh_here(manifest_writer(manifest, rows_of(["good1", "good0", "copy"])), tmp_path / "data")
    assert verdicts_by_name(tmp_path / "data") == {"copy": ["kept"], "good0": ["duplicate"], "good1": ["kept"]}


def test_two_spans_of_one_video_are_two_clips(
    manifest: Path, tmp_path: Path, refresh_here: Refresh, manifest_writer: Write
) -> None:
    rows = [{"video": "good0.mp4", "caption": f"from {start}", "start_s": start, "end_s": 2.5} for start in (0, 0.5, 1)]
    summary = refresh_here(manifest_writer(manifest, rows), tmp_path / "data")
    assert summary.by_verdict == {"kept": 2, "too_short": 1}
    assert len(set(Catalog.open(tmp_path / "data").kept()["key"].to_pylist())) == 2


def test_a_source_that_appears_later_is_a_changed_clip(
    manifest: Path, tmp_path: Path, refresh_here: Refresh, manifest_writer: Write
) -> None:
    manifest_writer(manifest, rows_of(["late", "good1"]))
    assert refresh_here(manifest, tmp_path / "data").by_verdict == {"kept": 1, "unreadable": 1}
    shutil.copy(manifest.parent / "good0.mp4", manifest.parent / "late.mp4")
    assert refresh_here(manifest, tmp_path / "data").by_verdict == {"kept": 2}


def test_other_frames_make_every_clip_due_and_other_thresholds_or_shards_none(
    manifest: Path, tmp_path: Path, refresh_here: Refresh, manifest_writer: Write
) -> None:
    manifest_writer(manifest, rows_of(["good0", "dark"]))
    assert refresh_here(manifest, tmp_path / "data").by_verdict == {"kept": 1, "too_dark": 1}
    assert refresh_here(manifest, tmp_path / "data", samples_per_shard=7).decoded == 0
    lenient = refresh_here(manifest, tmp_path / "data", filters=FilterConfig(min_brightness=None))
    assert (lenient.changed, lenient.rejudged, lenient.decoded, lenient.by_verdict) == (0, 2, 0, {"kept": 2})
    assert refresh_here(manifest, tmp_path / "data", size_px=48).decoded == 2


def test_a_run_that_was_cut_off_before_its_commit_goes_on_with_the_slices_it_had_done(
    manifest: Path, tmp_path: Path, refresh_here: Refresh, manifest_writer: Write
) -> None:
    manifest_writer(manifest, rows_of(["good0", "good1", "good2"]))
    dataset = tmp_path / "data"
    (dataset / "shards").mkdir(parents=True)
    (dataset / "shards").chmod(0o500)
    if os.access(dataset / "shards", os.W_OK):
        (dataset / "shards").rmdir()
        (dataset / "shards").touch()
    with pytest.raises(OSError, match="shards"):
        refresh_here(manifest, dataset, clips_per_slice=2)
    assert not DeltaTable.is_deltatable(str(dataset / "catalog"))
    shards = dataset / "shards"
    shards.unlink() if shards.is_file() else shards.chmod(0o700)
    summary = refresh_here(manifest, dataset, clips_per_slice=2)
    assert (summary.decoded, summary.by_verdict) == (0, {"kept": 3})


def test_the_report_is_in_the_tracker(
    manifest: Path, tmp_path: Path, run_refresh: Refresh, refresh_tracking: TrackingConfig
) -> None:
    from mlflow import MlflowClient

    summary = run_refresh(manifest, tmp_path / "data")
    assert summary.run_id is not None
    client = MlflowClient(refresh_tracking.uri)
    run = client.get_run(summary.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["clips"] == 15
    assert run.data.metrics["verdict/kept"] == 4
    assert run.data.params["frames"] == "16"
    assert run.inputs.dataset_inputs[0].dataset.name == "data"
    names = {file.path for file in client.list_artifacts(summary.run_id)}
    assert {"funnel.png", "histograms.png", "rejected.json", "sheets"} <= names
    sheets = {Path(file.path).name for file in client.list_artifacts(summary.run_id, "sheets")}
    assert sheets == {f"{verdict}.png" for verdict in _with_frames(tmp_path / "data")}


def _with_frames(dataset: Path) -> set[str]:
    rows = Catalog.open(dataset).rows()
    return set(rows.filter(pc.is_valid(rows["motion"]))["verdict"].to_pylist())


@pytest.mark.slow
def test_captions_that_do_not_fit_are_misaligned(
    manifest: Path, tmp_path: Path, refresh_here: Refresh, manifest_writer: Write, root: Path
) -> None:
    weights = root / "demo" / "weights" / "clip"
    manifest_writer(manifest, rows_of(["good0", "good1"]))
    align: dict[str, Any] = {"model": f"local-dir:{weights}", "frames": 2}
    refresh_here(manifest, tmp_path / "data", align=AlignConfig(**align, min_score=None))
    scores = Catalog.open(tmp_path / "data").kept()["align_score"].to_pylist()
    assert all(-1 <= score <= 1 for score in scores)
    strict = refresh_here(manifest, tmp_path / "data", align=AlignConfig(**align, min_score=1.0))
    assert strict.by_verdict == {"misaligned": 2}
