"""Checkpoints appear whole, and a damaged one is passed over."""

from pathlib import Path

import pytest
import torch
from torch import nn

from pipelines.training.checkpoint import (
    DamagedCheckpointWarning,
    Facts,
    find_newest,
    load_checkpoint,
    prune,
    write_checkpoint,
)
from pipelines.training.state import TrainingState, fresh_state


def facts(step: int) -> Facts:
    return Facts(step, step * 8, step - 1, seed=3, dataset_version=2, backbone_digest="b", config_hash="c", git_sha="g")


def state(step: int) -> TrainingState:
    start = fresh_state({"temporal.weight": nn.Parameter(torch.full((3, 2), float(step)))})
    return TrainingState(start.tensors, step - 1)


def write(folder: Path, *steps: int) -> None:
    for step in steps:
        write_checkpoint(folder, state(step), facts(step))


def test_what_is_written_is_what_is_loaded(tmp_path: Path) -> None:
    write(tmp_path, 10)
    folder = find_newest(tmp_path)
    assert folder == tmp_path / "step_00000010"
    loaded = load_checkpoint(folder)
    assert loaded.facts == facts(10)
    assert loaded.state.applied_steps == 9
    assert loaded.state.tensors.keys() == {f"{kind}.temporal.weight" for kind in ("w", "m", "v", "ema")}
    assert all(torch.equal(loaded.state.tensors[name], t) for name, t in state(10).tensors.items())


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert find_newest(tmp_path / "absent") is None


def test_the_newest_complete_one_is_found(tmp_path: Path) -> None:
    write(tmp_path, 5, 100, 20)
    assert find_newest(tmp_path) == tmp_path / "step_00000100"


@pytest.mark.parametrize("file", ["state.safetensors", "state.json", "COMPLETE"])
def test_a_damaged_one_is_passed_over_with_a_warning_that_names_the_file(tmp_path: Path, file: str) -> None:
    write(tmp_path, 5, 10)
    path = tmp_path / "step_00000010" / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    name = "COMPLETE|state" if file == "COMPLETE" else file
    with pytest.warns(DamagedCheckpointWarning, match=rf"step_00000010 is passed over: .*({name})"):
        assert find_newest(tmp_path) == tmp_path / "step_00000005"


def test_a_truncated_one_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, 5, 10)
    path = tmp_path / "step_00000010" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.warns(DamagedCheckpointWarning, match=r"state.safetensors: sha256 \w+ expected, found"):
        assert find_newest(tmp_path) == tmp_path / "step_00000005"


def test_one_without_its_last_file_is_not_complete(tmp_path: Path) -> None:
    write(tmp_path, 5, 10)
    (tmp_path / "step_00000010" / "COMPLETE").unlink()
    with pytest.warns(DamagedCheckpointWarning, match="the process ended while it was written"):
        assert find_newest(tmp_path) == tmp_path / "step_00000005"
    write(tmp_path, 10)
    assert find_newest(tmp_path) == tmp_path / "step_00000010"


def test_the_last_ones_are_kept(tmp_path: Path) -> None:
    write(tmp_path, 5, 10, 15, 20)
    prune(tmp_path, keep=2)
    assert sorted(folder.name for folder in tmp_path.iterdir()) == ["step_00000015", "step_00000020"]


def test_nothing_in_it_is_a_pickle(tmp_path: Path) -> None:
    write(tmp_path, 5)
    assert sorted(f.name for f in (tmp_path / "step_00000005").iterdir()) == [
        "COMPLETE",
        "state.json",
        "state.safetensors",
    ]


def test_a_state_of_another_model_is_refused_by_name() -> None:
    with pytest.raises(
        ValueError, match=r"here: state of another model: missing \['ema.other'.*unknown \['ema.temporal"
    ):
        state(5).check_names(["other"], "here")
