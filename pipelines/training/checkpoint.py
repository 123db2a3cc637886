"""Checkpoints: safetensors and JSON, no pickle, whole or not there.

<run>/checkpoints/step_00000100/state.safetensors   w., m., v., ema. of every trainable parameter, fp32
<run>/checkpoints/step_00000100/state.json          `Facts`
<run>/checkpoints/step_00000100/COMPLETE            sha256 of both: written last
"""

import dataclasses
import json
import os
import re
import shutil
import warnings
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import load_file, save_file

from pipelines.storage import sha256_file, write_whole
from pipelines.training.state import TrainingState

_TENSORS, _FACTS, _COMPLETE = "state.safetensors", "state.json", "COMPLETE"
_NAME = re.compile(r"step_(\d{8})")


class DamagedCheckpointWarning(UserWarning):
    """A checkpoint that cannot be used was passed over."""


@dataclasses.dataclass(frozen=True)
class Facts:
    """What `state.json` holds: where the run stood, and what it was."""

    step: int
    """Steps done, skipped ones too."""
    samples: int
    """Samples consumed: the position in the data."""
    applied_steps: int
    """Steps whose gradients were finite."""
    seed: int
    dataset_version: int
    backbone_digest: str
    config_hash: str
    git_sha: str


class Checkpoint(NamedTuple):
    """A loaded checkpoint."""

    facts: Facts
    state: TrainingState


def write_checkpoint(checkpoints: Path, state: TrainingState, facts: Facts) -> Path:
    """Write a checkpoint whole; one of the same step is replaced.

    Args:
        checkpoints: Folder of the run's checkpoints.
        state: What to save.
        facts: `facts.step` names it.

    Returns:
        Its folder.
    """
    folder = folder_of(checkpoints, facts.step)
    aside = checkpoints / f".{folder.name}.partial"
    for old in (aside, folder):
        shutil.rmtree(old, ignore_errors=True)
    aside.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in state.tensors.items()}, aside / _TENSORS)
    with (aside / _TENSORS).open("rb") as file:
        os.fsync(file.fileno())
    write_whole(aside / _FACTS, json.dumps(dataclasses.asdict(facts), indent=1).encode())
    aside.rename(folder)
    sums = {name: sha256_file(folder / name) for name in (_TENSORS, _FACTS)}
    write_whole(folder / _COMPLETE, json.dumps(sums, indent=1).encode())
    return folder


def folder_of(checkpoints: Path, step: int) -> Path:
    """Where the checkpoint of a step lies, or would lie."""
    return checkpoints / f"step_{step:08d}"


def find_newest(checkpoints: Path) -> Path | None:
    """The newest checkpoint that is complete and undamaged; None where there is none.

    Warns:
        DamagedCheckpointWarning: For each newer one that is passed over, with what is wrong with it.
    """
    for folder in reversed(_folders(checkpoints)):
        damage = _damage(folder)
        if damage is None:
            return folder
        warnings.warn(f"checkpoint {folder} is passed over: {damage}", DamagedCheckpointWarning, stacklevel=2)
    return None


def load_checkpoint(folder: Path) -> Checkpoint:
    """Load what `find_newest` found."""
    facts = read_facts(folder)
    return Checkpoint(facts, TrainingState(load_file(folder / _TENSORS), facts.applied_steps))


def read_facts(folder: Path) -> Facts:
    """A checkpoint's facts alone."""
    return Facts(**json.loads((folder / _FACTS).read_text()))


def prune(checkpoints: Path, keep: int) -> None:
    """Remove all but the newest `keep` complete checkpoints; what is newer but incomplete stays to be looked at."""
    complete = [folder for folder in _folders(checkpoints) if (folder / _COMPLETE).exists()]
    for folder in complete[:-keep]:
        (folder / _COMPLETE).unlink()  # first, so that half a folder is never taken for a checkpoint
        shutil.rmtree(folder)


def _folders(checkpoints: Path) -> list[Path]:
    """Oldest first."""
    if not checkpoints.is_dir():
        return []
    return sorted(folder for folder in checkpoints.iterdir() if _NAME.fullmatch(folder.name))


def _damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint."""
    if not (folder / _COMPLETE).is_file():
        return f"it has no {_COMPLETE}: the process ended while it was written"
    try:
        sums: dict[str, str] = json.loads((folder / _COMPLETE).read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        return f"{_COMPLETE}: {error}"
    for name, expected in sums.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        found = sha256_file(folder / name)
        if found != expected:
            return f"{name}: sha256 {expected[:12]} expected, found {found[:12]}"
    return None
