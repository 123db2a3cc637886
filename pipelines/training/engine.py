"""What the loop needs of an engine, and DeepSpeed behind it.

DeepSpeed's own checkpoints are pickles that fit one number of workers only. Here state goes in and out whole, by
parameter name (`TrainingState`), so that a run goes on with another number of workers or another ZeRO stage.

Shape letters: B clips, C channels, T frames, H height, W width, L text tokens, D text width.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from pipelines.training.averaged_adamw import MOMENTS, AveragedAdamW
from pipelines.training.state import KINDS, TrainingState


class Outcome(NamedTuple):
    """What became of a step."""

    is_applied: bool
    """False where a gradient was not finite: weights and moments are as before."""
    grad_norm: float
    """L2 norm over all trainable parameters before clipping."""


class Inputs(NamedTuple):
    """A call of the model."""

    video_BCTHW: Tensor
    timestep_B: Tensor
    text_BLD: Tensor
    others: Mapping[str, Any] = MappingProxyType({})
    """What else its forward takes, by name."""

    def passed_to(self, model: Callable[..., Tensor]) -> Tensor:
        """What a model makes of them."""
        return model(self.video_BCTHW, self.timestep_B, self.text_BLD, **self.others)


class Engine(Protocol):
    """DeepSpeed's three verbs. All workers call them in the same order."""

    def __call__(self, video_BCTHW: Tensor, timestep_B: Tensor, text_BLD: Tensor, **others: Any) -> Tensor:
        """The model's prediction, (B, C, T, H, W) fp32; `others` is what else its forward takes."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradient of a micro batch's mean loss."""
        ...

    def step(self, lr: float) -> Outcome:
        """One optimizer step on what was accumulated."""
        ...


@dataclass(frozen=True)
class EngineSettings:
    """How to train; see `TrainConfig` for the meaning of each."""

    zero_stage: int
    precision: str
    clips_per_micro_batch: int
    micro_batches_per_step: int
    gradient_clipping: float
    weight_decay: float
    ema_decay: float


