"""A run may start from the temporal weights of another one, if they fit."""

from pathlib import Path

import pytest

from pipelines.config import load_config
from pipelines.training.config import TrainConfig
from pipelines.training.initial import check_initial
from pipelines.training.record import RunRefusedError
from stunet import weights
from stunet.backbone import load_backbone
from stunet.inflate import InflationConfig, inflate


def check(folder: Path, backbone: Path, *overrides: str) -> None:
    keys = ("run.name=r", "run.storage=s", "dataset=d", "steps=1", f"backbone={backbone}", *overrides)
    check_initial(load_config(TrainConfig, None, [*keys, f"initial_weights={folder}"]))


def test_weights_of_the_same_backbone_and_layers_are_a_start_in_their_folder_or_in_their_runs(
    backbone: Path, tmp_path: Path
) -> None:
    loaded = load_backbone(backbone)
    stunet = inflate(loaded.unet, InflationConfig(temporal_factor=2, is_conditioned=True, seed=3))
    weights.save(stunet, tmp_path / "run" / "model", loaded.name, loaded.digest, {})
    fitting = ("inflation.temporal_factor=2", "inflation.is_conditioned=true")
    check(tmp_path / "run", backbone, *fitting)
    check(tmp_path / "run" / "model", backbone, *fitting)
    with pytest.raises(RunRefusedError, match=r"initial_weights: .*trained with is_conditioned True, here it is False"):
        check(tmp_path / "run", backbone, "inflation.temporal_factor=2")
    with pytest.raises(RunRefusedError, match=r"initial_weights: .*/nothing: temporal\.safetensors is expected in it"):
        check(tmp_path / "nothing", backbone)


def test_weights_of_another_backbone_are_refused_by_both_names(backbone: Path, root: Path, tmp_path: Path) -> None:
    loaded = load_backbone(backbone)
    weights.save(inflate(loaded.unet), tmp_path, loaded.name, loaded.digest, {})
    with pytest.raises(RunRefusedError, match=f"belong to the backbone '{loaded.name}' .*, not to 'upscaler'"):
        check(tmp_path, root / "demo" / "weights" / "upscaler")
