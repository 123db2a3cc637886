"""What a run is, in `<run>/run.json`: its data-set version, its run in the tracker, what decides its losses."""

import json
from pathlib import Path
from typing import NamedTuple

from pipelines.storage import write_whole
from pipelines.training.checkpoint import find_newest
from pipelines.training.config import TrainConfig


class RunRefusedError(ValueError):
    """A run of this name is there and must not go on; the message says why and what to do."""


class RunRecord(NamedTuple):
    """The record of a run."""

    tracking_run_id: str | None
    dataset_version: int
    identity: dict[str, object]


def run_folder(config: TrainConfig) -> Path:
    """Where everything of the run lies."""
    return Path(config.run.storage) / config.run.name


def find_record(config: TrainConfig) -> RunRecord | None:
    """The record of the run of this name, if there is one that may go on.

    Raises:
        RunRefusedError: There is one, and `run.resume` or what has changed in the configuration forbids to go on; or
            there are checkpoints, but not what they belong to.
    """
    path = run_folder(config) / "run.json"
    if not path.is_file():
        _refuse_unknown_checkpoints(config)
        return None
    record = RunRecord(**json.loads(path.read_text()))
    if config.run.resume == "never":
        raise RunRefusedError(f"run.name: {config.run.name} is there already ({path}) and run.resume=never")
    changed = _changes(record, config)
    if changed and config.run.resume == "auto":
        raise RunRefusedError(
            f"run.name: {config.run.name} is there already ({path}) with another configuration: {'; '.join(changed)}. "
            "Give the run another name, or go on in spite of it with run.resume=force"
        )
    return record


def write_record(config: TrainConfig, record: RunRecord) -> None:
    """Write it beside the checkpoints."""
    write_whole(run_folder(config) / "run.json", json.dumps(record._asdict(), indent=1).encode())


def _refuse_unknown_checkpoints(config: TrainConfig) -> None:
    """Without this, a run restored in part from a backup would go on as a new one, whatever its configuration."""
    newest = find_newest(run_folder(config) / "checkpoints")
    if newest is not None and config.run.resume != "force":
        raise RunRefusedError(
            f"run.name: {config.run.name} has checkpoints ({newest}) but no run.json, which tells what they are of. "
            "Give the run another name, put run.json back, or go on from them as they are with run.resume=force"
        )


def _changes(record: RunRecord, config: TrainConfig) -> list[str]:
    before, now = _flat(record.identity), _flat(config.identity)
    changed = {key for key in before.keys() | now.keys() if before.get(key) != now.get(key)}
    changes = [f"{key} was {before.get(key)}, now {now.get(key)}" for key in sorted(changed)]
    if config.dataset_version not in (None, record.dataset_version):
        changes.append(f"dataset_version was {record.dataset_version}, now {config.dataset_version}")
    return changes


def _flat(values: dict[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for key, value in values.items():
        nested = _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
        flat.update(nested)
    return flat
