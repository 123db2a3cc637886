"""Takedowns, retries and vacuums: what a data set lives through over many refreshes."""

import shutil
import tarfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from pipelines.curation.catalog import Catalog, CatalogError
from pipelines.curation.config import FilterConfig
from pipelines.curation.summary import RefreshSummary
from pipelines.curation.vacuum import VacuumError, vacuum
from pipelines.storage import read_bytes

Refresh = Callable[..., RefreshSummary]
Write = Callable[[Path, Sequence[Mapping[str, object]]], Path]


@pytest.fixture
def manifest(library: Path, clips: Path, manifest_writer: Write) -> Path:
    for path in library.iterdir():
        shutil.copy2(path, clips)
    return manifest_writer(
        clips / "m.csv", [{"video": f"clip{seed}.mp4", "caption": f"Clip {seed}"} for seed in range(6)]
    )


def kept(dataset: Path, version: int | None = None) -> dict[str, dict[str, Any]]:
    return {Path(row["uri"]).stem: row for row in Catalog.open(dataset, version).kept().to_pylist()}


def members(dataset: Path, version: int | None = None) -> list[str]:
    """Names of all samples in the shards of a version."""
    names: list[str] = []
    for shard in Catalog.open(dataset, version).shards():
        with tarfile.open(dataset / "shards" / shard) as tar:
            names += [name.removesuffix(".mp4") for name in tar.getnames() if name.endswith(".mp4")]
    return sorted(names)


def mp4(dataset: Path, row: Mapping[str, Any]) -> bytes:
    return read_bytes(dataset / "shards" / row["shard"], row["offset"], row["offset"] + row["bytes"])


@pytest.mark.parametrize("by", ["address", "key"])
def test_a_takedown_rewrites_only_the_shards_of_its_clips_and_no_named_file_shows_them(
    manifest: Path, tmp_path: Path, refresh_here: Refresh, by: str
) -> None:
    dataset = tmp_path / "data"
    refresh_here(manifest, dataset, samples_per_shard=2)
    before = kept(dataset)
    down = before["clip3"]
    pictures = mp4(dataset, down)
    (tmp_path / "down.txt").write_text(f"{down['uri'] if by == 'address' else down['key']}\n")

    summary = refresh_here(manifest, dataset, samples_per_shard=2, takedown=str(tmp_path / "down.txt"))

    assert (summary.taken_down, summary.decoded, summary.by_verdict) == (1, 0, {"kept": 5, "removed": 1})
    after = kept(dataset)
    assert {name: row["shard"] for name, row in after.items() if before[name]["shard"] != down["shard"]} == {
        name: row["shard"] for name, row in before.items() if row["shard"] != down["shard"]
    }
    assert members(dataset) == sorted(row["key"] for row in after.values())
    for name, row in after.items():
        assert mp4(dataset, row) == mp4(dataset, before[name])
        stored = read_bytes(dataset / "slices" / row["slice"])
        assert stored[row["slice_offset"] :][: row["slice_bytes"]] == mp4(dataset, row)
        assert pictures not in stored
    # The version before can still be read, until a vacuum.
    assert mp4(dataset, kept(dataset, version=0)["clip3"]) == pictures
    assert refresh_here(manifest, dataset, samples_per_shard=2, takedown=str(tmp_path / "down.txt")).run_id is None
    vacuum(str(dataset), timedelta(0), datetime(2031, 1, 1, tzinfo=UTC))
    assert not [path for path in dataset.rglob("*") if path.is_file() and pictures in path.read_bytes()]
    assert members(dataset) == sorted(row["key"] for row in after.values())


