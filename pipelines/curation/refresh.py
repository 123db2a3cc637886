"""The wiring of curation: manifest -> plan -> slices -> selection -> shards -> catalog -> report.

What needs decoding is scored and stored in slices; then, for new scores and stored ones alike, thresholds give verdicts
and bytes are copied into shards. A refresh holds the data set's lease from its plan to its end.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb

from pipelines.curation.align import located
from pipelines.curation.baseline import with_baseline
from pipelines.curation.catalog import Catalog, open_if_there
from pipelines.curation.commits import commit
from pipelines.curation.completion import Completion, commit_message, summarised
from pipelines.curation.config import Recipe, RefreshConfig
from pipelines.curation.cutting import record_places, shard_jobs
from pipelines.curation.layout import refreshes_path
from pipelines.curation.lease import Holder, Lease, leased
from pipelines.curation.manifest import RejectedRow
from pipelines.curation.plan import Plan, due, make_plan, work_name
from pipelines.curation.removal import collect_leaving, scrub_slices
from pipelines.curation.selection import collect, select
from pipelines.curation.slices import forget_plans, unfinished_works, write_plan
from pipelines.curation.summary import Deeds, RefreshSummary
from pipelines.curation.takedown import unmatched_lines
from pipelines.curation.tasks import BY_RAY, HERE, Tasks, decode_slices
from pipelines.curation.vacuum import vacuum
from pipelines.curation.work import add_scored, adopt, make_scored, record_limits
from pipelines.curation.workbench import count, workbench
from pipelines.progress import track
from pipelines.storage import absolute, joined, write_whole

Cluster = Callable[[], AbstractContextManager[None]]

_SMALL_COPY_BYTES = 4 * 1024**3  # what this process copies itself, rather than start a cluster for it
_UPSERTS = """
create view upserts as
select judged.* exclude (position) replace (placed.shard as shard, placed.offset as "offset", placed.bytes as bytes,
    placed.txt_offset as txt_offset, placed.txt_bytes as txt_bytes, placed.json_offset as json_offset,
    placed.json_bytes as json_bytes)