class DeepSpeedEngine:
    """DeepSpeed ZeRO 0 to 3 with torch's AdamW. The process group is there already.

    Args:
        module: The model with its frozen weights, on this worker's device.
        trainable: Its parameters that train, by name.
        settings: `EngineSettings`.
        state: Where to go on from; `fresh_state(trainable)` at the beginning.
        example: Zeros like a micro batch. One step with them makes the optimizer's state, which is then filled.
    """

    def __init__(
        self,
        module: nn.Module,
        trainable: Mapping[str, nn.Parameter],
        settings: EngineSettings,
        state: TrainingState,
        example: Inputs,
    ) -> None:
        import deepspeed

        # Pure gloo on CPU: the shared-memory op would be compiled for a minute, and needs a compiler.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        self._trainable = dict(trainable)
        self._dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
        self._zero_stage = settings.zero_stage
        _load_weights(self._trainable, state)  # before initialize: ZeRO-3 splits what it finds
        frozen = [p for p in module.parameters() if not p.requires_grad and _is_channels_last(p)]
        for parameter in module.parameters():  # DeepSpeed broadcasts nothing but plain strides
            parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
        optimizer = AveragedAdamW(self._trainable.values(), settings.weight_decay, settings.ema_decay)
        self._engine: Any = deepspeed.initialize(
            model=module, optimizer=optimizer, config=_deepspeed_config(settings), dist_init_required=False
        )[0]
        if self._zero_stage < 3:
            for parameter in frozen:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        self._restore(state, settings.micro_batches_per_step, example)

    def __call__(self, video_BCTHW: Tensor, timestep_B: Tensor, text_BLD: Tensor, **others: Any) -> Tensor:
        """See `Engine`."""
        video_BCTHW, text_BLD, others = _in_precision((video_BCTHW, text_BLD, others), self._dtype)
        return self._engine(video_BCTHW, timestep_B, text_BLD, **others).float()

    def backward(self, loss: Tensor) -> None:
        """See `Engine`."""
        self._engine.backward(loss)
        if not self._engine.is_gradient_accumulation_boundary():
            self._engine.step()  # only counts the micro batch

    def step(self, lr: float) -> Outcome:
        """See `Engine`."""
        for group in self._engine.optimizer.param_groups:
            group["lr"] = lr
        if self._zero_stage == 0:
            return self._step_without_zero()
        self._engine.step()  # ZeRO skips a step with non-finite gradients by itself, without a word
        return Outcome(bool(self._engine.was_step_applied()), float(self._engine.get_global_grad_norm()))

    def gather(self, kinds: Sequence[str] = KINDS) -> dict[str, Tensor]:
        """Whole tensors `<kind>.<parameter>`, fp32 on the CPU. All workers must call it; each gets all."""
        return {
            f"{kind}.{name}": self._whole(parameter, kind).to(device="cpu", dtype=torch.float32, copy=True)
            for name, parameter in self._trainable.items()
            for kind in kinds
        }

    @property
    def applied_steps(self) -> int:
        """Steps that were applied since the run began."""
        return int(next(iter(self._moments.values()))["step"].item())

    @property
    def _moments(self) -> dict[Any, Any]:
        return self._engine.basic_optimizer.state

    def _step_without_zero(self) -> Outcome:
        """Stage 0 tells no norm, and would apply gradients that are not finite."""
        gradients = [p.grad for p in self._trainable.values() if p.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        if not math.isfinite(norm):
            self._engine.zero_grad()
            self._engine.micro_steps += 1
            return Outcome(False, math.inf)
        self._engine.step()
        return Outcome(True, norm)

    def _whole(self, parameter: nn.Parameter, kind: str) -> Any:
        import deepspeed.utils as ds

        if self._zero_stage == 0:
            return parameter.detach() if kind == "w" else self._moments[parameter][MOMENTS[kind]]
        if kind == "w":
            return ds.safe_get_full_fp32_param(parameter)
        return ds.safe_get_full_optimizer_state(parameter, MOMENTS[kind])

    def _restore(self, state: TrainingState, micro_batches: int, example: Inputs) -> None:
        for _ in range(micro_batches):
            self.backward(0.0 * example.passed_to(self).sum())
        self.step(lr=0.0)
        with torch.no_grad():
            for name, parameter in self._trainable.items():
                for kind in ("w", *MOMENTS):
                    self._fill(parameter, kind, state.tensors[f"{kind}.{name}"])
        if hasattr(self._engine.optimizer, "update_lp_params"):
            self._engine.optimizer.update_lp_params()
        for moments in self._moments.values():
            moments["step"].fill_(state.applied_steps)
        self._engine.global_steps = self._engine.global_samples = self._engine.skipped_steps = 0

    def _fill(self, parameter: nn.Parameter, kind: str, value: Tensor) -> None:
        import deepspeed.utils as ds

        if self._zero_stage == 0:
            (parameter if kind == "w" else self._moments[parameter][MOMENTS[kind]]).copy_(value)
        elif self._zero_stage == 3:
            # DeepSpeed's setters of whole values fail where the workers do not divide a parameter.
            part = _part(value, parameter.ds_tensor.numel())  # pyright: ignore[reportAttributeAccessIssue]  # ZeRO-3's
            if kind == "w":
                ds.safe_set_local_fp32_param(parameter, part)
            else:
                ds.safe_set_local_optimizer_state(parameter, part, MOMENTS[kind])
        elif kind == "w":
            ds.safe_set_full_fp32_param(parameter, value)
        else:
            ds.safe_set_full_optimizer_state(parameter, value, MOMENTS[kind])


def _in_precision(values: Any, dtype: torch.dtype) -> Any:
    """Numbers with a fraction in a precision, wherever they sit in tuples and mappings; whole ones as they are."""
    if isinstance(values, Mapping):
        return {key: _in_precision(value, dtype) for key, value in values.items()}
    if isinstance(values, tuple):
        return tuple(_in_precision(value, dtype) for value in values)
    return values.to(dtype) if values.is_floating_point() else values


def _is_channels_last(parameter: Tensor) -> bool:
    return parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last)


def _part(value: Tensor, size: int) -> Tensor:
    """What ZeRO-3 keeps of a tensor on this worker: `size` elements, the last ones padded with zeros."""
    rank, workers = torch.distributed.get_rank(), torch.distributed.get_world_size()
    padded = torch.nn.functional.pad(value.flatten(), (0, size * workers - value.numel()))
    return padded[rank * size : (rank + 1) * size]


def _load_weights(trainable: Mapping[str, nn.Parameter], state: TrainingState) -> None:
    with torch.no_grad():
        for name, parameter in trainable.items():
            parameter.copy_(state.tensors[f"w.{name}"])


def _deepspeed_config(settings: EngineSettings) -> dict[str, Any]:
    """Everything whose default has moved between versions is set."""
    is_bf16 = settings.precision == "bf16"
    return {
        "train_micro_batch_size_per_gpu": settings.clips_per_micro_batch,
        "gradient_accumulation_steps": settings.micro_batches_per_step,
        "gradient_clipping": settings.gradient_clipping,
        "zero_optimization": {"stage": settings.zero_stage, "contiguous_gradients": True, "overlap_comm": False},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": True, "check_grad_overflow": True} if is_bf16 else {"enabled": False},
        "fp16": {"enabled": False},
        "steps_per_print": None,
        "wall_clock_breakdown": False,
    }
