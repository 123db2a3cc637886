"""What follows a commit: the version's report in the tracker, its list of shards, its record.

All of it is made of what was committed, so that a refresh finds what an earlier one was killed before, and does it
first. The record is written last: where it is, all of it is done.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import duckdb

from pipelines.curation.catalog import Catalog, oldest_version, register_rows
from pipelines.curation.config import Recipe, RefreshConfig
from pipelines.curation.layout import refreshes_path, slices_path, version_path
from pipelines.curation.summary import Deeds, RefreshSummary, Throughput, Version
from pipelines.storage import exists, joined, read_bytes, write_whole

if TYPE_CHECKING:
    from pipelines.tracking import Run

_CLIPS_OF_A_VERDICT = 50
_SHOWN = """
select * from catalog_rows semi join (
    select row_id from catalog_rows where refresh_id = $refresh_id and verdict <> 'removed'
    qualify row_number() over (partition by verdict, slice is null order by row_id) <= $most
) using (row_id) order by row_id
"""


def commit_message(deeds: Deeds, recipe: Recipe, committed_at: datetime) -> dict[str, str]:
    """What is stored with a commit, and all that `Completion` needs beside the rows.

    Args:
        deeds: What the refresh did.
        recipe: As it was applied: with the threshold of alignment that wrong captions gave.
        committed_at: The time, with its zone.
    """
    told = {"deeds": json.dumps(dataclasses.asdict(deeds)), "recipe": recipe.model_dump_json()}
    return {"refresh_id": deeds.refresh_id, "committed_at": committed_at.isoformat(), **told}


@dataclass(frozen=True)
class Completion:
    """Completes versions of one data set."""

    dataset: str
    config: RefreshConfig
    database: duckdb.DuckDBPyConnection
    log_report: Callable[..., None]
    """As `pipelines.curation.tasks.Tasks.report`."""

    @property
    def name(self) -> str:
        """Of the data set, in the tracker."""
        return self.dataset.rsplit("/", 1)[-1]

    def complete_late(self, catalog: Catalog) -> None:
        """Do for the newest version what a refresh that was killed after its commit left undone."""
        from pipelines.tracking import start_run

        message = _message(catalog)
        if message is None:
            return
        deeds = Deeds(**json.loads(message["deeds"]))
        if exists(self._record_file(deeds.refresh_id)):
            return
        is_there = 0 < catalog.version > oldest_version(self.dataset)
        before = Catalog.open(self.dataset, catalog.version - 1) if is_there else None
        tags = {"job": "refresh", "dataset": self.dataset, "completes": deeds.refresh_id}
        with start_run(self.config.tracking, f"refresh {self.name}", tags, {}) as run:
            self.report(run, catalog, before)
        self.record(summarised(deeds, catalog, deeds.seconds, run.run_id))

    def report(self, run: "Run", catalog: Catalog, before: Catalog | None) -> None:
        """Tell the tracker of the newest version: the whole catalog in figures, and a few clips of each verdict.

        Args:
            run: Of the tracker.
            catalog: The version.
            before: The version before, where it can be read.
        """
        message = _message(catalog)
        assert message is not None, "the commit of a refresh has its message"
        deeds, recipe = Deeds(**json.loads(message["deeds"])), Recipe.model_validate_json(message["recipe"])
        run.log_metrics({"decoded": deeds.decoded, "version": catalog.version})
        run.log_made_dataset(self.name, self.dataset, str(catalog.version), _digest(catalog), deeds.clips)
        version = Version(
            dataset=self.name,
            number=catalog.version,
            refresh_id=deeds.refresh_id,
            rows=catalog.dataset(),
            before=None if before is None else before.dataset(),
            counts=catalog.verdicts(),
            throughput=Throughput(deeds.decoded, deeds.decoding_s),
        )
        clips = self._shown(catalog, deeds.refresh_id)
        self.log_report(run, version, clips, partial(_read_mp4, self.dataset), recipe, self.config.sheet_rows)

    def record(self, summary: RefreshSummary) -> None:
        """Name the version's shards, and write down what the refresh did."""
        shards = version_path(self.dataset, summary.version)
        if not exists(shards):
            names = Catalog.open(self.dataset, summary.version).shards()
            write_whole(shards, "".join(f"{name}\n" for name in names).encode())
        record = json.dumps(dataclasses.asdict(summary), indent=2) + "\n"
        write_whole(self._record_file(summary.refresh_id), record.encode())

    def _record_file(self, refresh_id: str) -> str:
        return joined(refreshes_path(self.dataset), f"{refresh_id}.json")

    def _shown(self, catalog: Catalog, refresh_id: str) -> list[dict[str, Any]]:
        register_rows(self.database, catalog)
        asked = {"refresh_id": refresh_id, "most": max(self.config.sheet_rows, _CLIPS_OF_A_VERDICT)}
        return self.database.sql(_SHOWN, params=asked).to_arrow_table().to_pylist()


def summarised(deeds: Deeds, catalog: Catalog, seconds: float, run_id: str | None) -> RefreshSummary:
    """What a refresh did and what came of it.

    Args:
        deeds: What it did.
        catalog: The version that it left.
        seconds: All of its time.
        run_id: In the tracker; None where nothing was committed.
    """
    counts, done = catalog.verdicts(), dataclasses.replace(deeds, seconds=round(seconds, 3))
    told: dict[str, Any] = dataclasses.asdict(done)
    return RefreshSummary(
        **told,
        version=catalog.version,
        kept=counts.get("kept", 0),
        by_verdict=counts,
        clips_per_s=round(deeds.decoded / seconds, 3) if seconds else 0.0,
        run_id=run_id,
    )


def _message(catalog: Catalog) -> Mapping[str, str] | None:
    """Of the commit that made the newest version; None where it was no refresh that committed."""
    (entry,) = catalog.table.history(1)
    return entry if "deeds" in entry else None


def _digest(catalog: Catalog) -> str:
    """32 hex digits of the content: shards are named by what is in them."""
    return hashlib.sha256("\n".join(catalog.shards()).encode()).hexdigest()[:32]


def _read_mp4(dataset: str, row: Mapping[str, Any]) -> bytes:
    path, start = joined(slices_path(dataset), row["slice"]), row["slice_offset"]
    return read_bytes(path, start, start + row["slice_bytes"])
