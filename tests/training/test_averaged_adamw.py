"""AdamW with an average beside its moments."""

import copy

import torch
from torch import nn

from pipelines.training.averaged_adamw import AveragedAdamW, ema_decay_at


def trained(optimizer: torch.optim.Optimizer, weight: nn.Parameter, steps: int) -> list[torch.Tensor]:
    after = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.1
        weight.grad = torch.full_like(weight, float(step + 1))
        optimizer.step()
        after.append(weight.detach().clone())
    return after


def test_the_weights_are_those_of_adamw_bit_for_bit() -> None:
    ours = nn.Parameter(torch.linspace(-1, 1, 7))
    theirs = copy.deepcopy(ours)
    averaged = trained(AveragedAdamW([ours], weight_decay=0.1, ema_decay=0.9), ours, 5)
    plain = trained(torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.1), theirs, 5)
    assert all(torch.equal(a, b) for a, b in zip(averaged, plain, strict=True))


def test_the_average_follows_its_recursion() -> None:
    weight = nn.Parameter(torch.linspace(-1, 1, 7))
    optimizer = AveragedAdamW([weight], weight_decay=0.0, ema_decay=0.3)
    after = trained(optimizer, weight, 6)
    expected = after[0]
    for step, weights in enumerate(after[1:], start=2):
        decay = ema_decay_at(step, 0.3)
        expected = decay * expected + (1 - decay) * weights
    torch.testing.assert_close(optimizer.state[weight]["ema"], expected)


def test_a_short_run_is_averaged_over_its_own_length() -> None:
    assert ema_decay_at(10, 0.9999) == 11 / 20
    assert ema_decay_at(10**6, 0.9999) == 0.9999
