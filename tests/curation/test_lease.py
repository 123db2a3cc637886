"""Of all who want to write a data set, one may; who is silent for too long loses it."""

import multiprocessing
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobs.refresh import _is_dead, _own_name
from pipelines.curation.lease import Holder, Lease, LeaseHeldError, LeaseLostError, leased


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.time = datetime(2030, 1, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def take(tmp_path: Path, clock: Clock) -> Callable[..., Lease]:
    def take(name: str, is_gone: Callable[[str], bool] = lambda name: False) -> Lease:
        return Lease(str(tmp_path / "data"), Holder(name, is_gone), 300, clock)

    return take


def test_the_second_is_refused_and_told_who_holds_it_and_until_when(take: Callable[..., Lease], clock: Clock) -> None:
    take("host a")
    clock.advance(299)
    with pytest.raises(LeaseHeldError, match=r"host a writes it, until 2030-01-01T12:05:00\+00:00"):
        take("host b")


def test_who_is_silent_for_too_long_loses_it(take: Callable[..., Lease], clock: Clock) -> None:
    first = take("host a")
    clock.advance(300)
    second = take("host b")
    second.check()
    for call in (first.check, first.renew):
        with pytest.raises(LeaseLostError, match="host a"):
            call()
    first.release()
    second.check()
    with pytest.raises(LeaseHeldError, match="host b"):
        take("host a")


def test_who_renews_it_keeps_it(take: Callable[..., Lease], clock: Clock) -> None:
    first = take("host a")
    for _ in range(3):
        clock.advance(200)
        first.renew()
    with pytest.raises(LeaseHeldError, match="until 2030-01-01T12:15:00"):
        take("host b")


def test_who_is_done_gives_it_back_at_once(take: Callable[..., Lease]) -> None:
    take("host a").release()
    take("host b").check()


def test_who_is_known_to_be_dead_need_not_be_waited_for(take: Callable[..., Lease]) -> None:
    take("host a")
    take("host b", lambda name: name == "host a").check()


def test_one_file_is_left_however_often_it_is_renewed(take: Callable[..., Lease], tmp_path: Path) -> None:
    lease = take("host a")
    for _ in range(5):
        lease.renew()
    lease.release()
    assert [path.name for path in (tmp_path / "data" / "lease").iterdir()] == ["0000000007.json"]


def test_a_block_renews_in_the_background_and_gives_back_at_its_end(tmp_path: Path) -> None:
    dataset = str(tmp_path / "data")

    def newest() -> str:
        return max(path.name for path in (tmp_path / "data" / "lease").glob("*.json"))

    with leased(dataset, Holder("host a"), 0.15, lambda: datetime.now(UTC)) as lease:
        taken = newest()
        while newest() <= taken:
            pass
        lease.check()
    with leased(dataset, Holder("host b"), 300, lambda: datetime.now(UTC)) as lease:
        lease.check()


def test_a_process_is_known_to_be_dead_only_where_its_number_means_something(python: str) -> None:
    told = "from jobs.refresh import _own_name; print(_own_name())"
    ended = subprocess.run([python, "-c", told], capture_output=True, text=True, check=True).stdout.strip()
    assert _is_dead(ended)
    assert not _is_dead(_own_name())
    host, boot, space, rest = ended.split(" ", 3)
    for other in (f"{host} {boot[::-1]} {space} {rest}", f"{host} {boot} pid:[1] {rest}", f"{host} {rest}"):
        assert not _is_dead(other)


def _try_to_take(dataset: str, name: str, start: datetime) -> bool:
    try:
        Lease(dataset, Holder(name), 300, lambda: start)
    except (LeaseHeldError, LeaseLostError):
        return False
    return True


@pytest.mark.slow
def test_of_many_processes_at_once_exactly_one_gets_it(tmp_path: Path) -> None:
    start = datetime(2030, 1, 1, tzinfo=UTC)
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        for number in range(20):
            dataset = str(tmp_path / str(number))
            won = pool.starmap(_try_to_take, [(dataset, f"process {name}", start) for name in range(8)], chunksize=1)
            assert sum(won) == 1
