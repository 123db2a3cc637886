"""The training function of each Ray Train worker: build, go on from the newest checkpoint, train.

It is started anew, on all workers, when one of them has died; everything it needs to go on lies in the run's folder.
"""

import time
from contextlib import nullcontext
from pathlib import Path

import ray.train
import ray.train.torch
import torch
import torch.distributed as dist

from pipelines.curation.catalog import Catalog
from pipelines.training.acceleration import accelerate
from pipelines.training.batches import BatchSource
from pipelines.training.checkpoint import find_newest, folder_of, load_checkpoint, read_facts
from pipelines.training.config import TrainConfig
from pipelines.training.engine import DeepSpeedEngine, EngineSettings
from pipelines.training.held_out import split
from pipelines.training.job import Job
from pipelines.training.learner import Learner, Model, build_model
from pipelines.training.loop import Plan, SkippedStepsError, train
from pipelines.training.order import SampleOrder, Share
from pipelines.training.reader import ClipReader
from pipelines.training.record import run_folder
from pipelines.training.reporting import Lead, Reporter
from pipelines.training.state import TrainingState, fresh_state
from stunet import weights
from stunet.inflate import temporal_parameters


class ResumeError(ValueError):
    """A checkpoint that does not belong to what is configured; the message says why."""


def train_worker(job: Job) -> None:
    """Train as worker `rank` of `workers`, from the newest checkpoint to the last step."""
    config, context = job.config, ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    device = ray.train.torch.get_device()
    torch.set_num_threads(config.cpus_per_worker)

    rows = Catalog.open(config.dataset, job.dataset_version).kept()
    training_rows, held_out_rows = split(rows, config.validation.held_out_clips)
    reader = ClipReader(config.dataset, training_rows)
    held_out = ClipReader(config.dataset, held_out_rows) if len(held_out_rows) else None
    order = SampleOrder(len(reader), config.seed, job.dataset_version)
    model = build_model(config.backbone, config.inflation, device)
    accelerate(model.stunet, config)
    learner = Learner(model, config.objective, config.tasks, config.seed, device, config.upscaling)
    first_step, first_sample, state = _starting_point(job, model, device)
    engine = DeepSpeedEngine(
        model.stunet,
        temporal_parameters(model.stunet),
        _engine_settings(config),
        state,
        learner.example(config.clips_per_micro_batch, reader.geometry.num_frames, reader.geometry.size_px),
    )
    plan = Plan(
        first_step=first_step,
        first_sample=first_sample,
        last_step=config.steps,
        clips_per_step=config.clips_per_step,
        lr=config.lr,
        warmup_steps=config.warmup_steps,
        max_skipped_steps=config.max_skipped_steps,
    )
    share = Share(config.clips_per_step, config.clips_per_micro_batch, rank, workers)
    with (
        BatchSource(
            reader, order, share, config.loader_threads, config.prefetch_micro_batches, time.perf_counter
        ) as source,
        Lead(job, model, reader, held_out, device) if rank == 0 else nullcontext() as lead,
    ):
        try:
            train(engine, source, learner.sample_losses, plan, Reporter(engine, lead, job, device))
        except SkippedStepsError as error:
            # All workers are here. Raised, Ray Train would start them anew, up to `max_failures` times, on the same
            # samples with the same noise.
            if lead is not None:
                lead.tell_failed(str(error))


def newest_of_all(checkpoints: Path, device: torch.device) -> Path | None:
    """The checkpoint that all workers go on from: the one that worker 0 finds. To be called by all.

    Each for itself might find another one, where a network file system tells a worker late of a new folder; they would
    train on, at different steps, without a word.
    """
    newest = find_newest(checkpoints) if dist.get_rank() == 0 else None
    step = torch.tensor(-1 if newest is None else read_facts(newest).step, device=device)
    dist.broadcast(step, src=0)
    return None if step < 0 else folder_of(checkpoints, int(step))


def _starting_point(job: Job, model: Model, device: torch.device) -> tuple[int, int, TrainingState]:
    """Steps done, samples consumed, and the state."""
    trainable = temporal_parameters(model.stunet)
    folder = newest_of_all(run_folder(job.config) / "checkpoints", device)
    if folder is None:
        if job.initial_weights is not None:
            weights.load(model.stunet, weights.find(job.initial_weights), model.backbone.digest, model.backbone.name)
        return 0, 0, fresh_state(trainable)
    checkpoint = load_checkpoint(folder)
    _check_belongs(folder, checkpoint.facts.backbone_digest, model)
    checkpoint.state.check_names(trainable, str(folder))
    return checkpoint.facts.step, checkpoint.facts.samples, checkpoint.state


def _check_belongs(folder: Path, digest: str, model: Model) -> None:
    if digest != model.backbone.digest:
        raise ResumeError(
            f"{folder}: trained on a backbone of digest {digest}, that of {model.backbone.name} is "
            f"{model.backbone.digest}; name the old one in `backbone` or give the run another name"
        )


def _engine_settings(config: TrainConfig) -> EngineSettings:
    return EngineSettings(
        zero_stage=config.zero_stage,
        precision=config.precision,
        clips_per_micro_batch=config.clips_per_micro_batch,
        micro_batches_per_step=config.micro_batches_per_step,
        gradient_clipping=config.gradient_clipping,
        weight_decay=config.weight_decay,
        ema_decay=config.ema_decay,
    )
