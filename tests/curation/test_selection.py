"""Verdicts by thresholds, in their order of precedence, and one kept clip of equal ones."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from pipelines.curation.catalog import SCHEMA
from pipelines.curation.config import AlignConfig, FilterConfig, Recipe
from pipelines.curation.near_duplicates import FINGERPRINT_BYTES, near_hash
from pipelines.curation.selection import judge_rows, select

GOOD: dict[str, Any] = {
    "uri": "/a.mp4",
    "key": "k1",
    "caption": "A red circle",
    "verdict": None,
    "reason": "",
    "brightness": 200.0,
    "motion": 30.0,
    "cut": 0.5,
    "bars": 0.0,
    "sharpness": 0.7,
    "align_score": 0.5,
}
RECIPE = Recipe(align=AlignConfig(min_score=0.3))


@pytest.fixture
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    """The tables of a plan that touches nothing else."""
    with duckdb.connect() as database:
        database.execute("create table takedown (name varchar); create table touched_before (row_id varchar)")
        database.register("catalog_rows", SCHEMA.empty_table())
        yield database


def rows_of(rows: list[dict[str, Any]]) -> pa.Table:
    named = [{"row_id": f"r{number}", **row} for number, row in enumerate(rows)]
    table = pa.Table.from_pylist(named, schema=SCHEMA)
    return table.add_column(0, "position", pa.array(range(len(rows)), pa.int64()))


def selected(database: duckdb.DuckDBPyConnection, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    database.register("given", rows_of(rows))
    database.execute("create or replace table touched as from given")
    for table in ("rejections", "judged", "owners", "equal_clips", "affected"):
        database.execute(f"drop table if exists {table}")
    select(database, RECIPE)
    return database.sql("select * from judged order by position").to_arrow_table().to_pylist()


def verdict_of(**changes: Any) -> str:
    found = judge_rows(rows_of([{**GOOD, **changes}]), RECIPE)["verdict"].to_pylist()
    return found[0] if found else "kept"


def test_a_clip_that_breaks_no_rule_is_kept() -> None:
    assert verdict_of() == "kept"
    assert verdict_of(align_score=None) == "kept"


FLAWS = {
    "too_dark": {"brightness": 10.0},
    "still": {"motion": 0.0},
    "cut": {"cut": 90.0},
    "letterboxed": {"bars": 0.3},
    "blurry": {"sharpness": 0.1},
    "caption_missing": {"caption": "", "align_score": None},
    "caption_invalid": {"caption": "<b>"},
    "misaligned": {"align_score": 0.1},
}


@pytest.mark.parametrize(("verdict", "flaw"), FLAWS.items())
def test_each_flaw_has_its_verdict(verdict: str, flaw: dict[str, Any]) -> None:
    assert verdict_of(**flaw) == verdict


def test_the_earlier_flaw_precedes_the_later() -> None:
    for (verdict, earlier), (_, later) in pairwise(FLAWS.items()):
        if verdict != "caption_missing":
            assert verdict_of(**{**later, **earlier}) == verdict


def test_a_threshold_that_is_null_rejects_nothing() -> None:
    lenient = Recipe(filters=FilterConfig(min_motion=None), align=AlignConfig(min_score=None))
    assert not len(judge_rows(rows_of([{**GOOD, "motion": 0.0, "align_score": -1.0}]), lenient))


def test_each_of_many_rows_has_its_own_verdict_and_reason() -> None:
    rows = [{**GOOD, "motion": float(number % 7)} for number in range(5000)]
    found = judge_rows(rows_of(rows), RECIPE).to_pylist()
    assert [row["row_id"] for row in found] == [f"r{number}" for number in range(5000) if number % 7 < 2.5]
    assert found[1]["reason"] == "motion 1.000, at least 2.5"


def test_what_ended_decoding_precedes_all(database: duckdb.DuckDBPyConnection) -> None:
    none = dict.fromkeys(("brightness", "motion", "cut", "bars", "sharpness", "align_score"))
    row = selected(database, [{**GOOD, **none, "caption": "", "verdict": "corrupt", "reason": "half a file"}])[0]
    assert (row["verdict"], row["reason"]) == ("corrupt", "half a file")


def test_the_first_of_equal_clips_is_kept(database: duckdb.DuckDBPyConnection) -> None:
    rows = selected(database, [{**GOOD, "uri": f"/{name}.mp4"} for name in "abc"])
    assert [row["verdict"] for row in rows] == ["kept", "duplicate", "duplicate"]
    assert (rows[2]["reason"], rows[2]["duplicate_of"]) == ("same bytes and span as /a.mp4", "k1")


def test_a_copy_of_a_rejected_clip_may_be_kept(database: duckdb.DuckDBPyConnection) -> None:
    rows = selected(database, [{**GOOD, "caption": ""}, GOOD, GOOD])
    assert [row["verdict"] for row in rows] == ["caption_missing", "kept", "duplicate"]


def test_a_clip_that_the_catalog_keeps_stays_the_one(database: duckdb.DuckDBPyConnection) -> None:
    older = {**GOOD, "uri": "/older.mp4", "verdict": "kept", "row_id": "old"}
    database.register("catalog_rows", pa.Table.from_pylist([older], schema=SCHEMA))
    row = selected(database, [GOOD])[0]
    assert (row["verdict"], row["reason"]) == ("duplicate", "same bytes and span as /older.mp4")
    database.execute("insert into touched_before values ('old')")
    assert selected(database, [GOOD])[0]["verdict"] == "kept"


def test_every_duplicate_names_the_clip_that_is_kept(database: duckdb.DuckDBPyConnection) -> None:
    original, again = bytes([100]) * FINGERPRINT_BYTES, bytes([101]) * FINGERPRINT_BYTES
    of_original, of_again = (
        {"fingerprint": own, "near_keys": near_hash(own).keys, "near_rank": near_hash(own).rank}
        for own in (original, again)
    )
    clips = [
        {**GOOD, "uri": "/c.mp4", "key": "c", **of_original},
        {**GOOD, "uri": "/a.mp4", "key": "a", **of_again},
        {**GOOD, "uri": "/b.mp4", "key": "a", **of_again},
    ]
    rows = selected(database, clips)
    assert [row["verdict"] for row in rows] == ["kept", "duplicate", "duplicate"]
    assert [row["duplicate_of"] for row in rows] == [None, "c", "c"]
    assert rows[2]["reason"] == rows[1]["reason"] == "near copy of /c.mp4, 1.0 levels apart"


def test_a_key_on_the_takedown_list_precedes_all(database: duckdb.DuckDBPyConnection) -> None:
    database.execute("insert into takedown values ('k1')")
    rows = selected(database, [GOOD, {**GOOD, "key": "k2"}])
    assert [(row["verdict"], row["reason"]) for row in rows] == [("removed", "on the takedown list"), ("kept", "")]
