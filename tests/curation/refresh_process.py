"""Run as a process of its own: a refresh that can be killed, without a cluster unless `on_ray=` is given.

    python refresh_process.py [on_ray=N] [events=FILE] [kill_at=NUMBER] [kill_workers_at=FOLDER:N,N,...]
        [kill_when=GLOB] [shuffle_tasks=SEED] key=value ...

Events are renames, links, removals and openings of files below a data set, told by the audit hooks of Python right
before they happen; `events` lists them, a name a line. `kill_at` has the process kill itself by SIGKILL right before
the event of that number; `kill_when` does as soon as a file below the data set matches: libraries that are not Python
tell no events. `kill_workers_at` has workers of Ray kill themselves before their N-th event, one worker for each N; the
folder keeps count of those that did.
"""

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from jobs.refresh import _is_dead, _own_name
from pipelines.cluster import RayConfig, prepare_ray_data, ray_cluster
from pipelines.config import load_config
from pipelines.curation import tasks as curation_tasks
from pipelines.curation.config import RefreshConfig
from pipelines.curation.isolation import DecodingProcess
from pipelines.curation.lease import Holder
from pipelines.curation.refresh import refresh
from pipelines.curation.summary import describe
from pipelines.curation.tasks import BY_RAY, HERE, Done, Scoring, Tasks, do_slice

EVENTS = ("os.rename", "os.link", "os.remove", "open")
OWN = ("on_ray", "events", "kill_at", "kill_workers_at", "kill_when", "shuffle_tasks")


def watch(told: Callable[[str], None]) -> None:
    """Have each event of this process told right before it happens."""

    def hook(name: str, arguments: tuple[Any, ...]) -> None:
        # Files of the refresh's own kind: what libraries open to be imported is not counted.
        if name in EVENTS and any(isinstance(word, str) and "/data" in word for word in map(_text, arguments)):
            told(name)

    sys.addaudithook(hook)


def list_events(path: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    watch(lambda name: os.write(file, f"{name}\n".encode()) and None)


def kill_at(number: int) -> None:
    """Have this process kill itself right before its event of that number, from 1 on."""
    left = [number]

    def count(name: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    watch(count)


def kill_when(dataset: str, pattern: str) -> None:
    """Have this process kill itself as soon as a file below the data set matches."""

    def wait() -> None:
        while not any(Path(dataset).glob(pattern)):
            time.sleep(0.0002)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def _text(argument: object) -> object:
    return os.fspath(argument) if isinstance(argument, os.PathLike) else argument


def _kill_worker_at(folder: str, numbers: Sequence[int]) -> None:
    """Once in a worker: it dies of the first number that no worker has died of yet."""
    if "IS_MORTAL" in os.environ:
        return
    os.environ["IS_MORTAL"] = "yes"
    left = [0]

    def count(name: str) -> None:
        left[0] += 1
        num_dead = len(list(Path(folder).iterdir()))
        if num_dead == len(numbers) or left[0] < numbers[num_dead]:
            return
        try:
            Path(folder, str(num_dead)).mkdir()
        except FileExistsError:
            return  # another worker was faster
        os.kill(os.getpid(), signal.SIGKILL)

    watch(count)


def _in_mortal_worker(folder: str, numbers: Sequence[int], scoring: Scoring, row: Mapping[str, Any]) -> Done:
    _kill_worker_at(folder, numbers)
    return curation_tasks._in_worker(do_slice, scoring, row)


def mortal_workers(folder: str, numbers: Sequence[int]) -> Tasks:
    """Workers of Ray, of which some die."""

    def decode(scoring: Scoring, num_slices: int) -> Iterator[Done]:
        import ray

        prepare_ray_data()
        slices = ray.data.range(num_slices, override_num_blocks=num_slices)
        yield from slices.map(partial(_in_mortal_worker, folder, numbers, scoring), num_cpus=1).iter_rows()

    return BY_RAY._replace(decode=decode)


def shuffled(seed: int) -> Tasks:
    """Slices in another order than planned."""

    def decode(scoring: Scoring, num_slices: int) -> Iterator[Done]:
        order = list(range(num_slices))
        random.Random(seed).shuffle(order)
        with DecodingProcess(scoring.recipe, scoring.program) as prepare:
            for index in order:
                yield do_slice({"id": index}, scoring, prepare)

    return HERE._replace(decode=decode)


def kill(own: Mapping[str, str], dataset: str) -> None:
    """What of the own words is about this process."""
    if "events" in own:
        list_events(own["events"])
    if "kill_at" in own:
        kill_at(int(own["kill_at"]))
    if "kill_when" in own:
        kill_when(dataset, own["kill_when"])


def main(words: list[str]) -> None:
    own = dict(word.split("=", 1) for word in words if word.split("=")[0] in OWN)
    config = load_config(RefreshConfig, None, [word for word in words if word.split("=")[0] not in own])
    kill(own, config.dataset)
    tasks = shuffled(int(own["shuffle_tasks"])) if "shuffle_tasks" in own else HERE
    cluster: Any = nullcontext
    if "on_ray" in own:
        tasks = BY_RAY
        cluster = partial(ray_cluster, RayConfig(num_cpus=int(own["on_ray"]), object_store_bytes=128 * 1024**2), {})
    if "kill_workers_at" in own:
        folder, _, numbers = own["kill_workers_at"].partition(":")
        tasks = mortal_workers(folder, tuple(map(int, numbers.split(","))))
    silent = tasks._replace(report=lambda *arguments: None)
    print(describe(refresh(config, cluster, partial(datetime.now, UTC), Holder(_own_name(), _is_dead), silent)))


if __name__ == "__main__":
    main(sys.argv[1:])