def test_a_new_clip_whose_bytes_were_taken_down_is_removed_by_its_key(
    manifest: Path, tmp_path: Path, refresh_here: Refresh, manifest_writer: Write
) -> None:
    refresh_here(manifest, tmp_path / "data")
    (tmp_path / "down.txt").write_text(kept(tmp_path / "data")["clip3"]["key"])
    shutil.copy(manifest.parent / "clip3.mp4", manifest.parent / "again.mp4")
    rows = [{"video": f"{name}.mp4", "caption": "x"} for name in ("clip1", "clip3", "again")]
    manifest_writer(manifest, rows)
    summary = refresh_here(manifest, tmp_path / "data", takedown=str(tmp_path / "down.txt"))
    assert (summary.decoded, summary.by_verdict) == (1, {"kept": 1, "removed": 6})
    assert refresh_here(manifest, tmp_path / "data", takedown=str(tmp_path / "down.txt")).run_id is None


def test_a_source_that_vanishes_between_plan_and_decode_is_unreadable_and_tried_again(
    manifest: Path, tmp_path: Path, refresh_here: Refresh, manifest_writer: Write
) -> None:
    rows = [{"video": f"clip{seed}.mp4", "caption": "x", "etag": "1"} for seed in range(2)]
    manifest_writer(manifest, rows)
    source = manifest.parent / "clip1.mp4"
    source.rename(tmp_path / "away.mp4")
    for attempt in (1, 2):
        assert refresh_here(manifest, tmp_path / "data").by_verdict == {"kept": 1, "unreadable": 1}
        found = Catalog.open(tmp_path / "data").rows()
        row = found.filter(pc.equal(found["verdict"], "unreadable")).to_pylist()[0]
        assert (row["attempts"], row["is_transient"], row["key"]) == (attempt, True, None)
    (tmp_path / "away.mp4").rename(source)
    summary = refresh_here(manifest, tmp_path / "data")
    assert (summary.retried, summary.decoded, summary.by_verdict) == (1, 1, {"kept": 2})


def test_after_so_many_attempts_a_clip_is_left_alone(
    manifest: Path, tmp_path: Path, refresh_here: Refresh, manifest_writer: Write
) -> None:
    manifest_writer(manifest, [{"video": "none.mp4", "caption": "x", "etag": "1"}])
    decoded = [refresh_here(manifest, tmp_path / "data", max_attempts=2).decoded for _ in range(4)]
    assert decoded == [1, 1, 0, 0]


def test_rows_that_cannot_be_understood_are_listed_beside_the_record(
    manifest: Path, tmp_path: Path, refresh_here: Refresh
) -> None:
    manifest.write_text("video,caption\nclip0.mp4,Good\n,No video\nclip1.mp4,Good\n")
    summary = refresh_here(manifest, tmp_path / "data", on_bad_row="reject")
    assert (summary.clips, summary.rejected_rows, summary.by_verdict) == (2, 1, {"kept": 2})
    listed = (tmp_path / "data" / "refreshes" / f"{summary.refresh_id}.rejected.jsonl").read_text()
    assert listed.startswith('{"place": "line 3", "reason": ')
    assert listed.count("\n") == 1


def test_the_order_in_shards_is_a_function_of_the_seed_and_new_thresholds_only_copy(
    manifest: Path, tmp_path: Path, refresh_here: Refresh
) -> None:
    dataset = tmp_path / "data"
    refresh_here(manifest, dataset, samples_per_shard=3)
    first = Catalog.open(dataset).shards()
    shuffled = refresh_here(manifest, dataset, samples_per_shard=3, shuffle_seed=1)
    assert (shuffled.decoded, shuffled.rejudged, shuffled.version) == (0, 6, 1)
    assert set(Catalog.open(dataset).shards()).isdisjoint(first)
    back = refresh_here(manifest, dataset, samples_per_shard=3)
    assert back.version == 2
    assert Catalog.open(dataset).shards() == first
    motion = sorted(row["motion"] for row in kept(dataset).values())
    strict = refresh_here(manifest, dataset, samples_per_shard=3, filters=FilterConfig(min_motion=motion[2]))
    assert (strict.decoded, strict.by_verdict) == (0, {"kept": 4, "still": 2})
    # What a run with these thresholds makes from nothing is the same, shard by shard.
    refresh_here(manifest, tmp_path / "other", samples_per_shard=3, filters=FilterConfig(min_motion=motion[2]))
    assert Catalog.open(tmp_path / "other").shards() == Catalog.open(dataset).shards()
    assert (dataset / "versions" / "00003.txt").read_text().split() == Catalog.open(dataset).shards()


