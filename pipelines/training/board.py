"""The board between the driver and worker 0: progress goes one way, the wish to stop the other.

`ray.train.report` would make a step some thirty times slower; a message to this small actor costs a fraction of a
millisecond, and nobody waits for it.
"""

import threading
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy


@dataclass(frozen=True)
class Standing:
    """How far a run is."""

    step: int = 0
    first_loss: float | None = None
    """Of the first step since the job began."""
    last_loss: float | None = None
    is_stopped: bool = False
    """It ended before its last step because it was asked to."""
    failure: str | None = None
    """Why it ended, where to start its workers again would lead to the same end."""


class Board:
    """The actor; see `make_board`."""

    def __init__(self) -> None:
        self._standing = Standing()
        self._is_stop_asked = False

    def tell(self, step: int, loss: float) -> bool:
        """Write a step on the board; answers whether the run shall stop."""
        first = self._standing.first_loss if self._standing.first_loss is not None else loss
        self._standing = replace(self._standing, step=step, first_loss=first, last_loss=loss)
        return self._is_stop_asked

    def tell_stopped(self) -> None:
        """Write that the run stopped because it was asked to."""
        self._standing = replace(self._standing, is_stopped=True)

    def tell_failed(self, why: str) -> None:
        """Write that the run ended, and need not be tried again."""
        self._standing = replace(self._standing, failure=why)

    def ask_stop(self) -> None:
        """Ask the run to stop after the step it is in."""
        self._is_stop_asked = True

    def read(self) -> Standing:
        """What is on the board."""
        return self._standing


def make_board() -> Any:
    """A handle to a fresh board; it takes no CPU, and ends with the driver.

    On the driver's node: Ray puts what takes no CPU anywhere, and a drained node would take the board with it.
    """
    # Any: Ray tells only of other strategies in its types.
    here: Any = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=here)(Board).remote()


def read(board: Any) -> Standing:
    """What is on a board."""
    standing: Any = ray.get(board.read.remote())
    return standing


class BoardWriter:
    """Worker 0's side: tells and hears without waiting."""

    def __init__(self, board: Any) -> None:
        self._board = board
        self._asked: Any = None
        self._is_stop_asked = False

    def tell(self, step: int, loss: float) -> None:
        """Write a step, and take in what the board has answered meanwhile."""
        self._hear(timeout_s=0.0)
        if self._asked is None:
            self._asked = self._board.tell.remote(step, loss)
        else:
            self._board.tell.remote(step, loss)

    def is_stop_asked(self) -> bool:
        """Whether the driver wants the run to stop, as far as is known here."""
        self._hear(timeout_s=0.0)
        return self._is_stop_asked

    def tell_stopped(self) -> None:
        """Write that the run stopped because it was asked to."""
        ray.get(self._board.tell_stopped.remote())

    def tell_failed(self, why: str) -> None:
        """Write that the run ended, and need not be tried again."""
        ray.get(self._board.tell_failed.remote(why))

    def _hear(self, timeout_s: float) -> None:
        if self._asked is not None and ray.wait([self._asked], timeout=timeout_s)[0]:
            self._is_stop_asked = self._is_stop_asked or bool(ray.get(self._asked))
            self._asked = None


def follow(board: Any, stop: threading.Event) -> int:
    """The driver's side: steps done so far; hands `stop` on to the run."""
    if stop.is_set():
        ray.get(board.ask_stop.remote())
    return read(board).step
