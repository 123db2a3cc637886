"""What the loop tells, and where it goes: MLflow, the driver's board, checkpoints, validation videos.

Worker 0 writes; the others take part where tensors or figures are gathered.
"""

import time
from collections.abc import Mapping
from functools import cached_property
from typing import Self

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

from pipelines.tracking import attach
from pipelines.training.batches import read_batch
from pipelines.training.board import BoardWriter
from pipelines.training.checkpoint import Facts, prune, write_checkpoint
from pipelines.training.engine import DeepSpeedEngine
from pipelines.training.held_out import held_out_losses
from pipelines.training.job import Job
from pipelines.training.learner import Learner, Model, build_model
from pipelines.training.loop import StepReport
from pipelines.training.reader import ClipReader
from pipelines.training.record import run_folder
from pipelines.training.state import TrainingState
from pipelines.training.validation import fill_weights, sample_sheet, upscaled_sheet
from stunet import weights


class Reporter:
    """`loop.Outside` on a Ray Train worker.

    Args:
        engine: Gathered from, by all workers, for checkpoints and validation.
        lead: What worker 0 does with it; None on the others.
        job: The run.
        device: Of tensors that are reduced over workers.
    """

    def __init__(self, engine: DeepSpeedEngine, lead: "Lead | None", job: Job, device: torch.device) -> None:
        self._engine, self._lead, self._config, self._device = engine, lead, job.config, device

    def is_stop_asked(self) -> bool:
        """See `loop.Outside`."""
        return self._lead is not None and self._lead.is_stop_asked()

    def mean(self, values: list[float]) -> list[float]:
        """See `loop.Outside`."""
        total = torch.tensor(values, dtype=torch.float64, device=self._device)
        dist.all_reduce(total)
        return (total / dist.get_world_size()).tolist()

    def now_s(self) -> float:
        """See `loop.Outside`."""
        return time.perf_counter()

    def after_step(self, report: StepReport) -> None:
        """See `loop.Outside`."""
        config, is_end = self._config, report.step == self._config.steps
        is_saved = report.is_last or report.step % config.checkpoint_every_steps == 0
        every_steps = config.validation.every_steps
        is_shown = every_steps > 0 and (is_end or report.step % every_steps == 0)
        tensors = self._engine.gather() if is_saved else self._engine.gather(["ema"]) if is_shown else {}
        if self._lead is None:
            return
        self._lead.log(report)
        if is_saved:
            self._lead.save(report, TrainingState(tensors, self._engine.applied_steps))
        if is_shown:
            self._lead.show(report.step, tensors)
        if report.is_last and not is_end:
            self._lead.tell_stopped()


class Lead:
    """What worker 0 alone does. Use it as a context: leaving it waits for the tracker."""

    def __init__(
        self, job: Job, model: Model, reader: ClipReader, held_out: ClipReader | None, device: torch.device
    ) -> None:
        self._job, self._config, self._model, self._device = job, job.config, model, device
        self._reader, self._held_out = reader, held_out
        self._folder = run_folder(job.config)
        self._board = BoardWriter(job.board)
        self._run = attach(job.config.tracking, job.tracking_run_id)
        self._last_logged = self._run.last_step("loss") or 0
        self._last_measured = self._run.last_step("held_out_loss") or 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._run.close()

    @cached_property
    def _averaged(self) -> Model:
        """A second model, for averaged weights: under ZeRO-3 the trained one is in pieces."""
        return build_model(self._config.backbone, self._config.inflation, self._device)

    def is_stop_asked(self) -> bool:
        """Whether the driver wants the run to stop."""
        return self._board.is_stop_asked()

    def tell_stopped(self) -> None:
        """Let the driver know that the run has stopped."""
        self._board.tell_stopped()

    def tell_failed(self, why: str) -> None:
        """Let the driver know that the run has ended, and need not be tried again."""
        self._board.tell_failed(why)

    def log(self, report: StepReport) -> None:
        """Tell the driver, and the tracker unless it was told this step before a restart."""
        self._board.tell(report.step, report.loss)
        if report.step <= self._last_logged:
            return
        metrics = {
            "loss": report.loss,
            "lr": report.lr,
            "grad_norm": report.grad_norm,
            "step_time_s": report.step_time_s,
            "samples_per_s": self._config.clips_per_step / report.step_time_s,
            "loader_stall_fraction": report.loader_stall_fraction,
            "skipped_steps": report.skipped_steps,
        }
        self._run.log_metrics(metrics, report.step)

    def save(self, report: StepReport, state: TrainingState) -> None:
        """Write `model/`, then the checkpoint: a complete checkpoint has a model at least as new."""
        config, geometry, model = self._config, self._reader.geometry, self._model
        facts = Facts(
            step=report.step,
            samples=report.samples,
            applied_steps=state.applied_steps,
            seed=config.seed,
            dataset_version=self._job.dataset_version,
            backbone_digest=model.backbone.digest,
            config_hash=config.identity_hash,
            git_sha=self._job.git_sha,
        )
        made_of = {"dataset_version": facts.dataset_version, "config_hash": facts.config_hash}
        extra = {"run": config.run.name, "step": report.step, **geometry._asdict(), **made_of}
        if config.upscaling.low_size_px is not None:
            extra["low_size_px"] = config.upscaling.low_size_px
        weights.save(
            model.stunet,
            self._folder / "model",
            model.backbone.name,
            model.backbone.digest,
            extra,
            values=state.of_kind("ema"),
            schedule=model.backbone.schedule,
        )
        write_checkpoint(self._folder / "checkpoints", state, facts)
        prune(self._folder / "checkpoints", config.keep_checkpoints)

    def show(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Log held-out losses, and a contact sheet of samples."""
        config, averaged = self._config, self._averaged
        fill_weights(averaged, TrainingState(tensors, 0).of_kind("ema"))
        if self._held_out is not None and step > self._last_measured:
            learner = Learner(averaged, config.objective, config.tasks, config.seed, self._device, config.upscaling)
            losses = held_out_losses(learner, self._held_out, config.clips_per_micro_batch)
            self._run.log_metrics(losses, step)
        self._run.log_image("samples", self._sheet(averaged), step)

    def _sheet(self, averaged: Model) -> NDArray[np.uint8]:
        """Videos of the validation prompts; of an upscaler, the first clips scaled down and enlarged again."""
        config, reader = self._config, self._held_out or self._reader
        if config.upscaling.low_size_px is not None:
            shown = range(min(len(reader), config.validation.num_clips))
            return upscaled_sheet(averaged, config, read_batch(reader, shown, shown))
        captions = list(dict.fromkeys(reader.caption(index) for index in range(len(reader))))
        prompts = config.validation.prompts or tuple(captions[: config.validation.num_clips])
        shift = config.objective.timestep_shift
        return sample_sheet(averaged, config.validation, prompts, reader.geometry, shift)
