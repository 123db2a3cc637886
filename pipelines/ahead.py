"""Work that is started before its turn, in order, a bounded number of pieces at a time."""

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Started = TypeVar("Started")


@contextmanager
def one_thread() -> Generator[ThreadPoolExecutor]:
    """A thread beside this one; at the end of the block, an error's too, what it has not begun is left undone."""
    pool = ThreadPoolExecutor(1)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def ahead(started: Iterable[Started], number: int) -> Iterator[Started]:
    """Yield what an iterator starts (such as futures) in its order, up to `number` of them under way.

    Args:
        started: Each step of it starts a piece of work; it is stepped no further than `number` pieces ahead.
        number: At least 1: then nothing is ahead.
    """
    waiting = deque[Started]()
    for one in started:
        waiting.append(one)
        if len(waiting) >= number:
            yield waiting.popleft()
    yield from waiting
