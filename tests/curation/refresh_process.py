"""Run as a process of its own: a refresh that can be killed, without a cluster unless `on_ray=` is given.

    python refresh_process.py [on_ray=N] [kill_at=EVENT:N] [shuffle_tasks=SEED] key=value ...

`kill_at` has the process kill itself, as by kill -9, right before the N-th event of that name: a rename, a link, a
removal or the opening of a file, as Python's own audit hooks tell them, or `commit`.
"""

import os
import random
import signal
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pipelines.cluster import RayConfig, ray_cluster
from pipelines.config import load_config
from pipelines.curation.config import RefreshConfig
from pipelines.curation.isolation import DecodingProcess
from pipelines.curation.refresh import refresh
from pipelines.curation.summary import describe
from pipelines.curation.tasks import BY_RAY, HERE, Done, Scoring, Tasks, do_slice


def kill_at(event: str, number: int) -> None:
    """Have this process kill itself right before the event happens for the `number`-th time below a data set."""
    left = [number]

    def watch(name: str, arguments: tuple[Any, ...]) -> None:
        # Files of the refresh's own kind: what libraries open to be imported is not counted.
        if name == event and any(isinstance(word, str) and "/data" in word for word in map(_text, arguments)):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def _text(argument: object) -> object:
    return os.fspath(argument) if isinstance(argument, os.PathLike) else argument


def shuffled(seed: int) -> Tasks:
    """Slices in another order than planned."""

    def decode(scoring: Scoring, num_slices: int) -> Iterator[Done]:
        order = list(range(num_slices))
        random.Random(seed).shuffle(order)
        with DecodingProcess(scoring.recipe, scoring.program) as prepare:
            for index in order:
                yield do_slice({"id": index}, scoring, prepare)

    return HERE._replace(decode=decode)


def main(words: list[str]) -> None:
    own = dict(word.split("=", 1) for word in words if word.split("=")[0] in ("on_ray", "kill_at", "shuffle_tasks"))
    config = load_config(RefreshConfig, None, [word for word in words if word.split("=")[0] not in own])
    if "kill_at" in own:
        event, _, number = own["kill_at"].partition(":")
        kill_at(event, int(number))
    tasks = shuffled(int(own["shuffle_tasks"])) if "shuffle_tasks" in own else HERE
    cluster: Any = nullcontext
    if "on_ray" in own:
        tasks = BY_RAY
        cluster = partial(ray_cluster, RayConfig(num_cpus=int(own["on_ray"]), object_store_bytes=128 * 1024**2), {})
    silent = tasks._replace(report=lambda *arguments: None)
    print(describe(refresh(config, cluster, partial(datetime.now, UTC), tasks=silent)))


if __name__ == "__main__":
    main(sys.argv[1:])
