"""The plan names what is new, changed, failed and gone, and nothing else."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from pipelines.curation import commits
from pipelines.curation.catalog import SCHEMA, Catalog
from pipelines.curation.config import FilterConfig, LimitsConfig, RefreshConfig
from pipelines.curation.plan import Plan, SourcesUnseenError, make_plan
from pipelines.curation.workbench import workbench

Write = Callable[..., Path]


@dataclass(frozen=True)
class Planned:
    plan: Plan
    fates: dict[str, str]
    """By the first letter of the clip's name; unchanged ones are left out."""
    gone: int


@pytest.fixture
def manifest(clips: Path, manifest_writer: Write) -> Path:
    for name in "abcd":
        (clips / f"{name}.mp4").write_text(f"bytes of {name}")
    return write(manifest_writer, clips / "m.csv", "abcd")


def write(manifest_writer: Write, path: Path, names: str) -> Path:
    return manifest_writer(path, [{"video": f"{name}.mp4", "caption": f"clip {name}", "rank": "1"} for name in names])


@pytest.fixture
def config(manifest: Path, tmp_path: Path) -> RefreshConfig:
    return RefreshConfig(manifest=str(manifest), dataset=str(tmp_path / "data"))


def planned(config: RefreshConfig, catalog: Catalog | None) -> Planned:
    with workbench() as database:
        plan = make_plan(database, config, catalog)
        rows = database.sql("select uri, fate from fates join manifest using (row_id) where fate <> 'unchanged'")
        known = {Path(uri).stem: fate for uri, fate in rows.fetchall()}
        stored = database.sql("select uri, fate from fates join catalog_rows using (row_id) where fate = 'rejudged'")
        known |= {Path(uri).stem: fate for uri, fate in stored.fetchall()}
        return Planned(plan, known, database.sql("select count(*) from gone").fetchall()[0][0])


def committed(
    config: RefreshConfig, verdicts: Mapping[str, str], catalog: Catalog | None = None, **columns: object
) -> Catalog:
    """Commit the manifest's clips; a clip's key is its name 32 times, or what stands after the verdict."""
    with workbench() as database:
        plan = make_plan(database, config, None)
        rows: list[dict[str, Any]] = []
        for clip in database.sql("from manifest order by position").to_arrow_table().to_pylist():
            name = Path(clip["uri"]).stem
            verdict, _, key = verdicts[name].partition(" ")
            hashes = {"scoring_hash": config.scoring_hash, "config_hash": config.config_hash}
            owner = {"duplicate_of": 32 * key or None, "slice": "w/00000.mp4s", "attempts": 1, "is_transient": False}
            rows.append({**clip, "verdict": verdict, "key": 32 * (key or name), **owner, **hashes, **columns})
        database.register("upserts", pa.Table.from_pylist(rows, schema=SCHEMA))
        return commits.commit(database, config.dataset, catalog, plan.num_clips)


@pytest.fixture
def catalog(config: RefreshConfig) -> Catalog:
    """Clips a and c are kept, b is a copy of a, d is still."""
    return committed(config, {"a": "kept", "b": "duplicate a", "c": "kept", "d": "still"})


def test_all_of_a_first_manifest_is_new(config: RefreshConfig) -> None:
    assert planned(config, None).fates == dict.fromkeys("abcd", "new")


def test_an_unchanged_manifest_asks_for_nothing(config: RefreshConfig, catalog: Catalog) -> None:
    found = planned(config, catalog)
    assert found.plan.is_empty
    assert found.plan.num_unchanged == found.plan.num_expected == 4


def test_rows_may_change_places(config: RefreshConfig, catalog: Catalog, manifest_writer: Write) -> None:
    write(manifest_writer, Path(config.manifest), "dcab")
    assert planned(config, catalog).plan.is_empty


def test_equal_rows_of_a_manifest_are_clips_of_their_own(config: RefreshConfig, manifest_writer: Write) -> None:
    write(manifest_writer, Path(config.manifest), "abbcdb")
    with workbench() as database:
        assert make_plan(database, config, None).num_new == 6
        assert database.sql("select count(distinct row_id) from manifest").fetchall() == [(6,)]


@pytest.mark.parametrize(
    ("change", "fate"), [("caption", "rejudged"), ("rank", "rejudged"), ("bytes", "changed"), ("time", "changed")]
)
def test_a_changed_clip_is_the_only_one_to_do(
    config: RefreshConfig, catalog: Catalog, manifest_writer: Write, change: str, fate: str
) -> None:
    rows = [{"video": f"{name}.mp4", "caption": f"clip {name}", "rank": "1"} for name in "abcd"]
    source = Path(config.manifest).parent / "c.mp4"
    if change == "bytes":
        source.write_text("longer than before")
    elif change == "time":
        os.utime(source, (1, 1))
    else:
        rows[2][change] = "other"
        manifest_writer(Path(config.manifest), rows)
    assert planned(config, catalog).fates == {"c": fate}


