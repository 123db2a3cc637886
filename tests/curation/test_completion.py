"""What a refresh was killed before after its commit is done by the next one, first of all."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.curation.catalog import Catalog
from pipelines.curation.config import RefreshConfig
from pipelines.curation.refresh import refresh
from pipelines.curation.summary import RefreshSummary, Version
from pipelines.curation.tasks import HERE
from pipelines.tracking import TrackingConfig

Refresh = Callable[..., RefreshSummary]
Write = Callable[[Path, Sequence[Mapping[str, object]]], Path]


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def manifest(
    clips: Path, moving: Callable[..., NDArray[np.uint8]], video_writer: Callable[..., Path], manifest_writer: Write
) -> Path:
    for seed in range(3):
        video_writer(clips / f"clip{seed}.mp4", moving(24, height=36, width=48, seed=seed), 12)
    return manifest_writer(clips / "m.csv", [{"video": f"clip{seed}.mp4", "caption": "x"} for seed in range(3)])


def test_a_version_whose_refresh_was_killed_after_the_commit_gets_report_record_and_list(
    manifest: Path,
    tmp_path: Path,
    refresh_tracking: TrackingConfig,
    clock: Callable[[], datetime],
    manifest_writer: Write,
) -> None:
    from mlflow import MlflowClient

    reported: list[tuple[Version, list[dict[str, Any]]]] = []

    def die(*arguments: Any) -> None:
        raise Killed

    def report(run: Any, version: Version, clips: list[dict[str, Any]], *others: Any) -> None:
        reported.append((version, clips))

    def refreshed(told: Callable[..., None]) -> RefreshSummary:
        keys: dict[str, Any] = {"frames": 16, "fps": 8, "size_px": 32, "tracking": refresh_tracking}
        config = RefreshConfig(manifest=str(manifest), dataset=str(tmp_path / "data"), **keys)
        return refresh(config, nullcontext, clock, tasks=HERE._replace(report=told))

    with pytest.raises(Killed):
        refreshed(die)
    assert Catalog.open(tmp_path / "data").version == 0
    assert not (tmp_path / "data" / "versions").exists()
    manifest_writer(manifest, [{"video": f"clip{seed}.mp4", "caption": "x"} for seed in range(2)])

    summary = refreshed(report)

    assert [version.number for version, _ in reported] == [0, 1]
    assert [(version.counts, version.throughput.decoded) for version, _ in reported] == [
        ({"kept": 3}, 3),
        ({"kept": 2, "removed": 1}, 0),
    ]
    assert {Path(clip["uri"]).stem for clip in reported[0][1]} == {"clip0", "clip1", "clip2"}
    records = [json.loads(path.read_text()) for path in sorted((tmp_path / "data" / "refreshes").glob("*.json"))]
    assert [(record["version"], record["decoded"], record["kept"]) for record in records] == [(0, 3, 3), (1, 0, 2)]
    for version in (0, 1):
        names = (tmp_path / "data" / "versions" / f"{version:05d}.txt").read_text().split()
        assert names == Catalog.open(tmp_path / "data", version).shards()
    client = MlflowClient(refresh_tracking.uri)
    late = client.get_run(records[0]["run_id"])
    assert late.data.tags["completes"] == records[0]["refresh_id"]
    assert json.loads(late.inputs.dataset_inputs[0].dataset.source)["version"] == "0"
    # It is done once.
    assert refreshed(report).run_id is None
    assert len(reported) == 2
    assert summary.version == 1


def test_the_digest_in_the_tracker_is_one_of_content(
    manifest: Path, tmp_path: Path, refresh_here: Refresh, refresh_tracking: TrackingConfig
) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(refresh_tracking.uri)

    def tracked(summary: RefreshSummary) -> tuple[str, dict[str, str]]:
        assert summary.run_id is not None
        (given,) = client.get_run(summary.run_id).inputs.dataset_inputs
        return given.dataset.digest, {tag.key: tag.value for tag in given.tags}

    one, tags = tracked(refresh_here(manifest, tmp_path / "one" / "data"))
    assert tags["mlflow.data.context"] == "curation"
    assert tracked(refresh_here(manifest, tmp_path / "two" / "data"))[0] == one
    assert tracked(refresh_here(manifest, tmp_path / "two" / "data", shuffle_seed=1))[0] != one
