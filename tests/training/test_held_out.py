"""Held-out loss says the same of the same weights, whenever and however it is measured."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.curation.catalog import Catalog
from pipelines.pixels import to_unit
from pipelines.training.config import InflationSettings, ObjectiveSettings, TaskSettings
from pipelines.training.held_out import held_out_losses, split
from pipelines.training.learner import Learner, build_model
from pipelines.training.reader import ClipReader, DatasetError
from stunet.objective import fixed_draw

CPU = torch.device("cpu")


@pytest.fixture
def held_out(dataset: Path) -> ClipReader:
    _, rows = split(Catalog.open(dataset).kept(), 3)
    return ClipReader(str(dataset), rows)


def learner(backbone: Path, seed: int = 5, objective: ObjectiveSettings | None = None, **inflation: bool) -> Learner:
    settings = InflationSettings(temporal_factor=2, attention_layers=1, **inflation)
    model = build_model(str(backbone), settings, CPU)
    return Learner(model, objective or ObjectiveSettings(), TaskSettings(), seed, CPU)


def test_no_clip_is_both_trained_on_and_held_out(dataset: Path) -> None:
    rows = Catalog.open(dataset).kept()
    training, held_out = split(rows, 4)
    keys = held_out["key"].to_pylist()
    assert len(keys) == 4
    assert sorted([*keys, *training["key"].to_pylist()]) == rows["key"].to_pylist()
    assert len(split(rows, 0)[1]) == 0


def test_a_data_set_that_would_be_held_out_whole_is_refused(dataset: Path) -> None:
    rows = Catalog.open(dataset).kept()
    with pytest.raises(DatasetError, match=f"held_out_clips: fewer than the {len(rows)} kept clips .* given 99"):
        split(rows, 99)


def test_it_depends_on_the_weights_alone(backbone: Path, held_out: ClipReader) -> None:
    first = held_out_losses(learner(backbone), held_out, clips_at_once=3)
    other = ObjectiveSettings(timestep_shift=2.0, min_snr_gamma=None, text_dropout=0.5)
    again = held_out_losses(learner(backbone, seed=6, objective=other), held_out, clips_at_once=2)
    assert first == pytest.approx(again, rel=1e-4)
    assert list(first) == ["held_out_loss", *(f"held_out_loss_q{tenth}0" for tenth in range(1, 10))]
    assert np.mean([first[name] for name in first if "_q" in name]) == pytest.approx(first["held_out_loss"])


def test_it_is_the_error_of_the_prediction_at_that_timestep(backbone: Path, held_out: ClipReader) -> None:
    model = build_model(str(backbone), InflationSettings(temporal_factor=2, attention_layers=1), CPU)
    errors: list[float] = []
    for index in range(len(held_out)):
        clip = held_out.read(index)
        video = to_unit(clip.frames_THWC).permute(3, 0, 1, 2)[None]
        noise = fixed_draw([index], (3, *video.shape[2:]), 900).noise_BCTHW
        alpha = model.backbone.scheduler.alphas_cumprod[900]
        with torch.no_grad():
            text = model.backbone.text_encoder.encode([clip.caption]).hidden_BLD
            guess = model.stunet(alpha.sqrt() * video + (1 - alpha).sqrt() * noise, torch.tensor([900]), text)
        velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * video
        errors.append(float((guess - velocity).square().mean()))
    found = held_out_losses(learner(backbone), held_out, clips_at_once=2)["held_out_loss_q90"]
    assert model.backbone.scheduler.config["prediction_type"] == "v_prediction"
    assert found == pytest.approx(np.mean(errors), rel=1e-4)


def test_a_conditioned_model_is_measured_as_text_to_video(backbone: Path, held_out: ClipReader) -> None:
    plain = held_out_losses(learner(backbone), held_out, clips_at_once=3)
    assert held_out_losses(learner(backbone, is_conditioned=True), held_out, 3) == pytest.approx(plain, rel=1e-4)