def test_a_vacuum_removes_what_only_old_versions_name_and_nothing_that_is_named(
    manifest: Path, tmp_path: Path, refresh_here: Refresh, manifest_writer: Write
) -> None:
    dataset = tmp_path / "data"
    for names in (range(6), range(1, 6), range(2, 6)):
        manifest_writer(manifest, [{"video": f"clip{seed}.mp4", "caption": f"Clip {seed}"} for seed in names])
        refresh_here(manifest, dataset, samples_per_shard=2)
    (dataset / "shards" / ".half.tar.x.partial").write_bytes(b"cut off")
    shards = [Catalog.open(dataset, version).shards() for version in range(3)]
    last_change = Catalog.open(dataset).table.history(1)[0]["committed_at"]
    now = datetime.fromisoformat(last_change) + timedelta(days=8)
    files = {path for path in dataset.rglob("*") if path.is_file()}
    vacuum(str(dataset), timedelta(days=9), now)
    # Files are as old as this machine's clock says, which is years before the refreshes' clock.
    assert files - {path for path in dataset.rglob("*")} == {dataset / "shards" / ".half.tar.x.partial"}

    done = vacuum(str(dataset), timedelta(days=7), now)

    assert done.oldest_version == 2
    assert sorted(path.name for path in (dataset / "shards").iterdir()) == shards[2]
    assert members(dataset) == sorted(row["key"] for row in kept(dataset).values())
    for version in (0, 1):
        with pytest.raises(CatalogError, match=f"version {version} was vacuumed; the oldest that is left is 2"):
            Catalog.open(dataset, version)
    assert refresh_here(manifest, dataset, samples_per_shard=2).decoded == 0
    # Other thresholds still need no decoding: slices that a row names were left.
    assert refresh_here(manifest, dataset, samples_per_shard=3).decoded == 0


def test_a_version_stays_readable_for_as_long_as_the_retention_after_it_was_replaced(
    manifest: Path, tmp_path: Path, refresh_here: Refresh
) -> None:
    dataset = tmp_path / "data"
    for seed in range(3):
        refresh_here(manifest, dataset, shuffle_seed=seed)
    history = {entry["version"]: entry["committed_at"] for entry in Catalog.open(dataset).table.history()}
    replaced = datetime.fromisoformat(history[1])
    assert (
        vacuum(str(dataset), timedelta(days=1), replaced + timedelta(days=1) - timedelta(seconds=1)).oldest_version == 0
    )
    assert vacuum(str(dataset), timedelta(days=1), replaced + timedelta(days=1)).oldest_version == 1
    assert len(members(dataset, 1)) == 6


def test_a_vacuum_of_a_data_set_that_is_not_whole_removes_nothing(
    manifest: Path, tmp_path: Path, refresh_here: Refresh
) -> None:
    dataset = tmp_path / "data"
    refresh_here(manifest, dataset)
    refresh_here(manifest, dataset, shuffle_seed=1)
    (shard,) = Catalog.open(dataset).shards()
    (dataset / "shards" / shard).rename(tmp_path / "away.tar")
    files = set(dataset.rglob("*"))
    with pytest.raises(VacuumError, match=f"1 files that versions 1 to 1 name are not there, such as shards/{shard}"):
        vacuum(str(dataset), timedelta(0), datetime(2031, 1, 1, tzinfo=UTC))
    assert set(dataset.rglob("*")) == files


def test_a_refresh_vacuums_when_it_is_asked_to(manifest: Path, tmp_path: Path, refresh_here: Refresh) -> None:
    refresh_here(manifest, tmp_path / "data")
    refresh_here(manifest, tmp_path / "data", shuffle_seed=1)
    refresh_here(manifest, tmp_path / "data", shuffle_seed=1, vacuum_older_than_days=0)
    assert len(list((tmp_path / "data" / "shards").iterdir())) == 1
