"""Two ways to spend less on a step that leave its losses as they are: activations made anew, and torch.compile."""

from collections.abc import Callable
from typing import Any

from pipelines.training.config import TrainConfig
from stunet.inflate import STUNet, checkpoint_activations


def accelerate(stunet: STUNet, config: TrainConfig, backend: str | Callable[..., Any] = "inductor") -> None:
    """Prepare a model for training as `activation_checkpointing` and `compile` ask for; names of parameters stay.

    Args:
        stunet: Changed in place, before an engine takes it.
        config: `TrainConfig`.
        backend: Of torch.compile. Compiling happens in the first pass of each shape; all micro batches have one.
    """
    if config.activation_checkpointing:
        checkpoint_activations(stunet)
    if config.compile:
        stunet.compile(backend=backend, dynamic=False)
