"""AdamW that also keeps the exponential moving average of the weights, as one more state beside its moments.

Kept there, the average follows the fp32 master weights exactly, is split over workers by ZeRO like the moments, and is
gathered, saved and restored with them.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTS = {"m": "exp_avg", "v": "exp_avg_sq", "ema": "ema"}
"""Names in checkpoints and, for each, the optimizer's own."""


class AveragedAdamW(torch.optim.AdamW):
    """`torch.optim.AdamW` whose state has `ema`: after step n, ema += (1 - decay(n)) (w - ema).

    Args:
        params: What trains.
        weight_decay: Of AdamW.
        ema_decay: The decay that is reached; see `ema_decay_at`.
    """

    def __init__(self, params: Iterable[Tensor], weight_decay: float, ema_decay: float) -> None:
        super().__init__(params, lr=0.0, weight_decay=weight_decay)
        self._ema_decay = ema_decay

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of AdamW, then one of the average."""
        loss = super().step(closure)
        for parameter in (p for group in self.param_groups for p in group["params"] if p.grad is not None):
            state = self.state[parameter]
            if "ema" not in state:
                state["ema"] = parameter.detach().clone()
            state["ema"].lerp_(parameter, 1.0 - ema_decay_at(int(state["step"].item()), self._ema_decay))
        return loss


def ema_decay_at(step: int, decay: float) -> float:
    """min(decay, (1 + n) / (10 + n)): a short run is averaged over its own length, not over its start."""
    return min(decay, (1 + step) / (10 + step))
