"""The catalog adds up, or nothing is committed."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.curation.catalog import SCHEMA, Catalog, CatalogError, VerdictSumError, commit


def table(**verdicts: str) -> pa.Table:
    """Rows named by their identity, with their verdicts."""
    rows: list[dict[str, Any]] = [
        {"row_id": name, "uri": f"/{name}.mp4", "key": name, "verdict": verdict} for name, verdict in verdicts.items()
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def test_a_commit_adds_and_replaces_rows_in_one_new_version(tmp_path: Path) -> None:
    first = commit(tmp_path, None, table(a="kept", b="still", c="kept"), 3)
    second = commit(tmp_path, first, table(b="kept", c="removed", d="cut"), 3)
    assert (first.version, second.version) == (0, 1)
    assert second.verdicts() == {"kept": 2, "cut": 1, "removed": 1}
    assert second.kept()["row_id"].to_pylist() == ["a", "b"]
    assert Catalog.open(tmp_path, version=0).verdicts() == first.verdicts() == {"kept": 2, "still": 1}


@pytest.mark.parametrize(
    ("upserts", "num_clips", "message"),
    [
        (table(d="kept"), 5, "5 clips in the manifest, 4 verdicts"),
        (table(a="removed"), 3, "3 clips in the manifest, 2 verdicts"),
        (table(a="lovely"), 3, r"outside the closed list: \{'lovely'\}"),
        (pa.concat_tables([table(a="kept"), table(a="kept")]), 4, "4 rows, 3 of them different"),
    ],
)
def test_verdicts_that_do_not_add_up_are_not_committed(
    tmp_path: Path, upserts: pa.Table, num_clips: int, message: str
) -> None:
    first = commit(tmp_path, None, table(a="kept", b="still", c="kept"), 3)
    with pytest.raises(VerdictSumError, match=message):
        commit(tmp_path, first, upserts, num_clips)
    assert Catalog.open(tmp_path).version == 0


def test_a_data_set_or_version_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="no data set is there"):
        Catalog.open(tmp_path / "none")
    commit(tmp_path, None, table(a="kept"), 1)
    with pytest.raises(CatalogError, match="version 3 cannot be opened; the newest is 0"):
        Catalog.open(tmp_path, version=3)
