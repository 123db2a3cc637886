"""What the training configuration refuses, and when a run may go on under its name."""

import dataclasses
from pathlib import Path

import pytest
import torch

from pipelines.config import ConfigError, load_config
from pipelines.training.checkpoint import Facts, write_checkpoint
from pipelines.training.config import InflationSettings, TaskSettings, TrainConfig
from pipelines.training.record import RunRecord, RunRefusedError, find_record, write_record
from pipelines.training.state import TrainingState
from stunet.inflate import InflationConfig
from stunet.tasks import TaskConfig


def config(*overrides: str) -> TrainConfig:
    return load_config(TrainConfig, None, ["run.name=r", "run.storage=s", "dataset=d", "steps=10", *overrides])


def test_a_batch_that_the_workers_do_not_divide_is_refused_with_the_numbers() -> None:
    message = "12 is no multiple of clips_per_micro_batch x workers = 4 x 2 = 8"
    with pytest.raises(ConfigError, match=message):
        config("clips_per_step=12", "clips_per_micro_batch=4", "workers=2")
    assert config("clips_per_step=16", "workers=2").micro_batches_per_step == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("zero_stage=4", "zero_stage: .*less than or equal to 3"),
        ("precision=fp16", "precision: .*'fp32' or 'bf16'"),
        ("run.name=a/b", "run.name: String should match pattern"),
        ("inflation.temporal_factor=3", "temporal_factor: a power of two is expected, given 3"),
        ("inflation.conv_frames=2", "conv_frames: an odd number is expected, given 2"),
        ("inflation.layers=2", "inflation.layers: unknown key; known here: temporal_factor"),
        ("lr=fast", "lr: Input should be a valid number"),
        ("run.resume=yes", "run.resume: .*'auto', 'force' or 'never'"),
    ],
)
def test_a_wrong_value_is_refused_by_its_key(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(override)


def test_zero_0_with_bf16_is_refused() -> None:
    with pytest.raises(ConfigError, match="zero_stage: 1 to 3 is expected with precision=bf16, given 0"):
        config("zero_stage=0", "precision=bf16")


@pytest.mark.parametrize("task", ["image_to_video", "inpainting", "outpainting", "cinemagraph"])
def test_a_task_that_needs_what_is_known_needs_a_model_that_takes_it(task: str) -> None:
    with pytest.raises(ConfigError, match=r"shares besides text_to_video need inflation\.is_conditioned=true"):
        config(f"tasks.{task}=0.5")
    assert config(f"tasks.{task}=0.5", "inflation.is_conditioned=true").tasks.conditioned_share == 0.5
    with pytest.raises(ConfigError, match="tasks: at least one share above 0 is expected, all are 0"):
        config("tasks.text_to_video=0")


def test_the_jobs_task_and_inflation_keys_are_those_of_the_model() -> None:
    for settings, values in ((TaskSettings, TaskConfig), (InflationSettings, InflationConfig)):
        defaults = {field.name: field.default for field in dataclasses.fields(values)}
        assert {name: field.default for name, field in settings.model_fields.items()} == defaults


def test_the_identity_is_what_decides_the_losses() -> None:
    same = config("workers=2", "clips_per_step=8", "clips_per_micro_batch=2", "steps=99", "zero_stage=3", "dataset=e")
    assert same.identity_hash == config("clips_per_step=8").identity_hash
    for change in (
        "lr=1e-3",
        "seed=1",
        "clips_per_step=4",
        "objective.text_dropout=0.2",
        "tasks.dropout=0.3",
        "inflation.seed=1",
    ):
        assert config(change).identity_hash != config().identity_hash


def recorded(tmp_path: Path, *overrides: str) -> TrainConfig:
    first = config(f"run.storage={tmp_path}", *overrides)
    write_record(first, RunRecord("id", 3, first.identity))
    return first


def test_a_new_name_has_no_record(tmp_path: Path) -> None:
    assert find_record(config(f"run.storage={tmp_path}")) is None


def test_the_same_run_goes_on_with_more_steps_and_the_pinned_data_set(tmp_path: Path) -> None:
    recorded(tmp_path)
    record = find_record(config(f"run.storage={tmp_path}", "steps=20"))
    assert record is not None
    assert (record.tracking_run_id, record.dataset_version) == ("id", 3)


def test_another_configuration_is_refused_and_the_keys_are_named(tmp_path: Path) -> None:
    recorded(tmp_path)
    message = r"run.name: r is there already .* inflation.attention_layers was 2, now 3; lr was 0.0001, now 0.5.*force"
    with pytest.raises(RunRefusedError, match=message):
        find_record(config(f"run.storage={tmp_path}", "lr=0.5", "inflation.attention_layers=3"))


def test_another_version_of_the_data_set_is_refused(tmp_path: Path) -> None:
    recorded(tmp_path)
    with pytest.raises(RunRefusedError, match="dataset_version was 3, now 4"):
        find_record(config(f"run.storage={tmp_path}", "dataset_version=4"))
    assert find_record(config(f"run.storage={tmp_path}", "dataset_version=3")) is not None


def test_force_goes_on_whatever_changed_and_never_refuses_even_the_same(tmp_path: Path) -> None:
    recorded(tmp_path)
    assert find_record(config(f"run.storage={tmp_path}", "lr=0.5", "run.resume=force")) is not None
    with pytest.raises(RunRefusedError, match="run.resume=never"):
        find_record(config(f"run.storage={tmp_path}", "run.resume=never"))


@pytest.mark.parametrize("resume", ["auto", "never"])
def test_checkpoints_whose_run_is_not_known_are_not_gone_on_with(tmp_path: Path, resume: str) -> None:
    facts = Facts(8, 64, 8, seed=0, dataset_version=3, backbone_digest="b", config_hash="c", git_sha="g")
    write_checkpoint(tmp_path / "r" / "checkpoints", TrainingState({"w.a": torch.ones(1)}, 8), facts)
    message = r"run.name: r has checkpoints \(.*step_00000008\) but no run.json.*run.resume=force"
    with pytest.raises(RunRefusedError, match=message):
        find_record(config(f"run.storage={tmp_path}", f"run.resume={resume}"))
    assert find_record(config(f"run.storage={tmp_path}", "run.resume=force")) is None
