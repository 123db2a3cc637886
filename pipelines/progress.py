"""Progress bars of long work, on standard error so that results on standard output stay clean."""

import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

T = TypeVar("T")


def track(iterable: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield what `iterable` yields, with a bar that shows count, elapsed and remaining time.

    Args:
        iterable: Any iterable.
        description: What is counted, such as "decoding".
        total: Number of items; taken from `len(iterable)` where it has one.
    """
    with _bar() as progress:
        yield from progress.track(iterable, total=total, description=description)


@contextmanager
def shown(count: Callable[[], int], description: str, total: int, poll_s: float = 0.5) -> Generator[None]:
    """A bar for work that goes on elsewhere: `count` is asked, from a thread, how much of it is done.

    Args:
        count: What is done so far; more than `total` counts as `total`.
        description: What is counted.
        total: When all is done.
        poll_s: Seconds between two questions.
    """
    done = threading.Event()

    def show() -> None:
        with _bar() as progress:
            task, is_done = progress.add_task(description, total=total), False
            while not is_done:
                is_done = done.wait(poll_s)
                progress.update(task, completed=min(count(), total))

    thread = threading.Thread(target=show, name="progress")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _bar() -> Progress:
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), refresh_per_second=4)
