"""The training loop. It knows neither Ray nor MLflow nor DeepSpeed: all it meets is passed in."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from pipelines.training.batches import Batch
from pipelines.training.engine import Engine


class SkippedStepsError(RuntimeError):
    """Too many steps in a row had gradients that are not finite; the last checkpoint is from before them."""


@dataclass(frozen=True)
class Plan:
    """Which steps to do, and with which rate.

    Attributes:
        first_step: Steps done before.
        first_sample: Samples consumed before: the position in the data.
        last_step: Steps done when finished.
        clips_per_step: Global batch.
        lr: Learning rate after warm-up.
        warmup_steps: Over which it grows linearly.
        max_skipped_steps: Skipped steps in a row that end the run.
    """

    first_step: int
    first_sample: int
    last_step: int
    clips_per_step: int
    lr: float
    warmup_steps: int
    max_skipped_steps: int

    def lr_at(self, step: int) -> float:
        """The rate of step 1, 2, ...: a function of the step alone, so nothing of it needs to be saved."""
        return self.lr * min(1.0, step / self.warmup_steps) if self.warmup_steps else self.lr


class Source(Protocol):
    """Where micro batches come from."""

    waited_s: float

    def steps(self, position: int, num_steps: int) -> Iterator[list[Batch]]:
        """The micro batches of one worker, a list a step, from a position on."""
        ...


class StepReport(NamedTuple):
    """A step as it is told outwards."""

    step: int
    samples: int
    """Consumed since the run began."""
    loss: float
    """Mean over the global batch."""
    lr: float
    grad_norm: float
    step_time_s: float
    loader_stall_fraction: float
    """Share of the step's time that workers waited for batches."""
    skipped_steps: int
    """Since this process began."""
    is_last: bool
    """The plan's end, or the run was asked to stop."""


class Outside(Protocol):
    """Whom the loop talks to."""

    def is_stop_asked(self) -> bool:
        """Whether this worker was told to stop."""
        ...

    def mean(self, values: list[float]) -> list[float]:
        """Each value's mean over all workers."""
        ...

    def after_step(self, report: StepReport) -> None:
        """Log, checkpoint, validate; called by all workers."""
        ...

    def now_s(self) -> float:
        """A clock."""
        ...


def train(
    engine: Engine, source: Source, sample_losses: Callable[[Engine, Batch], Tensor], plan: Plan, outside: Outside
) -> None:
    """Do the plan's steps.

    Args:
        engine: The model and its optimizer.
        source: Micro batches.
        sample_losses: The loss of each sample of a micro batch, (B,).
        plan: `Plan`.
        outside: Told after every step.

    Raises:
        SkippedStepsError: `max_skipped_steps` steps in a row were skipped.
    """
    skipped, in_a_row = 0, 0
    started_s, waited_s = outside.now_s(), source.waited_s
    steps = source.steps(plan.first_sample, plan.last_step - plan.first_step)
    for step, batches in enumerate(steps, start=plan.first_step + 1):
        losses: list[Tensor] = []
        for batch in batches:
            loss_B = sample_losses(engine, batch)
            engine.backward(loss_B.mean())
            losses.append(loss_B.detach().double().mean())
        lr = plan.lr_at(step)
        outcome = engine.step(lr)
        skipped, in_a_row = (skipped, 0) if outcome.is_applied else (skipped + 1, in_a_row + 1)

        step_time_s = outside.now_s() - started_s
        stall = (source.waited_s - waited_s) / step_time_s
        loss = sum(float(value) for value in losses) / len(losses)
        loss, stall, stop = outside.mean([loss, stall, float(outside.is_stop_asked())])
        is_last = stop > 0 or step == plan.last_step
        samples = plan.first_sample + (step - plan.first_step) * plan.clips_per_step
        outside.after_step(StepReport(step, samples, loss, lr, outcome.grad_norm, step_time_s, stall, skipped, is_last))
        if in_a_row >= plan.max_skipped_steps:
            raise SkippedStepsError(f"step {step}: gradients not finite {in_a_row} steps in a row; last loss {loss}")
        if is_last:
            break
        started_s, waited_s = outside.now_s(), source.waited_s