def test_a_new_caption_needs_the_pixels_where_alignment_looks_at_both(
    config: RefreshConfig, manifest_writer: Write
) -> None:
    aligned = config.model_copy(update={"align": config.align.model_copy(update={"model": "ViT-B-32"})})
    catalog = committed(aligned, dict.fromkeys("abcd", "kept"))
    rows = [{"video": f"{name}.mp4", "caption": f"clip {name}", "rank": "1"} for name in "abcd"]
    rows[1]["caption"] = "other"
    manifest_writer(Path(config.manifest), rows)
    assert planned(aligned, catalog).fates == {"b": "changed"}


def test_another_way_of_scoring_makes_all_due_and_other_thresholds_none(
    config: RefreshConfig, catalog: Catalog
) -> None:
    assert planned(config.model_copy(update={"size_px": 64}), catalog).fates == dict.fromkeys("abcd", "changed")
    for change in ({"filters": FilterConfig(max_cut=3)}, {"shuffle_seed": 1}, {"samples_per_shard": 3}):
        found = planned(config.model_copy(update=change), catalog)
        assert found.fates == dict.fromkeys("abcd", "rejudged")
        assert found.plan.num_due == 0


def test_when_a_kept_clip_goes_its_copies_are_judged_anew(
    config: RefreshConfig, catalog: Catalog, manifest_writer: Write
) -> None:
    write(manifest_writer, Path(config.manifest), "bcd")
    found = planned(config, catalog)
    assert (found.fates, found.gone, found.plan.num_expected) == ({"b": "rejudged"}, 1, 3)


def test_when_a_kept_clip_changes_its_copies_are_judged_anew(config: RefreshConfig, catalog: Catalog) -> None:
    (Path(config.manifest).parent / "a.mp4").write_text("no longer what b is")
    assert planned(config, catalog).fates == {"a": "changed", "b": "rejudged"}


def test_failures_by_chance_are_tried_again_so_many_times_and_rejections_never(config: RefreshConfig) -> None:
    verdicts = {"a": "timeout", "b": "still", "c": "unreadable", "d": "crashed"}
    catalog = committed(config, verdicts, attempts=2, is_transient=True)
    assert set(planned(config, catalog).fates.values()) == {"retried"}
    assert planned(config.model_copy(update={"max_attempts": 2}), catalog).plan.is_empty


@pytest.mark.parametrize(
    ("verdict", "limits", "fate"),
    [
        ("timeout", {"timeout_s": 61}, "retried"),
        ("timeout", {"timeout_s": 59}, None),
        ("timeout", {"max_memory_bytes": 2**40}, None),
        ("crashed", {"max_memory_bytes": 2**32}, "retried"),
        ("crashed", {"timeout_s": 61}, None),
        ("unreadable", {"timeout_s": 61, "max_memory_bytes": 2**32}, None),
    ],
)
def test_a_higher_limit_is_a_reason_to_try_clips_again_that_met_the_lower_one(
    config: RefreshConfig, verdict: str, limits: dict[str, float], fate: str | None
) -> None:
    had = {"attempts": 9, "is_transient": True, "timeout_s": 60.0, "max_memory_bytes": 2**31}
    catalog = committed(config, {"a": "kept", "b": verdict, "c": "still", "d": "kept"}, **had)
    higher = config.model_copy(update={"limits": LimitsConfig(**limits)})
    assert planned(higher, catalog).fates == ({"b": fate} if fate else {})


@pytest.fixture
def lenient(config: RefreshConfig) -> RefreshConfig:
    """Any share of the sources may be away."""
    return config.model_copy(update={"max_unreachable_share": 1.0})


def test_a_source_that_cannot_be_seen_is_no_changed_one(
    lenient: RefreshConfig, catalog: Catalog, manifest_writer: Write
) -> None:
    folder = Path(lenient.manifest).parent
    (folder / "a.mp4").unlink()
    (folder / "c.mp4").unlink()
    (folder / "c.mp4").symlink_to("c.mp4")  # a loop: opening it is an error of another kind
    found = planned(lenient, catalog)
    assert found.plan.is_empty
    assert (found.plan.num_unreachable, found.plan.num_unchanged) == (2, 4)
    rows = [{"video": f"{name}.mp4", "caption": "other", "rank": "1"} for name in "abcd"]
    manifest_writer(Path(lenient.manifest), rows)
    assert planned(lenient, catalog).fates == dict.fromkeys("abcd", "rejudged")
    # The way of scoring is another: there is nothing that could stay as it is.
    assert planned(lenient.model_copy(update={"size_px": 64}), catalog).plan.num_changed == 4


def test_a_source_that_failed_and_cannot_be_seen_is_not_tried_until_it_can(lenient: RefreshConfig) -> None:
    catalog = committed(lenient, dict.fromkeys("abcd", "unreadable"), is_transient=True)
    (source,) = Path(lenient.manifest).parent.glob("c.mp4")
    away = source.rename(source.with_name("away"))
    assert planned(lenient, catalog).fates == dict.fromkeys("abd", "retried")
    away.rename(source)
    assert planned(lenient, catalog).fates == dict.fromkeys("abcd", "retried")


