"""The catalog adds up, or nothing is committed."""

import os
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from pipelines.curation import commits
from pipelines.curation.catalog import SCHEMA, Catalog, CatalogError
from pipelines.curation.commits import CommitConflictError, VerdictSumError


def table(**verdicts: str) -> pa.Table:
    """Rows named by their identity, with their verdicts."""
    rows: list[dict[str, Any]] = [
        {"row_id": name, "uri": f"/{name}.mp4", "key": name, "verdict": verdict} for name, verdict in verdicts.items()
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def commit(dataset: Path, catalog: Catalog | None, upserts: pa.Table, num_clips: int) -> Catalog:
    with duckdb.connect() as database:
        database.register("upserts", upserts)
        return commits.commit(database, dataset, catalog, num_clips)


def test_a_commit_adds_and_replaces_rows_in_one_new_version(tmp_path: Path) -> None:
    first = commit(tmp_path, None, table(a="kept", b="still", c="kept"), 3)
    second = commit(tmp_path, first, table(b="kept", c="removed", d="cut"), 3)
    assert (first.version, second.version) == (0, 1)
    assert second.verdicts() == {"kept": 2, "cut": 1, "removed": 1}
    assert second.kept()["row_id"].to_pylist() == ["a", "b"]
    assert Catalog.open(tmp_path, version=0).verdicts() == first.verdicts() == {"kept": 2, "still": 1}


def test_of_two_commits_on_one_version_the_second_is_refused(tmp_path: Path) -> None:
    first = commit(tmp_path, None, table(a="kept", b="still"), 2)
    commit(tmp_path, first, table(c="kept"), 3)
    for upserts, num_clips in ((table(d="kept"), 3), (table(a="still"), 2), (table(a="removed"), 1)):
        with pytest.raises(CommitConflictError, match="version 0 was planned against"):
            commit(tmp_path, Catalog.open(tmp_path, version=0), upserts, num_clips)
    assert Catalog.open(tmp_path).version == 1


def test_new_few_and_many_rows_give_the_same_table_however_they_are_written(tmp_path: Path) -> None:
    names = [f"r{number:02d}" for number in range(40)]
    catalog = commit(tmp_path, None, table(**dict.fromkeys(names, "kept")), 40)
    catalog = commit(tmp_path, catalog, table(r00="still", new="kept"), 41)
    catalog = commit(tmp_path, catalog, table(**dict.fromkeys(names[1:30], "cut")), 41)
    catalog = commit(tmp_path, catalog, table(more="cut"), 42)
    assert catalog.version == 3
    assert catalog.verdicts() == {"kept": 11, "still": 1, "cut": 30}
    assert Catalog.open(tmp_path, version=1).verdicts() == {"kept": 40, "still": 1}


@pytest.mark.parametrize(
    ("upserts", "num_clips", "message"),
    [
        (table(d="kept"), 5, "5 clips in the manifest, 4 verdicts"),
        (table(a="removed"), 3, "3 clips in the manifest, 2 verdicts"),
        (table(a="lovely"), 3, r"outside the closed list: \{'lovely'\}"),
        (pa.concat_tables([table(a="kept"), table(a="kept")]), 4, "2 rows, 1 of them different"),
    ],
)
def test_verdicts_that_do_not_add_up_are_not_committed(
    tmp_path: Path, upserts: pa.Table, num_clips: int, message: str
) -> None:
    first = commit(tmp_path, None, table(a="kept", b="still", c="kept"), 3)
    with pytest.raises(VerdictSumError, match=message):
        commit(tmp_path, first, upserts, num_clips)
    assert Catalog.open(tmp_path).version == 0


def test_old_versions_can_be_read_however_many_commits_follow(tmp_path: Path) -> None:
    """By default Delta Lake forgets logs of more than 30 days with every hundredth commit."""
    catalog = commit(tmp_path, None, table(r0="kept"), 1)
    for number in range(1, 102):
        catalog = commit(tmp_path, catalog, table(**{f"r{number}": "kept"}), number + 1)
        for path in (tmp_path / "catalog" / "_delta_log").glob("*.json"):
            os.utime(path, (1e9, 1e9))
    assert list((tmp_path / "catalog" / "_delta_log").glob("*.checkpoint.parquet"))
    for version in (0, 1, 50, 101):
        assert Catalog.open(tmp_path, version).rows().num_rows == version + 1
    assert len(catalog.table.history()) == 102


def test_a_data_set_or_version_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no data set is there"):
        Catalog.open(tmp_path / "none")
    commit(tmp_path, None, table(a="kept"), 1)
    with pytest.raises(CatalogError, match="version 3 cannot be opened; the newest is 0"):
        Catalog.open(tmp_path, version=3)
