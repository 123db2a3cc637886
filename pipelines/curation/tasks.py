"""How stages become work of a cluster: the one module of curation that knows Ray.

A task does one slice from bytes to scored and encoded clips, or copies one shard. Tasks write whole files whose bytes
depend on nothing but their input, so one that is lost is done again.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any, NamedTuple

from pipelines.curation.align import Aligner, located
from pipelines.curation.config import AlignConfig, Recipe, RefreshConfig
from pipelines.curation.cutting import ShardJob, do_job
from pipelines.curation.scoring import score_clip
from pipelines.curation.shards import Placed
from pipelines.curation.slices import process_slice
from pipelines.progress import track

_COPYING_THREADS = 4
_SHARDS_AHEAD = 2  # per copier: what waits holds its rows in memory


Task = Callable[[Mapping[str, Any]], dict[str, Any]]
"""{"id": slice} -> {"decoded": clips, "error": text}"""
Copied = Iterator[list[Placed]]
"""Where the samples of each shard lie, shard by shard."""


def log_report(*arguments: Any) -> None:
    """The report of a refresh, see `pipelines.curation.report`; what draws it is loaded when it is needed."""
    from pipelines.curation import report

    report.log_report(*arguments)


class Tasks(NamedTuple):
    """Who does the work: a cluster, or this process for tests and for little work."""

    decode: Callable[[Task, int], Iterator[dict[str, Any]]]
    """Does slices 0 to before a number, in any order; yields the results."""
    copy: Callable[[Iterable[ShardJob], str], Copied]
    """Writes shards below a data set's root, a bounded number of them ahead."""
    report: Callable[..., None] = log_report
    """Tells the tracker what came of it."""


def decode_slices(tasks: Tasks, dataset_root: str, work: str, num_slices: int, config: RefreshConfig) -> int:
    """Have every slice done that is not done yet; returns the number of clips decoded.

    Raises:
        OSError: A slice cannot be written.
    """
    recipe = config.recipe.model_copy(update={"align": located(config.align)})
    task = partial(_slice_task, dataset_root=dataset_root, work=work, recipe=recipe, scoring_hash=config.scoring_hash)
    num_decoded = 0
    for row in track(tasks.decode(task, num_slices), "slices of clips", total=num_slices):
        if row["error"]:
            raise OSError(row["error"])
        num_decoded += row["decoded"]
    return num_decoded


def _decode_by_ray(task: Task, num_slices: int) -> Iterator[dict[str, Any]]:
    import ray

    # One fused operator needs no share of the CPUs kept back for others (half of them, on two cores).
    context = ray.data.DataContext.get_current()
    context.op_resource_reservation_enabled = False
    context.enable_progress_bars = context.print_on_execution_start = False
    yield from ray.data.range(num_slices, override_num_blocks=num_slices).map(task, num_cpus=1).iter_rows()


def _copy_by_ray(jobs: Iterable[ShardJob], dataset_root: str) -> Copied:
    import ray

    copy = ray.remote(num_cpus=1, max_retries=-1)(do_job)
    num_ahead = _SHARDS_AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
    waiting: deque[Any] = deque()
    for job in jobs:
        waiting.append(copy.remote(job, dataset_root))
        if len(waiting) >= num_ahead:
            yield ray.get(waiting.popleft())
    while waiting:
        yield ray.get(waiting.popleft())


def _decode_here(task: Task, num_slices: int) -> Iterator[dict[str, Any]]:
    return (task({"id": index}) for index in range(num_slices))


def _copy_here(jobs: Iterable[ShardJob], dataset_root: str) -> Copied:
    with ThreadPoolExecutor(_COPYING_THREADS) as pool:
        waiting: deque[Any] = deque()
        for job in jobs:
            waiting.append(pool.submit(do_job, job, dataset_root))
            if len(waiting) >= _SHARDS_AHEAD * _COPYING_THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


BY_RAY = Tasks(_decode_by_ray, _copy_by_ray)
HERE = Tasks(_decode_here, _copy_here)


def _slice_task(
    row: Mapping[str, Any], dataset_root: str, work: str, recipe: Recipe, scoring_hash: str
) -> dict[str, int | str]:
    """One slice, in a worker of Ray. A disk that is full is told as a value: Ray would bury it in its own errors."""
    from av import logging

    # PyAV's own log callback takes the interpreter's lock in the decoder's threads and can deadlock.
    logging.restore_default_callback()
    logging.set_level(logging.PANIC)
    aligner = _aligner(recipe.align.model_dump_json()) if recipe.align.model is not None else None
    score = partial(score_clip, recipe=recipe, aligner=aligner)
    try:
        return {"decoded": process_slice(dataset_root, work, int(row["id"]), scoring_hash, score), "error": ""}
    except OSError as error:
        return {"decoded": 0, "error": str(error)}


@cache
def _aligner(config_json: str) -> Aligner:
    """The model, loaded once a worker."""
    import torch

    torch.set_num_threads(1)  # a task has one CPU
    return Aligner(AlignConfig.model_validate_json(config_json))
