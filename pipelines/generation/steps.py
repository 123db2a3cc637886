"""Denoising steps, counted over all actors: what the progress bar shows while videos are made.

One step of one video counts one. A message to the small actor that counts costs a fraction of a millisecond, and nobody
waits for it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

Tell = Callable[[int], None]
"""Told how many more steps were made."""


class StepCount:
    """The actor; see `make_count`."""

    def __init__(self) -> None:
        self._done = 0

    def add(self, number: int) -> None:
        """Count more steps."""
        self._done += number

    def read(self) -> int:
        """Steps so far."""
        return self._done


def make_count() -> Any:
    """A handle to a fresh count; it takes no CPU, and ends with the driver."""
    import ray

    return ray.remote(num_cpus=0)(StepCount).remote()


def teller(count: Any) -> Tell:
    """Adds to a count without waiting."""
    return partial(_add, count)


def read(count: Any) -> int:
    """Steps so far."""
    import ray

    done: int = ray.get(count.read.remote())
    return done


def _add(count: Any, number: int) -> None:
    count.add.remote(number)


class BatchSteps:
    """The steps of a batch of videos; `sampler.sample` and its kin call it after each of them.

    Args:
        tell: Told of them.
        num_videos: That are denoised together.
        num_steps: Planned for each; a schedule may make fewer.
    """

    def __init__(self, tell: Tell, num_videos: int, num_steps: int) -> None:
        self._tell, self._num_videos, self._left = tell, num_videos, num_videos * num_steps

    def __call__(self, done: int) -> None:
        """One more step of each video; `done` counts them and is not needed."""
        self._made(min(self._num_videos, self._left))

    def finish(self) -> None:
        """The videos are done, whatever was planned."""
        self._made(self._left)

    def _made(self, number: int) -> None:
        self._left -= number
        if number:
            self._tell(number)
