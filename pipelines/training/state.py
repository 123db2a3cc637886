"""What a run is at a step, by parameter name and whole: it fits any number of workers and any ZeRO stage."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

KINDS = ("w", "m", "v", "ema")
"""fp32 weights, Adam's first and second moments, averaged weights."""


@dataclass(frozen=True)
class TrainingState:
    """Tensors of the trainable parameters.

    Attributes:
        tensors: `<kind>.<parameter>` for every kind of `KINDS`, fp32, on the CPU.
        applied_steps: Optimizer steps that were applied, without skipped ones: Adam's step count.
    """

    tensors: Mapping[str, Tensor]
    applied_steps: int

    def of_kind(self, kind: str) -> dict[str, Tensor]:
        """Tensors of one kind by parameter name."""
        prefix = f"{kind}."
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}

    def check_names(self, names: Iterable[str], place: str) -> None:
        """Refuse a state of another model.

        Raises:
            ValueError: Parameters are missing or unknown; the message names up to three of each.
        """
        expected, found = {f"{kind}.{name}" for name in names for kind in KINDS}, set(self.tensors)
        if expected != found:
            missing, unknown = sorted(expected - found)[:3], sorted(found - expected)[:3]
            raise ValueError(f"{place}: state of another model: missing {missing}, unknown {unknown}")


def fresh_state(trainable: Mapping[str, nn.Parameter]) -> TrainingState:
    """The state before the first step."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in trainable.items():
        weights = parameter.detach().to(device="cpu", dtype=torch.float32)
        tensors[f"w.{name}"], tensors[f"ema.{name}"] = weights.clone(), weights.clone()
        tensors[f"m.{name}"], tensors[f"v.{name}"] = torch.zeros_like(weights), torch.zeros_like(weights)
    return TrainingState(tensors, 0)
