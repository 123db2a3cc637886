"""The plan names what is new, changed and gone, and nothing else."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.curation.catalog import SCHEMA, Catalog, commit
from pipelines.curation.manifest import read_manifest
from pipelines.curation.plan import Plan, make_plan

Write = Callable[..., Path]


@pytest.fixture
def manifest(clips: Path, manifest_writer: Write) -> Path:
    for name in "abcd":
        (clips / f"{name}.mp4").write_text(f"bytes of {name}")
    return manifest_writer(
        clips / "m.csv", [{"video": f"{name}.mp4", "caption": f"clip {name}", "rank": "1"} for name in "abcd"]
    )


def committed(dataset: Path, plan: Plan, verdicts: Mapping[str, str]) -> Catalog:
    """Commit the plan's clips; a clip's key is the first letter of its name, or what stands after the verdict."""
    rows: list[dict[str, Any]] = []
    for clip in plan.clips.to_pylist():
        name = Path(clip["uri"]).stem
        verdict, _, key = verdicts[name].partition(" ")
        rows.append({**clip, "verdict": verdict, "key": key or name, "config_hash": "recipe"})
    return commit(dataset, None, pa.Table.from_pylist(rows, schema=SCHEMA), len(rows))


def names(plan: Plan) -> list[str]:
    return [Path(uri).stem for uri in plan.clips["uri"].to_pylist()]


@pytest.fixture
def catalog(manifest: Path, tmp_path: Path) -> Catalog:
    """Clips a and c are kept, b is a copy of a, d is still."""
    plan = make_plan(read_manifest(manifest), None, "recipe")
    assert names(plan) == ["a", "b", "c", "d"]
    return committed(tmp_path / "data", plan, {"a": "kept", "b": "duplicate a", "c": "kept", "d": "still"})


def test_an_unchanged_manifest_asks_for_nothing(manifest: Path, catalog: Catalog) -> None:
    plan = make_plan(read_manifest(manifest), catalog, "recipe")
    assert plan.is_empty
    assert plan.num_unchanged == 4
    assert {key: Path(uri).stem for key, uri in plan.kept_keys.items()} == {"a": "a", "c": "c"}


def test_rows_may_change_places(manifest: Path, catalog: Catalog, manifest_writer: Write) -> None:
    rows = [{"video": f"{name}.mp4", "caption": f"clip {name}", "rank": "1"} for name in "dcab"]
    assert make_plan(read_manifest(manifest_writer(manifest, rows)), catalog, "recipe").is_empty


@pytest.mark.parametrize("change", ["caption", "rank", "bytes", "time"])
def test_a_changed_clip_is_the_only_one_to_do(
    manifest: Path, catalog: Catalog, manifest_writer: Write, change: str
) -> None:
    rows = [{"video": f"{name}.mp4", "caption": f"clip {name}", "rank": "1"} for name in "abcd"]
    source = manifest.parent / "c.mp4"
    if change == "bytes":
        source.write_text("longer than before")
    elif change == "time":
        os.utime(source, (1, 1))
    else:
        rows[2][change] = "other"
    plan = make_plan(read_manifest(manifest_writer(manifest, rows)), catalog, "recipe")
    assert (names(plan), plan.num_changed, plan.num_new) == (["c"], 1, 0)
    assert list(plan.kept_keys) == ["a"]


def test_another_recipe_makes_all_due(manifest: Path, catalog: Catalog) -> None:
    plan = make_plan(read_manifest(manifest), catalog, "another recipe")
    assert (plan.num_changed, plan.kept_keys) == (4, {})


def test_when_a_kept_clip_goes_its_copies_are_due(manifest: Path, catalog: Catalog, manifest_writer: Write) -> None:
    rows = [{"video": f"{name}.mp4", "caption": f"clip {name}", "rank": "1"} for name in "bcd"]
    plan = make_plan(read_manifest(manifest_writer(manifest, rows)), catalog, "recipe")
    assert (names(plan), len(plan.removed_ids)) == (["b"], 1)


def test_when_a_kept_clip_changes_its_copies_are_due(manifest: Path, catalog: Catalog) -> None:
    (manifest.parent / "a.mp4").write_text("no longer what b is")
    assert names(make_plan(read_manifest(manifest), catalog, "recipe")) == ["a", "b"]


def test_the_same_work_has_the_same_name_and_other_work_another(manifest: Path, catalog: Catalog) -> None:
    first = make_plan(read_manifest(manifest), None, "recipe")
    assert first.digest("recipe") == make_plan(read_manifest(manifest), None, "recipe").digest("recipe")
    assert first.digest("recipe") != first.digest("another recipe")
    (manifest.parent / "d.mp4").write_text("changed")
    assert make_plan(read_manifest(manifest), None, "recipe").digest("recipe") != first.digest("recipe")