def test_a_new_caption_waits_for_a_source_that_cannot_be_seen_where_alignment_needs_its_pixels(
    lenient: RefreshConfig, manifest_writer: Write
) -> None:
    aligned = lenient.model_copy(update={"align": lenient.align.model_copy(update={"model": "ViT-B-32"})})
    catalog = committed(aligned, dict.fromkeys("abcd", "kept"))
    rows = [{"video": f"{name}.mp4", "caption": f"clip {name}", "rank": "1"} for name in "abcd"]
    rows[1]["caption"] = "other"
    manifest_writer(Path(aligned.manifest), rows)
    source = Path(aligned.manifest).parent / "b.mp4"
    away = source.rename(source.with_name("away"))
    found = planned(aligned, catalog)
    assert found.fates == {"b": "unreachable"}
    assert (found.plan.is_empty, found.plan.num_unchanged) == (True, 4)
    away.rename(source)
    assert planned(aligned, catalog).fates == {"b": "changed"}


def test_where_most_sources_are_away_nothing_is_planned_and_the_key_that_allows_it_is_named(
    config: RefreshConfig, catalog: Catalog
) -> None:
    for name in "ab":
        (Path(config.manifest).parent / f"{name}.mp4").unlink()
    with pytest.raises(
        SourcesUnseenError,
        match=r"2 of 4 known sources cannot be seen, such as .*/[ab]\.mp4: no such file;.*max_unreachable_share: 0\.2",
    ):
        planned(config, catalog)
    assert planned(config.model_copy(update={"max_unreachable_share": 0.5}), catalog).plan.is_empty


def test_a_manifest_of_additions_counts_what_it_names_as_unchanged(
    config: RefreshConfig, catalog: Catalog, manifest_writer: Write, takedown: Callable[[Sequence[str]], str]
) -> None:
    write(manifest_writer, Path(config.manifest), "cd")
    path = takedown(["a.mp4", "b.mp4"])
    plan = planned(config.model_copy(update={"missing_rows": "keep", "takedown": path}), catalog).plan
    assert (plan.num_taken_down, plan.num_unchanged) == (2, 2)


def test_a_manifest_of_additions_removes_nothing_and_new_thresholds_reach_what_it_does_not_name(
    config: RefreshConfig, catalog: Catalog, manifest_writer: Write
) -> None:
    (Path(config.manifest).parent / "e.mp4").write_text("bytes of e")
    write(manifest_writer, Path(config.manifest), "ce")
    additions = config.model_copy(update={"missing_rows": "keep"})
    found = planned(additions, catalog)
    assert (found.fates, found.gone, found.plan.num_expected) == ({"e": "new"}, 0, 5)
    stricter = planned(additions.model_copy(update={"filters": FilterConfig(max_cut=3)}), catalog)
    assert stricter.fates == {**dict.fromkeys("abcd", "rejudged"), "e": "new"}
    assert stricter.plan.num_expected == 5


@pytest.fixture
def takedown(tmp_path: Path) -> Iterator[Callable[[Sequence[str]], str]]:
    def listed(names: Sequence[str]) -> str:
        (tmp_path / "takedown.txt").write_text("# asked for in writing\n\n" + "\n".join(names) + "\n")
        return str(tmp_path / "takedown.txt")

    return listed


@pytest.mark.parametrize("missing_rows", ["remove", "keep"])
def test_a_takedown_list_names_clips_by_address_or_key(
    config: RefreshConfig, catalog: Catalog, takedown: Callable[[Sequence[str]], str], missing_rows: str
) -> None:
    address = str(Path(config.manifest).parent / "d.mp4")
    path = takedown([address, 32 * "c"])
    found = planned(config.model_copy(update={"takedown": path, "missing_rows": missing_rows}), catalog)
    assert found.fates == {"c": "taken_down", "d": "taken_down"}
    assert (found.plan.num_taken_down, found.plan.num_expected, found.plan.num_due) == (2, 2, 0)


def test_a_clip_that_was_taken_down_stays_so_while_the_list_names_it(
    config: RefreshConfig, takedown: Callable[[Sequence[str]], str]
) -> None:
    with workbench() as database:
        make_plan(database, config, None)
    verdicts = {"a": "kept", "b": "kept", "c": "kept", "d": "kept"}
    catalog = committed(config, verdicts)
    listed = config.model_copy(update={"takedown": takedown([32 * "a"])})
    with workbench() as database:
        plan = make_plan(database, listed, catalog)
        database.execute(
            "create table upserts as select * replace ('removed' as verdict) from catalog_rows semi join listed "
            "using (row_id)"
        )
        catalog = commits.commit(database, config.dataset, catalog, plan.num_expected)
    assert planned(listed, catalog).plan.is_empty
    assert planned(config, catalog).fates == {"a": "changed"}


def test_a_database_that_is_gone_takes_its_folder_with_it() -> None:
    with workbench() as database:
        (path,) = database.sql("select path from duckdb_databases() where path is not null").fetchall()[0]
        assert Path(path).exists()
    assert not Path(path).parent.exists()
    with pytest.raises(duckdb.ConnectionException):
        database.sql("select 1")
