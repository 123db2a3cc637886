"""What of a STUNet is stored: its temporal parameters and the name of the backbone they belong to.

<folder>/temporal.safetensors   the parameters; all that is needed to load them is in its header
<folder>/temporal.json          the same header, for people
"""

import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from stunet.backbone import Backbone
from stunet.inflate import InflationConfig, STUNet, inflate, temporal_parameters

_FILE = "temporal.safetensors"
_HEADER = "stunet"


class WeightsError(ValueError):
    """Temporal weights that cannot be loaded; the message names the file, and both backbones where they differ."""


@dataclass(frozen=True)
class Metadata:
    """The header of stored weights."""

    backbone_name: str
    backbone_digest: str
    inflation: InflationConfig
    extra: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the writer adds, such as frames, fps, steps and the data set's version."""
    schedule: dict[str, Any] | None = None
    """`Backbone.schedule`; None in weights that were stored before it was kept."""


def save(  # noqa: PLR0913  # what is stored, where, and what it belongs to
    stunet: STUNet,
    folder: str | Path,
    backbone_name: str,
    backbone_digest: str,
    extra: Mapping[str, Any],
    values: Mapping[str, Tensor] | None = None,
    *,
    schedule: Mapping[str, Any] | None = None,
) -> None:
    """Write the temporal parameters; each file appears whole, and the same input gives the same bytes.

    Args:
        stunet: Whose parameters.
        folder: Made where it does not exist.
        backbone_name: `Backbone.name`.
        backbone_digest: `Backbone.digest`.
        extra: JSON-like; kept in the header.
        values: Stored instead of the STUNet's own, such as their moving average; the same names.
        schedule: `Backbone.schedule`; with it in the header, another schedule is refused later.

    Raises:
        ValueError: `values` has other names than the temporal parameters.
    """
    names = temporal_parameters(stunet)
    values = names if values is None else values
    if values.keys() != names.keys():
        different = sorted(values.keys() ^ names.keys())
        raise ValueError(f"values: the names of the temporal parameters are expected, {different[0]} is not in both")
    told = None if schedule is None else dict(schedule)
    metadata = Metadata(backbone_name, backbone_digest, stunet.config, dict(extra), told)
    header = json.dumps(dataclasses.asdict(metadata), sort_keys=True)
    tensors = {name: value.detach().float().cpu().contiguous() for name, value in values.items()}
    _write_whole(Path(folder) / _FILE, to_safetensors(tensors, {_HEADER: header}))
    readable = {**json.loads(header), "parameters": sum(value.numel() for value in tensors.values())}
    _write_whole(Path(folder) / "temporal.json", json.dumps(readable, indent=2).encode() + b"\n")


def find(place: str | Path) -> Path:
    """The folder of temporal.safetensors: the given one, or `model/` of a run's folder.

    Raises:
        WeightsError: Neither has it.
    """
    for folder in (Path(place), Path(place) / "model"):
        if (folder / _FILE).is_file():
            return folder
    raise WeightsError(f"{place}: {_FILE} is expected in it or in its model/")


def read_metadata(folder: str | Path) -> Metadata:
    """The header of the weights in a folder.

    Raises:
        WeightsError: No such file, or not one that `save` wrote.
    """
    with _open(folder) as file:
        header = (file.metadata() or {}).get(_HEADER)
    if header is None:
        raise WeightsError(f"{Path(folder) / _FILE}: temporal weights are expected, the header says nothing of them")
    values = json.loads(header)
    return Metadata(**(values | {"inflation": InflationConfig(**values["inflation"])}))


def load(stunet: STUNet, folder: str | Path, backbone_digest: str, backbone_name: str = "given") -> Metadata:
    """Read stored weights into a STUNet made by `inflate(backbone.unet, read_metadata(folder).inflation)`.

    Raises:
        WeightsError: No such file, weights of another backbone, or of an inflation with other layers.
    """
    path = Path(folder) / _FILE
    metadata = read_metadata(folder)
    check_backbone(metadata, folder, backbone_digest, backbone_name)
    check_inflation(metadata, folder, stunet.config)
    names = temporal_parameters(stunet)
    with _open(folder) as file, torch.no_grad():
        different = sorted(set(file.keys()) ^ names.keys())
        if different:
            raise WeightsError(f"{path}: other layers than this STUNet's, {different[0]} is not in both")
        for name, parameter in names.items():
            parameter.copy_(file.get_tensor(name))
    return metadata


def load_stunet(backbone: Backbone, folder: str | Path) -> STUNet:
    """Inflate a backbone as the stored weights were trained, and read them into it.

    Raises:
        WeightsError: No such file, or weights of another backbone or schedule; the message says both.
    """
    metadata = read_metadata(folder)
    check_backbone(metadata, folder, backbone.digest, backbone.name)
    check_schedule(metadata, folder, backbone.schedule)
    stunet = inflate(backbone.unet, metadata.inflation)
    load(stunet, folder, backbone.digest, backbone.name)
    return stunet.eval()


def check_backbone(metadata: Metadata, folder: str | Path, backbone_digest: str, backbone_name: str) -> None:
    """Refuse weights that were trained on another backbone.

    Raises:
        WeightsError: They were; the message says both names.
    """
    if metadata.backbone_digest != backbone_digest:
        raise WeightsError(
            f"{Path(folder) / _FILE}: these weights belong to the backbone {metadata.backbone_name!r} "
            f"({metadata.backbone_digest[:12]}), not to {backbone_name!r} ({backbone_digest[:12]})"
        )


def check_schedule(metadata: Metadata, folder: str | Path, schedule: Mapping[str, Any]) -> None:
    """Refuse weights that were trained with another noise schedule or prediction type; the digest is the U-Net's alone.

    Args:
        metadata: Of the weights; those without a schedule pass.
        folder: Of the weights, for the message.
        schedule: `Backbone.schedule`, or `backbone_schedule` of its folder.

    Raises:
        WeightsError: They were; the message says both.
    """
    for name, value in (metadata.schedule or {}).items():
        if name in schedule and schedule[name] != value:
            raise WeightsError(
                f"{Path(folder) / _FILE}: these weights were trained with {name} {value!r}, the scheduler of the "
                f"backbone given has {schedule[name]!r}"
            )


def check_inflation(metadata: Metadata, folder: str | Path, config: InflationConfig) -> None:
    """Refuse weights of layers that differ; the seed of their random start may.

    Raises:
        WeightsError: They do; the message names what differs.
    """
    stored, wanted = (dataclasses.asdict(one) for one in (metadata.inflation, config))
    for name, value in stored.items():
        if name != "seed" and wanted[name] != value:
            raise WeightsError(f"{Path(folder) / _FILE}: trained with {name} {value}, here it is {wanted[name]}")


def digest(folder: str | Path) -> str:
    """sha256 of the stored parameters' file, 64 hex digits."""
    return hashlib.sha256((Path(folder) / _FILE).read_bytes()).hexdigest()


def _open(folder: str | Path) -> Any:
    path = Path(folder) / _FILE
    try:
        return safe_open(path, framework="pt")
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such file; a folder that training wrote is expected") from error
    except SafetensorError as error:
        raise WeightsError(f"{path}: not a readable safetensors file: {error}") from error


def _write_whole(path: Path, data: bytes) -> None:
    """Aside, fsync, rename (the package below cannot use `pipelines.storage`)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(aside).chmod(0o644)
        Path(aside).replace(path)
    finally:
        Path(aside).unlink(missing_ok=True)
