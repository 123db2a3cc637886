"""Who went where: why clips were not kept, with examples, and what changed since the version before."""

from typing import NamedTuple

import duckdb

from pipelines.curation.data_card import Rows

NOT_THERE = "not there"

# "brightness 12.3, at least 48" and "brightness 7.1, at least 48" are one reason.
_KIND = r"regexp_replace(regexp_replace(reason, '(as|of) \S*[/\\]\S+', '\1 …'), '[0-9]+(\.[0-9]+)?', '#', 'g')"
_FAILURES = f"""
select verdict, {_KIND} as kind, count(*) as clips, arg_min(uri, row_id) as uri, arg_min(reason, row_id) as reason
from rows where verdict not in ('kept', 'removed')
group by verdict, kind order by clips desc, verdict, kind limit $limit
"""
_FLOWS = f"""
select coalesce(before.verdict, '{NOT_THERE}') as old, after.verdict as new, count(*) as clips
from after left join before using (row_id) where before.verdict is distinct from after.verdict
group by old, new order by clips desc, old, new
"""


class Failure(NamedTuple):
    """A reason for which clips were not kept; numbers in it left open."""

    verdict: str
    kind: str
    clips: int
    example_uri: str
    example_reason: str


class Flow(NamedTuple):
    """Clips whose verdict is another one than in the version before."""

    old: str
    """`NOT_THERE` for clips that are new."""
    new: str
    clips: int


def failures(rows: Rows, limit: int = 50) -> list[Failure]:
    """The reasons that most clips were rejected for."""
    with duckdb.connect() as database:
        database.register("rows", rows)
        found = database.execute(_FAILURES, {"limit": limit}).fetchall()
    return [Failure(*row) for row in found]


def flows(before: Rows, after: Rows) -> list[Flow]:
    """How clips moved between two versions of a catalog; those that stayed are left out."""
    with duckdb.connect() as database:
        database.register("before", before)
        database.register("after", after)
        found = database.sql(_FLOWS).fetchall()
    return [Flow(*row) for row in found]
