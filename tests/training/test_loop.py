"""The loop, with an engine of ten lines and the real model, data and objective."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipelines.curation.catalog import Catalog
from pipelines.training.averaged_adamw import MOMENTS, AveragedAdamW
from pipelines.training.batches import Batch, BatchSource
from pipelines.training.config import InflationSettings, ObjectiveSettings, TaskSettings, ValidationConfig
from pipelines.training.engine import Engine, Outcome
from pipelines.training.learner import Learner, Model, build_model
from pipelines.training.loop import Plan, SkippedStepsError, StepReport, train
from pipelines.training.order import SampleOrder, Share
from pipelines.training.reader import ClipReader
from pipelines.training.state import TrainingState, fresh_state
from pipelines.training.validation import sample_sheet
from stunet.inflate import temporal_parameters

CPU = torch.device("cpu")


class PlainEngine:
    """The `Engine` protocol on torch alone."""

    def __init__(self, module: nn.Module, trainable: dict[str, nn.Parameter], state: TrainingState) -> None:
        self.module, self.trainable = module, trainable
        self.optimizer = AveragedAdamW(trainable.values(), weight_decay=0.01, ema_decay=0.9)
        for name, parameter in trainable.items():
            parameter.data.copy_(state.tensors[f"w.{name}"])
            if state.applied_steps:
                moments = {ours: state.tensors[f"{kind}.{name}"].clone() for kind, ours in MOMENTS.items()}
                self.optimizer.state[parameter] = {"step": torch.tensor(float(state.applied_steps)), **moments}

    def __call__(self, video_BCTHW: Tensor, timestep_B: Tensor, text_BLD: Tensor, **others: Any) -> Tensor:
        return self.module(video_BCTHW, timestep_B, text_BLD, **others)

    def backward(self, loss: Tensor) -> None:
        (loss / 2).backward()

    def step(self, lr: float) -> Outcome:
        self.optimizer.param_groups[0]["lr"] = lr
        norm = float(nn.utils.clip_grad_norm_(self.trainable.values(), 1.0))
        is_finite = norm < float("inf")
        if is_finite:
            self.optimizer.step()
        self.optimizer.zero_grad()
        return Outcome(is_finite, norm)

    def state(self, applied_steps: int) -> TrainingState:
        tensors = {}
        for name, parameter in self.trainable.items():
            tensors[f"w.{name}"] = parameter.detach().clone()
            tensors |= {f"{k}.{name}": self.optimizer.state[parameter][v].clone() for k, v in MOMENTS.items()}
        return TrainingState(tensors, applied_steps)


class Listener:
    """The `Outside` protocol: keeps what it is told."""

    def __init__(self, stop_after: int = 10**9) -> None:
        self.reports: list[StepReport] = []
        self.stop_after = stop_after

    def is_stop_asked(self) -> bool:
        return len(self.reports) + 1 >= self.stop_after

    def mean(self, values: list[float]) -> list[float]:
        return values

    def after_step(self, report: StepReport) -> None:
        self.reports.append(report)

    def now_s(self) -> float:
        return time.perf_counter()

    @property
    def losses(self) -> list[float]:
        return [report.loss for report in self.reports]


@pytest.fixture
def reader(dataset: Path) -> ClipReader:
    return ClipReader(str(dataset), Catalog.open(dataset).kept())


@pytest.fixture
def model(backbone: Path) -> Model:
    return build_model(str(backbone), InflationSettings(temporal_factor=2, attention_layers=1), CPU)


def plan(first: int, last: int) -> Plan:
    return Plan(first, 4 * first, last, clips_per_step=4, lr=3e-3, warmup_steps=2, max_skipped_steps=2)


def run(model: Model, reader: ClipReader, state: TrainingState, at: Plan, listener: Listener) -> PlainEngine:
    engine = PlainEngine(model.stunet, temporal_parameters(model.stunet), state)
    learner = Learner(model, ObjectiveSettings(), TaskSettings(), seed=5, device=CPU)
    share = Share(clips_per_step=4, clips_per_micro_batch=2, rank=0, workers=1)
    with BatchSource(reader, SampleOrder(len(reader), 5, 0), share, 2, 2, time.perf_counter) as source:
        train(engine, source, learner.sample_losses, at, listener)
    return engine


def test_going_on_from_a_saved_state_gives_the_same_losses_and_weights(
    model: Model, backbone: Path, reader: ClipReader
) -> None:
    whole, first, rest = Listener(), Listener(), Listener()
    start = fresh_state(temporal_parameters(model.stunet))
    uninterrupted = run(model, reader, start, plan(0, 6), whole).state(6)
    half = run(model, reader, start, plan(0, 3), first).state(3)
    fresh = build_model(str(backbone), InflationSettings(temporal_factor=2, attention_layers=1), CPU)
    resumed = run(fresh, reader, half, plan(3, 6), rest).state(6)
    assert first.losses + rest.losses == whole.losses
    assert all(torch.equal(resumed.tensors[name], tensor) for name, tensor in uninterrupted.tensors.items())
    assert [report.step for report in rest.reports] == [4, 5, 6]
    assert [report.is_last for report in rest.reports] == [False, False, True]


def test_a_step_reports_loss_rate_norm_time_and_stall(model: Model, reader: ClipReader) -> None:
    listener = Listener()
    run(model, reader, fresh_state(temporal_parameters(model.stunet)), plan(0, 3), listener)
    assert [report.lr for report in listener.reports] == pytest.approx([1.5e-3, 3e-3, 3e-3])
    for report in listener.reports:
        assert report.loss > 0
        assert report.grad_norm > 0
        assert report.step_time_s > 0
        assert 0 <= report.loader_stall_fraction < 1


def test_it_stops_after_the_step_in_which_it_was_asked_to(model: Model, reader: ClipReader) -> None:
    listener = Listener(stop_after=2)
    run(model, reader, fresh_state(temporal_parameters(model.stunet)), plan(0, 6), listener)
    assert [(report.step, report.is_last) for report in listener.reports] == [(1, False), (2, True)]


def test_non_finite_gradients_are_counted_and_end_the_run_after_so_many_in_a_row(
    model: Model, reader: ClipReader
) -> None:
    def infinite(engine: Engine, batch: Batch) -> Tensor:
        learner = Learner(model, ObjectiveSettings(), TaskSettings(), seed=5, device=CPU)
        return learner.sample_losses(engine, batch) * (float("inf") if batch.samples.start >= 4 else 1.0)

    trainable, listener = temporal_parameters(model.stunet), Listener()
    engine = PlainEngine(model.stunet, trainable, fresh_state(trainable))
    share = Share(clips_per_step=4, clips_per_micro_batch=2, rank=0, workers=1)
    with (
        BatchSource(reader, SampleOrder(len(reader), 5, 0), share, 2, 2, time.perf_counter) as source,
        pytest.raises(SkippedStepsError, match="step 3: gradients not finite 2 steps in a row"),
    ):
        train(engine, source, infinite, plan(0, 9), listener)
    assert [report.skipped_steps for report in listener.reports] == [0, 1, 2]
    assert all(bool(parameter.isfinite().all()) for parameter in trainable.values())


def test_the_loss_of_a_sample_does_not_depend_on_its_micro_batch(model: Model, reader: ClipReader) -> None:
    learner = Learner(model, ObjectiveSettings(), TaskSettings(), seed=5, device=CPU)
    order = SampleOrder(len(reader), 5, 0)

    def losses(clips_per_micro_batch: int) -> Tensor:
        share = Share(4, clips_per_micro_batch, rank=0, workers=1)
        with BatchSource(reader, order, share, 1, 1, time.perf_counter) as source, torch.no_grad():
            return torch.cat([learner.sample_losses(model.stunet, batch) for batch in next(source.steps(0, 1))])

    torch.testing.assert_close(losses(4), losses(1), rtol=1e-5, atol=1e-6)


def test_a_conditioned_model_learns_tasks_that_are_drawn_and_what_is_known_lowers_its_loss(
    backbone: Path, reader: ClipReader
) -> None:
    """The model copies C into its prediction where M says so, after a few steps; and the draw is the sample's own."""
    inflation = InflationSettings(temporal_factor=2, attention_layers=1, is_conditioned=True)
    model = build_model(str(backbone), inflation, CPU)
    tasks = TaskSettings(text_to_video=0, inpainting=1, image_to_video=1, dropout=0)
    learner = Learner(model, ObjectiveSettings(), tasks, seed=5, device=CPU)
    video, timestep, text, others = learner.example(2, 4, 16)
    assert video.shape == (2, 7, 4, 16, 16)
    assert not others
    trainable = temporal_parameters(model.stunet)
    assert model.stunet(video, timestep, text).shape == (2, 3, 4, 16, 16)
    before = trainable["unet.conv_in.known.weight"].detach().clone()
    order = SampleOrder(len(reader), 5, 0)
    engine = PlainEngine(model.stunet, trainable, fresh_state(trainable))
    share = Share(clips_per_step=4, clips_per_micro_batch=2, rank=0, workers=1)
    with BatchSource(reader, order, share, 1, 1, time.perf_counter) as source:
        first = next(source.steps(0, 1))
        with torch.no_grad():
            alone = [learner.sample_losses(model.stunet, batch) for batch in first]
            again = [learner.sample_losses(model.stunet, batch) for batch in first]
        train(engine, source, learner.sample_losses, plan(0, 3), Listener())
    assert all(torch.equal(one, other) for one, other in zip(alone, again, strict=True))
    assert not torch.equal(trainable["unet.conv_in.known.weight"], before)


