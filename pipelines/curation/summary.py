"""What a refresh did, in figures and as the short text that a user reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from pipelines.curation.data_card import Rows

_LINES = 5  # that are told


@dataclass(frozen=True)
class Deeds:
    """What a refresh did, as far as it is known when it commits."""

    refresh_id: str
    dataset: str
    clips: int
    """In the manifest."""
    new: int
    changed: int
    retried: int
    """Failed before by chance, and tried again."""
    rejudged: int
    """Judged anew from stored scores."""
    removed: int
    taken_down: int
    unchanged: int
    unreachable: int
    """Sources that were seen before and could not be seen: nothing of theirs was taken for changed."""
    rejected_rows: int
    """Rows of the manifest that could not be understood: listed beside the record, no clips."""
    unmatched_takedowns: list[str]
    """Lines of the takedown list that name nothing which is or was in the data set or the manifest."""
    decoded: int
    """Clips that this run read and decoded: less than new + changed + retried where an earlier run was cut off."""
    decoding_s: float
    """What that took."""
    align_model: str | None
    seconds: float
    """To the commit; in a summary to the end."""


@dataclass(frozen=True)
class RefreshSummary(Deeds):
    """What a refresh did and what came of it; also written to `<dataset>/refreshes/<refresh_id>.json`."""

    version: int
    """Of the data set, after the refresh."""
    kept: int
    by_verdict: dict[str, int]
    """Over the whole data set; sums up to `clips`, but for clips that are `removed`."""
    clips_per_s: float
    """Decoded clips per second of the whole run."""
    run_id: str | None
    """In the tracker; None where there was nothing to do."""


class Throughput(NamedTuple):
    """How fast clips were turned into scores."""

    decoded: int
    seconds: float


@dataclass(frozen=True)
class Version:
    """A version of a data set that was just committed."""

    dataset: str
    number: int
    refresh_id: str
    rows: Rows
    """The whole catalog."""
    before: Rows | None
    """The catalog of the version before; None: this is the first."""
    counts: Mapping[str, int]
    """Clips by verdict."""
    throughput: Throughput


def describe(summary: RefreshSummary) -> str:
    """The summary as lines of text."""
    plan = f"{summary.new} new, {summary.changed} changed, {summary.removed} removed, {summary.unchanged} unchanged"
    others = {"retried": summary.retried, "judged anew": summary.rejudged, "taken down": summary.taken_down}
    plan += "".join(f", {count} {name}" for name, count in others.items() if count)
    unseen = f"{summary.unreachable} known sources cannot be seen; their clips stay\n" if summary.unreachable else ""
    rejected = f"{summary.rejected_rows} rows of the manifest rejected\n" if summary.rejected_rows else ""
    speed = f", {summary.clips_per_s:.1f} clips/s" if summary.decoded else ""
    verdicts = "".join(f"  {verdict:<16}{count:>8}\n" for verdict, count in summary.by_verdict.items())
    return (
        f"{summary.dataset} is at version {summary.version}\n"
        f"clips in {summary.clips}: {plan}\n"
        f"{unseen}{rejected}{describe_unmatched(summary.unmatched_takedowns)}"
        f"{verdicts}"
        f"alignment: {summary.align_model or 'left out'}\n"
        f"{summary.decoded} clips decoded, {summary.seconds:.1f} s{speed}\n"
    )


def describe_unmatched(lines: Sequence[str]) -> str:
    """Lines of a takedown list that name nothing, as a line of text; empty where there are none."""
    more = f" and {len(lines) - _LINES} more" if len(lines) > _LINES else ""
    return f"takedown list: no clip for {'; '.join(lines[:_LINES])}{more}\n" if lines else ""
