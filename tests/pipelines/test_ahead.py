"""Work before its turn: bounded, in order, and not begun once an error has ended the block."""

import threading
from concurrent.futures import Future

import pytest

from pipelines.ahead import ahead, one_thread


def test_no_more_than_the_number_asked_for_is_under_way() -> None:
    started = list[int]()
    yielded = ahead((started.append(number) or number for number in range(5)), 2)
    assert next(yielded) == 0
    assert started == [0, 1]
    assert list(yielded) == [1, 2, 3, 4]


def test_what_was_not_begun_when_an_error_ends_the_block_is_left_undone() -> None:
    may_end, done = threading.Event(), list[int]()

    def work(number: int) -> None:
        may_end.wait()
        done.append(number)

    under_way = list[Future[None]]()
    with pytest.raises(KeyError), one_thread() as pool:  # noqa: PT012
        under_way += [pool.submit(work, number) for number in range(3)]
        while not under_way[0].running():
            pass
        threading.Timer(0.2, may_end.set).start()
        raise KeyError
    assert done == [0]
    assert [future.cancelled() for future in under_way] == [False, True, True]