def test_a_step_on_two_text_encoders_trains_temporal_layers_alone_and_a_dropped_caption_is_zeros(
    sdxl: Path, reader: ClipReader
) -> None:
    model = build_model(str(sdxl), InflationSettings(temporal_factor=2, attention_layers=1), CPU)
    trainable, asked = temporal_parameters(model.stunet), list[tuple[Tensor, dict[str, Tensor]]]()

    class Recording(PlainEngine):
        def __call__(self, video_BCTHW: Tensor, timestep_B: Tensor, text_BLD: Tensor, **others: Any) -> Tensor:
            asked.append((text_BLD, others["added_cond_kwargs"]))
            return super().__call__(video_BCTHW, timestep_B, text_BLD, **others)

    engine = Recording(model.stunet, trainable, fresh_state(trainable))
    share = Share(clips_per_step=4, clips_per_micro_batch=2, rank=0, workers=1)
    with BatchSource(reader, SampleOrder(len(reader), 5, 0), share, 1, 1, time.perf_counter) as source:
        batch = next(iter(next(source.steps(0, 1))))
    for dropout in (0.0, 1.0):
        learner = Learner(model, ObjectiveSettings(text_dropout=dropout), TaskSettings(), seed=5, device=CPU)
        loss = learner.sample_losses(engine, batch).mean()
        assert loss.isfinite()
        engine.backward(loss)
    assert all(value.grad is not None and value.grad.isfinite().all() for value in trainable.values())
    assert any(bool(value.grad.any()) for value in trainable.values() if value.grad is not None)
    frozen = [value for name, value in model.stunet.named_parameters() if name not in trainable]
    assert all(value.grad is None for value in [*frozen, *model.backbone.text_encoder.parameters()])
    assert engine.step(1e-3).is_applied

    (text, added), (null_text, null_added) = asked
    assert text.any()
    assert added["text_embeds"].any()
    assert not null_text.any()
    assert not null_added["text_embeds"].any()
    assert added["time_ids"].tolist() == null_added["time_ids"].tolist() == [[16, 16, 0, 0, 16, 16]] * 2
    example = learner.example(2, 4, 16)
    assert example.text_BLD.shape == text.shape
    assert example.others["added_cond_kwargs"]["time_ids"].shape == (2, 6)
    assert learner.fixed_losses(batch).isfinite().all()
    sheet = sample_sheet(model, ValidationConfig(sampler_steps=1), ["a red star"], reader.geometry, 1.0)
    assert sheet.std() > 0
