"""The data card: what a version of the data set holds, in figures that people compare.

Everything is aggregated by DuckDB over the catalog's columns, whatever their number of rows.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

Rows: TypeAlias = pa.Table | ds.Dataset
"""Rows of the catalog: a table, or a data set that is streamed."""

_QUANTILES = (("least", 0.0), ("5 %", 0.05), ("median", 0.5), ("95 %", 0.95), ("most", 1.0))
_SCRIPTS = (
    *("Latin", "Cyrillic", "Greek", "Arabic", "Hebrew", "Devanagari", "Bengali", "Tamil", "Telugu", "Thai"),
    *("Han", "Hiragana", "Katakana", "Hangul", "Georgian", "Armenian", "Ethiopic"),
)
_SECONDS_AN_HOUR = 3600
_HEAD = """
select count(*) filter (verdict <> 'removed') as clips, count(*) filter (verdict = 'kept') as kept,
    coalesce(sum(num_frames / fps) filter (verdict = 'kept'), 0) as seconds,
    coalesce(sum(bytes) filter (verdict = 'kept'), 0) as mp4_bytes,
    count(distinct shard) filter (verdict = 'kept') as shards
from rows
"""
_COUNTED = {
    "codec": "codec",
    "size, short side in pixels": """case when least(source_width, source_height) <= 240 then '1: to 240'
        when least(source_width, source_height) <= 360 then '2: 241 to 360'
        when least(source_width, source_height) <= 480 then '3: 361 to 480'
        when least(source_width, source_height) <= 720 then '4: 481 to 720'
        when least(source_width, source_height) <= 1080 then '5: 721 to 1080' else '6: above 1080' end""",
    "shape": """case when source_width > source_height then 'landscape' when source_width < source_height
        then 'portrait' else 'square' end""",
    "frames per second": """case when source_fps < 20 then '1: below 20' when source_fps < 27 then '2: 20 to 27'
        when source_fps < 40 then '3: 27 to 40' else '4: 40 and more' end""",
}
_SPREAD = {
    "seconds of the source": "source_duration_s",
    "characters of a caption": "length(caption)",
    "words of a caption": "length(string_split_regex(trim(caption), '\\s+'))",
    "alignment score": "align_score",
}


class CardTable(NamedTuple):
    """One table of the card."""

    title: str
    lines: list[tuple[str, float]]
    is_count: bool
    """Clips by kind; else the spread of a quantity."""


@dataclass(frozen=True)
class DataCard:
    """What a version holds. All but `clips` is about kept clips."""

    clips: int
    """Rows but those that are `removed`."""
    kept: int
    hours: float
    """At the data set's length of a clip."""
    mp4_bytes: int
    shards: int
    tables: tuple[CardTable, ...]

    def metrics(self) -> dict[str, float]:
        """For the tracker: one number a name."""
        head = {"clips": self.clips, "kept": self.kept, "hours": self.hours, "mp4_bytes": self.mp4_bytes}
        medians = {
            f"median {table.title}".replace(" ", "_"): value
            for table in self.tables
            if not table.is_count
            for name, value in table.lines
            if name == "median"
        }
        return {**head, "shards": float(self.shards), **medians}


def make_card(rows: Rows) -> DataCard:
    """Sum a catalog up."""
    with duckdb.connect() as database:
        database.register("rows", rows)
        clips, kept, seconds, mp4_bytes, shards = _one(database, _HEAD)
        counted = [CardTable(title, _counts(database, sql), True) for title, sql in _COUNTED.items()]
        spread = [CardTable(title, _spread(database, sql), False) for title, sql in _SPREAD.items()]
        scripts = CardTable("scripts in captions", _scripts(database), True)
    tables = tuple(table for table in (*counted, *spread, scripts) if table.lines)
    return DataCard(clips, kept, seconds / _SECONDS_AN_HOUR, mp4_bytes, shards, tables)


def _counts(database: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[str, float]]:
    found = database.sql(f"select {sql} as kind, count(*) from rows where verdict = 'kept' group by kind order by kind")
    return [(str(kind), count) for kind, count in found.fetchall() if kind is not None]


def _spread(database: duckdb.DuckDBPyConnection, sql: str) -> list[tuple[str, float]]:
    columns = ", ".join(f"quantile_disc({sql}, {share})" for _, share in _QUANTILES)
    values = _one(database, f"select {columns} from rows where verdict = 'kept'")
    lines = zip(_QUANTILES, values, strict=True)
    return [(name, float(value)) for (name, _), value in lines if value is not None]


def _scripts(database: duckdb.DuckDBPyConnection) -> list[tuple[str, float]]:
    """Captions that hold letters of a script; one with two scripts counts in both."""
    named = [f"regexp_matches(caption, '\\p{{{script}}}')" for script in _SCRIPTS]
    other = f"not ({' or '.join(named)})"
    columns = ", ".join(f"count(*) filter ({sql})" for sql in (*named, other))
    counts = _one(database, f"select {columns} from rows where verdict = 'kept'")
    found = zip((*_SCRIPTS, "other"), counts, strict=True)
    return sorted(((name, count) for name, count in found if count), key=lambda line: -line[1])


def _one(database: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    (row,) = database.sql(sql).fetchall()
    return row
