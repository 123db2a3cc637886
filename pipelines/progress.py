"""Progress bars of long work, on standard error so that results on standard output stay clean."""

from collections.abc import Iterable, Iterator
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
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as progress:
        yield from progress.track(iterable, total=total, description=description)