from judged left join placed on judged.key = placed.key and judged.verdict = 'kept'
union all by name from moved
union all by name from leaving
"""


@dataclass(frozen=True)
class _Run:
    """One refresh while it runs."""

    config: RefreshConfig
    dataset: str
    refresh_id: str
    start: datetime
    num_rejected_rows: int
    database: duckdb.DuckDBPyConnection
    lease: Lease
    cluster: Cluster
    tasks: Tasks
    now: Callable[[], datetime]
    completion: Completion


@dataclass(frozen=True)
class _Made:
    """What went into a version that is about to be committed."""

    decoded: int
    decoding_s: float
    num_taken_down: int
    """Clips that the takedown list removes by their key."""
    recipe: Recipe
    """As it was applied: with the threshold of alignment that wrong captions gave."""


@dataclass(frozen=True)
class _Outcome:
    """What carrying a plan out came to."""

    catalog: Catalog
    deeds: Deeds
    run_id: str | None


def refresh(
    config: RefreshConfig,
    cluster: Cluster,
    now: Callable[[], datetime],
    holder: Holder | None = None,
    tasks: Tasks = BY_RAY,
) -> RefreshSummary:
    """Bring a data set up to date with its manifest; the first refresh makes it.

    Args:
        config: What, from where, to where.
        cluster: Connects to Ray; entered only when there are clips to decode or much to copy.
        now: The time, with its zone: names the refresh, measures it, and decides about leases and old versions.
        holder: Who refreshes; None where nobody else can.
        tasks: Who does the work.

    Raises:
        ManifestError, TakedownError: The manifest or the takedown list cannot be used.
        SourcesUnseenError: Too many sources cannot be seen.
        AlignmentModelError, BaselineError: The alignment model cannot be found, or too few clips set its threshold.
        LeaseHeldError, LeaseLostError: Somebody else writes the data set.
        VerdictSumError, CommitConflictError: Nothing was committed.
        OSError: Something cannot be read or written; what is done so far is found by the next refresh.
    """
    start = now()
    refresh_id, dataset = start.strftime("%Y%m%dT%H%M%S.%f"), absolute(config.dataset)
    holder = holder or Holder(f"refresh {refresh_id}")
    rejected: list[RejectedRow] = []
    with leased(dataset, holder, config.lease_s, now) as lease, workbench() as database:
        catalog = open_if_there(dataset)
        completion = Completion(dataset, config, database, tasks.report)
        if catalog is not None:
            completion.complete_late(catalog)
        plan = make_plan(database, config, catalog, rejected.append if config.on_bad_row == "reject" else None)
        _tell_rejected(dataset, refresh_id, rejected)
        run = _Run(config, dataset, refresh_id, start, len(rejected), database, lease, cluster, tasks, now, completion)
        outcome = _outcome(run, plan, catalog)
        forget_plans(dataset, unfinished_works(dataset))
        if config.vacuum_older_than_days is not None:
            vacuum(dataset, timedelta(days=config.vacuum_older_than_days), now())
        summary = summarised(outcome.deeds, outcome.catalog, (now() - start).total_seconds(), outcome.run_id)
        completion.record(summary)
    return summary


def _outcome(run: _Run, plan: Plan, catalog: Catalog | None) -> _Outcome:
    if not plan.is_empty:
        return _tracked(run, plan, catalog)
    assert catalog is not None, "a manifest has a clip, so the first plan is not empty"
    return _Outcome(catalog, _deeds(run, plan, None, plan.unmatched_takedowns), None)


def _tracked(run: _Run, plan: Plan, catalog: Catalog | None) -> _Outcome:
    """Carry a plan out, in a run of the tracker."""
    from pipelines.tracking import start_run

    config, database, completion = run.config, run.database, run.completion
    tags = {"job": "refresh", "dataset": run.dataset}
    with start_run(config.tracking, f"refresh {completion.name}", tags, config.model_dump()) as tracked:
        made = _scored_and_cut(run, plan, catalog)
        collect_leaving(database, run.refresh_id)
        database.execute(_UPSERTS)
        unmatched = unmatched_lines(database, is_judged=True) if plan.unmatched_takedowns else ()
        deeds = _deeds(run, plan, made, unmatched)
        run.lease.check()
        message = commit_message(deeds, made.recipe, run.start)
        after = commit(database, run.dataset, catalog, plan.num_expected - made.num_taken_down, message)
        completion.report(tracked, after, catalog)
    return _Outcome(after, deeds, tracked.run_id)


def _scored_and_cut(run: _Run, plan: Plan, catalog: Catalog | None) -> _Made:
    """Decode what is due, judge, copy."""
    config, database = run.config, run.database
    make_scored(database)
    if plan.num_due:
        adopt(database, run.dataset, config.scoring_hash, is_aligned=config.align.model is not None)
    num_left = plan.num_due - count(database, "scored")
    if num_left:
        located(config.align)  # told before a cluster is started
    with run.cluster() if num_left else nullcontext():
        start = run.now()
        decoded = _decode(run, catalog) if num_left else 0
        decoding_s = (run.now() - start).total_seconds()
        about = {"num_frames": config.frames, "fps": config.fps, "size_px": config.size_px}
        hashes = {"scoring_hash": config.scoring_hash, "config_hash": config.config_hash}
        collect(database, {**about, **hashes, "refresh_id": run.refresh_id})
        record_limits(database, config.limits)
        recipe = with_baseline(database, config.recipe)
        num_taken_down = select(database, recipe)
        scrub_slices(database, run.dataset)
        _cut(run, is_in_cluster=bool(num_left))
    return _Made(decoded, decoding_s, num_taken_down, recipe)


def _decode(run: _Run, catalog: Catalog | None) -> int:
    """Score what is due and nobody has scored yet; returns the number of clips decoded."""
    config = run.config
    work = work_name(run.database, catalog, config)
    num_slices = write_plan(run.dataset, work, due(run.database), config.clips_per_slice)
    decoded = decode_slices(run.tasks, run.dataset, work, num_slices, config)
    add_scored(run.database, run.dataset, work, range(num_slices))
    return decoded


def _cut(run: _Run, is_in_cluster: bool) -> None:
    """Write the shards of all that is kept in `judged`."""
    sizes = "select count(*), coalesce(sum(slice_bytes), 0) from judged where verdict = 'kept'"
    num_samples, num_bytes = run.database.sql(sizes).fetchall()[0]
    num_shards = -(-num_samples // run.config.samples_per_shard)
    jobs = shard_jobs(run.database, run.config.shuffle_seed, run.config.samples_per_shard)
    is_small = not is_in_cluster and num_bytes <= _SMALL_COPY_BYTES
    with nullcontext() if is_in_cluster or is_small else run.cluster():
        copied = (HERE if is_small else run.tasks).copy(jobs, run.dataset)
        record_places(run.database, track(copied, "shards", total=num_shards))


def _tell_rejected(dataset: str, refresh_id: str, rejected: Sequence[RejectedRow]) -> None:
    if rejected:
        lines = "".join(json.dumps(row._asdict()) + "\n" for row in rejected)
        write_whole(joined(refreshes_path(dataset), f"{refresh_id}.rejected.jsonl"), lines.encode())


def _deeds(run: _Run, plan: Plan, made: _Made | None, unmatched_takedowns: Sequence[str]) -> Deeds:
    return Deeds(
        refresh_id=run.refresh_id,
        dataset=run.config.dataset,
        clips=plan.num_clips,
        new=plan.num_new,
        changed=plan.num_changed,
        retried=plan.num_retried,
        rejudged=plan.num_rejudged,
        removed=plan.num_removed,
        taken_down=plan.num_taken_down,
        unchanged=plan.num_unchanged,
        unreachable=plan.num_unreachable,
        rejected_rows=run.num_rejected_rows,
        unmatched_takedowns=list(unmatched_takedowns),
        decoded=made.decoded if made else 0,
        decoding_s=round(made.decoding_s, 3) if made else 0.0,
        align_model=run.config.align.model,
        seconds=round((run.now() - run.start).total_seconds(), 3),
    )
