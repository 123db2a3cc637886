"""Checkpointed or compiled, a model has the same losses and gradients."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pipelines.config import load_config
from pipelines.curation.catalog import Catalog
from pipelines.training.acceleration import accelerate
from pipelines.training.batches import Batch, read_batch
from pipelines.training.config import TrainConfig
from pipelines.training.learner import Learner, Model, build_model
from pipelines.training.reader import ClipReader
from stunet.inflate import temporal_parameters

CPU = torch.device("cpu")
INFLATION = ("inflation.temporal_factor=2", "inflation.attention_layers=1")


def config(*overrides: str) -> TrainConfig:
    words = ("run.name=r", "run.storage=s", "dataset=d", "steps=1", *INFLATION, *overrides)
    return load_config(TrainConfig, None, words)


def model_of(backbone: Path) -> Model:
    """With projections that are not zero: all temporal weights then have a gradient."""
    made, rng = build_model(str(backbone), config().inflation, CPU), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in temporal_parameters(made.stunet).items():
            if ".projection." in name:
                value.normal_(std=0.1, generator=rng)
    return made


@pytest.fixture(scope="module")
def batch(dataset: Path) -> Batch:
    return read_batch(ClipReader(str(dataset), Catalog.open(dataset).kept()), range(2), range(2))


def trained(model: Model, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Losses, and gradients by name."""
    settings = config()
    learner = Learner(model, settings.objective, settings.tasks, 5, CPU)
    loss_B = learner.sample_losses(model.stunet, batch)  # pyright: ignore[reportArgumentType]  # its call is all that is used
    loss_B.mean().backward()
    gradients = {name: value.grad for name, value in temporal_parameters(model.stunet).items()}
    assert all(value is not None and value.any() for value in gradients.values())
    return loss_B.detach(), {name: value.clone() for name, value in gradients.items() if value is not None}


def kept_bytes(model: Model, batch: Batch) -> int:
    """What autograd keeps within layers for backward, without weights."""
    weights, kept = {value.data_ptr() for value in model.stunet.parameters()}, dict[int, int]()

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if tensor.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        trained(model, batch)
    return sum(kept.values())


def test_activation_checkpointing_keeps_losses_and_gradients_and_hardly_any_activation(
    backbone: Path, batch: Batch
) -> None:
    plain, checkpointed, half = (model_of(backbone) for _ in range(3))
    accelerate(checkpointed.stunet, config("activation_checkpointing=true"))
    half.stunet.unet.enable_gradient_checkpointing()
    losses, gradients = trained(plain, batch)
    own_losses, own_gradients = trained(checkpointed, batch)
    assert torch.equal(own_losses, losses)
    for name, gradient in gradients.items():
        torch.testing.assert_close(own_gradients[name], gradient)
    whole, ours, diffusers_own = (kept_bytes(each, batch) for each in (plain, checkpointed, half))
    assert ours < 0.2 * whole
    assert diffusers_own > 0.3 * whole, "diffusers leaves out what follows attention"


def test_compile_compiles_the_model_and_keeps_losses_gradients_and_names(backbone: Path, batch: Batch) -> None:
    graphs: list[torch.fx.GraphModule] = []

    def counting(graph: torch.fx.GraphModule, _inputs: Sequence[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    plain, compiled = model_of(backbone), model_of(backbone)
    accelerate(compiled.stunet, config("compile=true", "activation_checkpointing=true"), counting)
    losses, gradients = trained(plain, batch)
    assert not graphs
    own_losses, own_gradients = trained(compiled, batch)
    parts = [part for graph in graphs for part in graph.modules() if isinstance(part, torch.fx.GraphModule)]
    num_operations = sum(node.op.startswith("call") for part in parts for node in part.graph.nodes)
    assert num_operations > 100, "the U-Net's operations are in the graphs"
    torch.testing.assert_close(own_losses, losses)
    assert own_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(own_gradients[name], gradient, rtol=1e-4, atol=1e-6)
    before = len(graphs)
    trained(compiled, batch)
    assert len(graphs) == before, "a second step compiles nothing"


def test_neither_is_on_where_it_is_not_asked_for(backbone: Path, batch: Batch) -> None:
    plain, same = model_of(backbone), model_of(backbone)
    accelerate(same.stunet, config(), lambda graph, _: pytest.fail("compiled"))
    assert kept_bytes(same, batch) == kept_bytes(plain, batch)


def test_both_may_change_when_a_run_goes_on() -> None:
    assert config("compile=true", "activation_checkpointing=true").identity_hash == config().identity_hash
