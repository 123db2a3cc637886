"""A training run from the driver's side: whose run it is, its workers under Ray Train, its end.

Ray is connected already. Workers are restarted by Ray Train when one dies; when the driver dies, the same command goes
on under the same `run.name`.
"""

import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import ray
import ray.train as ray_train
from ray.train.torch import TorchTrainer

from pipelines.curation.catalog import Catalog
from pipelines.progress import shown
from pipelines.tracking import Run, resolve_tracking, start_run
from pipelines.training.board import Standing, follow, make_board, read
from pipelines.training.checkpoint import find_newest, read_facts
from pipelines.training.config import TrainConfig
from pipelines.training.initial import check_initial
from pipelines.training.job import Job
from pipelines.training.record import RunRecord, find_record, run_folder, write_record

STOPPED = 128 + 15
"""Exit status of a job that SIGTERM has stopped."""


class TrainingAbortedError(RuntimeError):
    """A run that ended itself: to go on from its newest checkpoint would lead to the same end."""


class TrainResult(NamedTuple):
    """What a run has come to."""

    first_step: int
    """Steps done before this start; 0 for a new run."""
    last_step: int
    first_loss: float | None
    """Of the first step of this start; None where nothing was left to do."""
    last_loss: float | None
    model: Path
    """Averaged weights, for `jobs/generate.py checkpoint=`."""


def train(config: TrainConfig, git_sha: str, stop: threading.Event) -> TrainResult:
    """Start the run of this name, or go on with it, to its last step.

    Args:
        config: `TrainConfig`.
        git_sha: Of the code, for tags and checkpoints.
        stop: Set it and the run saves a checkpoint after its current step and ends.

    Raises:
        RunRefusedError: The run's name belongs to a run with another configuration, or `initial_weights` are no start.
        CatalogError: There is no such data set.
        TrainingAbortedError: Gradients stayed non-finite for `max_skipped_steps` steps.
        SystemExit: It was stopped; status 143.
        ray.train.TrainingFailedError: Workers failed more than `max_failures` times.
    """
    config = _absolute(config)
    record = find_record(config)
    if record is None:
        check_initial(config)
    version = record.dataset_version if record and config.dataset_version is None else config.dataset_version
    catalog = Catalog.open(config.dataset, version)
    rows = catalog.kept()
    newest = find_newest(run_folder(config) / "checkpoints")
    first_step = 0 if newest is None else read_facts(newest).step
    _tell(config, catalog.version, len(rows), first_step)
    tags = _tags(config, catalog.version, git_sha)
    params = config.model_dump(mode="json", exclude={"tracking", "ray"})
    with start_run(config.tracking, config.run.name, tags, params, record and record.tracking_run_id) as run:
        write_record(config, RunRecord(run.run_id, catalog.version, config.identity))
        if record is None:
            _log_dataset(run, config, catalog.version, rows)
        # In the configuration it stays as it was given: a submitted job's folder has another name at every change.
        initial = config.initial_weights and _place(config.initial_weights)
        job = Job(config, catalog.version, run.run_id, git_sha, make_board(), initial)
        standing = _fit(job, first_step, stop)
        if standing.failure is not None:
            raise TrainingAbortedError(f"run {config.run.name}: {standing.failure}")
        if standing.is_stopped:
            sys.stderr.write(f"stopped after step {standing.step}; the same command goes on from there\n")
            raise SystemExit(STOPPED)
    last_step = max(first_step, standing.step)
    return TrainResult(first_step, last_step, standing.first_loss, standing.last_loss, run_folder(config) / "model")


def _fit(job: Job, first_step: int, stop: threading.Event) -> Standing:
    config = job.config
    trainer = TorchTrainer(
        _train_worker,  # pyright: ignore[reportArgumentType]  # any one argument is handed on as it is
        train_loop_config=job,  # pyright: ignore[reportArgumentType]
        scaling_config=ray_train.ScalingConfig(
            num_workers=config.workers,
            use_gpu=config.gpus_per_worker > 0,
            resources_per_worker={"CPU": config.cpus_per_worker, "GPU": config.gpus_per_worker},
        ),
        run_config=ray_train.RunConfig(
            name=config.run.name,
            storage_path=config.run.storage,
            failure_config=ray_train.FailureConfig(max_failures=config.max_failures),
        ),
    )
    with shown(lambda: max(first_step, follow(job.board, stop)), "training", config.steps):
        trainer.fit()
    return read(job.board)


def _train_worker(job: Job) -> None:
    """Imported in the worker alone: the driver starts seconds sooner without the model's libraries."""
    from pipelines.training.worker import train_worker

    train_worker(job)


def _absolute(config: TrainConfig) -> TrainConfig:
    """Workers run in other folders: places become absolute here."""
    return config.model_copy(
        update={
            "run": config.run.model_copy(update={"storage": _place(config.run.storage)}),
            "dataset": _place(config.dataset),
            "backbone": _place(config.backbone) if Path(config.backbone).is_dir() else config.backbone,
            "tracking": resolve_tracking(config.tracking),
        }
    )


def _place(path: str) -> str:
    return path if "://" in path else str(Path(path).resolve())


def _tags(config: TrainConfig, version: int, git_sha: str) -> Mapping[str, str]:
    return {
        "job": "train",
        "dataset_version": str(version),
        "config_hash": config.identity_hash,
        "git_sha": git_sha,
        "ray_job_id": ray.get_runtime_context().get_job_id(),
    }


def _tell(config: TrainConfig, version: int, num_clips: int, first_step: int) -> None:
    start = f"goes on from step {first_step}" if first_step else "starts"
    num_held_out = config.validation.held_out_clips
    held_out = f" ({num_held_out} of them held out)" if num_held_out else ""
    sys.stderr.write(
        f"run {config.run.name} {start}: {num_clips} clips{held_out} of version {version} of {config.dataset}, "
        f"{config.workers} worker(s) x {config.micro_batches_per_step} x {config.clips_per_micro_batch} clips a step\n"
    )


def _log_dataset(run: Run, config: TrainConfig, version: int, rows: pa.Table) -> None:
    name = Path(config.dataset).name
    run.log_dataset(name, config.dataset, str(version), digest=f"version-{version}", rows=len(rows))
