"""What stands beside the noisy video: for upscalers a noised enlargement of the clip itself, drawn by the sample."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from demo.clips import RenderedClips
from pipelines.training.batches import Batch
from pipelines.training.config import InflationSettings, ObjectiveSettings, TaskSettings, TrainConfig, UpscalingSettings
from pipelines.training.given import BackboneTaskError, Task, make_task
from pipelines.training.learner import Learner, Model, build_model
from pipelines.training.validation import upscaled_sheet
from stunet.inflate import temporal_parameters
from stunet.super_resolution import scaled_down

CPU = torch.device("cpu")
UPSCALING = UpscalingSettings(low_size_px=8, window=8, noise_levels=100)


@pytest.fixture(scope="module")
def upscaler(root: Path) -> Model:
    return build_model(str(root / "demo" / "weights" / "upscaler"), InflationSettings(temporal_factor=2), CPU)


@pytest.fixture(scope="module")
def batch() -> Batch:
    return next(RenderedClips(seed=3, clips_per_step=3, size_px=16).steps(0, 1))[0]


def task(model: Model, upscaling: UpscalingSettings) -> Task:
    return make_task(model.backbone, model.stunet, TaskSettings(), upscaling, CPU)


def learner(model: Model, upscaling: UpscalingSettings = UPSCALING) -> Learner:
    return Learner(model, ObjectiveSettings(), TaskSettings(), seed=5, device=CPU, upscaling=upscaling)


def test_an_upscaler_sees_its_own_clip_scaled_down(upscaler: Model, batch: Batch) -> None:
    noisy, clear = (task(upscaler, UpscalingSettings(low_size_px=8, window=8, noise_levels=n)) for n in (250, 1))
    given, without_noise = noisy.drawn(5, batch), clear.drawn(5, batch)
    assert given.pixels_BCTHW.shape == (3, 3, 8, 16, 16)
    assert given.beside_BKTHW is not None
    assert without_noise.beside_BKTHW is not None
    levels = given.others["class_labels"].tolist()
    assert len(set(levels)) == 3
    assert all(0 <= level < 250 for level in levels)
    assert without_noise.others["class_labels"].tolist() == [0, 0, 0]
    # At level 0 hardly any noise is there: scaled down again it is the small clip, and further from any other clip's.
    seen, small = (scaled_down(video, (8, 8)) for video in (without_noise.beside_BKTHW, without_noise.pixels_BCTHW))
    errors = [[float((one - other).abs().mean()) for other in small] for one in seen]
    assert [int(np.argmin(row)) for row in errors] == [0, 1, 2]
    assert max(errors[i][i] for i in range(3)) < 0.1


def test_a_sample_decides_its_window_level_and_noise_and_nobody_else(upscaler: Model, batch: Batch) -> None:
    own = task(upscaler, UPSCALING)
    last = Batch(batch.video_BCTHW[2:], batch.captions[2:], batch.samples[2:])
    together, alone, other_seed = own.drawn(5, batch), own.drawn(5, last), own.drawn(6, last)
    assert together.beside_BKTHW is not None
    assert alone.beside_BKTHW is not None
    assert torch.equal(together.beside_BKTHW[2:], alone.beside_BKTHW)
    assert torch.equal(together.pixels_BCTHW[2:], alone.pixels_BCTHW)
    assert other_seed.beside_BKTHW is not None
    assert not torch.equal(other_seed.beside_BKTHW, alone.beside_BKTHW)


def test_windows_begin_anywhere_in_a_clip_and_end_in_it(upscaler: Model) -> None:
    numbers = torch.arange(5.0).view(1, 1, 5, 1, 1).expand(40, 3, 5, 16, 16) / 10
    given = task(upscaler, UpscalingSettings(low_size_px=8, window=3)).drawn(0, Batch(numbers, [""] * 40, range(40)))
    starts = (10 * given.pixels_BCTHW[:, 0, :, 0, 0]).round().int().tolist()
    assert {tuple(start) for start in starts} == {(0, 1, 2), (1, 2, 3), (2, 3, 4)}


def test_all_temporal_layers_of_an_upscaler_learn(upscaler: Model, batch: Batch) -> None:
    own = learner(upscaler)
    seen: list[tuple[int, ...]] = []

    def engine(video: Tensor, timestep: Tensor, text: Tensor, **others: Tensor) -> Tensor:
        seen.append(tuple(video.shape))
        return upscaler.stunet(video, timestep, text, **others)

    own.sample_losses(engine, batch).mean().backward()  # pyright: ignore[reportArgumentType]  # its call is all that is used
    assert seen == [(3, 6, 8, 16, 16)]
    projections = {name: value for name, value in temporal_parameters(upscaler.stunet).items() if "projection" in name}
    assert projections
    assert [name for name, value in projections.items() if value.grad is None or not value.grad.any()] == []
    example = own.example(2, 16, 16)
    assert example.video_BCTHW.shape == (2, 6, 8, 16, 16)
    assert own.fixed_losses(batch).shape == (9, 3)


def test_a_backbone_that_cannot_learn_it_is_refused(upscaler: Model, backbone: Path) -> None:
    image_model = build_model(str(backbone), InflationSettings(temporal_factor=2), CPU)
    with pytest.raises(BackboneTaskError, match="U-Net of 6 input channels .*low_size_px is 8, given one of 3"):
        learner(image_model)
    with pytest.raises(BackboneTaskError, match="U-Net of 3 input channels .*low_size_px is None, given one of 6"):
        learner(upscaler, UpscalingSettings())


def test_the_sheet_shows_clips_that_were_scaled_down_and_super_resolved(upscaler: Model, batch: Batch) -> None:
    values = {
        "run": {"name": "x", "storage": "runs"},
        "dataset": "data",
        "steps": 1,
        "upscaling": UPSCALING.model_dump(),
        "validation": {"sampler_steps": 2},
    }
    config = TrainConfig.model_validate(values)
    sheet = upscaled_sheet(upscaler, config, batch)
    assert sheet.ndim == 3
    assert np.array_equal(sheet, upscaled_sheet(upscaler, config, batch))


def test_upscaling_goes_without_what_is_known_of_other_tasks() -> None:
    values = {"run": {"name": "x", "storage": "runs"}, "dataset": "data", "steps": 1}
    with pytest.raises(ValueError, match="low_size_px: null is expected with inflation.is_conditioned=true"):
        TrainConfig.model_validate(values | {"upscaling": {"low_size_px": 8}, "inflation": {"is_conditioned": True}})
