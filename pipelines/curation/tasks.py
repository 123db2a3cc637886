"""How stages become work of a cluster: the one module of curation that knows Ray.

A task does one slice from bytes to scored and encoded clips, or copies one shard. Tasks write whole files whose bytes
depend on nothing but their input, so one that is lost is done again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.ahead import ahead
from pipelines.cluster import prepare_ray_data
from pipelines.curation.align import Aligner, located
from pipelines.curation.config import AlignConfig, Recipe, RefreshConfig
from pipelines.curation.cutting import ShardJob, do_job
from pipelines.curation.isolation import PROGRAM, DecodingProcess
from pipelines.curation.prepare import Prepare
from pipelines.curation.scoring import Scored, align_clips, score_clips
from pipelines.curation.shards import Placed
from pipelines.curation.slices import Slice, align_slice, decode_slice, process_slice
from pipelines.progress import track

_COPYING_THREADS = 4
_SHARDS_AHEAD = 2  # per copier: what waits holds its rows in memory


Done = dict[str, Any]
"""{"id": slice, "decoded": clips, "error": text}; a disk that is full is a text: Ray would bury an error of ours."""
Copied = Iterator[list[Placed]]
"""Where the samples of each shard lie, shard by shard."""


class Scoring(NamedTuple):
    """What all slices of a work share."""

    dataset_root: str
    work: str
    recipe: Recipe
    scoring_hash: str
    program: Path
    align_actors: int | None

    def slice_(self, index: int) -> Slice:
        """The slice of that number."""
        return Slice(self.dataset_root, self.work, index, self.scoring_hash)


def log_report(*arguments: Any) -> None:
    """The report of a refresh, see `pipelines.curation.report`; what draws it is loaded when it is needed."""
    from pipelines.curation import report

    report.log_report(*arguments)


class Tasks(NamedTuple):
    """Who does the work: a cluster, or this process for tests and for little work."""

    decode: Callable[[Scoring, int], Iterator[Done]]
    """Does slices 0 to before a number, in any order; yields the results."""
    copy: Callable[[Iterable[ShardJob], str], Copied]
    """Writes shards below a data set's root, a bounded number of them ahead."""
    program: Path = PROGRAM
    """What decodes foreign bytes, in processes of its own; see `pipelines.curation.isolation`."""
    report: Callable[..., None] = log_report
    """Tells the tracker what came of it."""


def decode_slices(tasks: Tasks, dataset_root: str, work: str, num_slices: int, config: RefreshConfig) -> int:
    """Have every slice done that is not done yet; returns the number of clips decoded.

    Raises:
        OSError: A slice cannot be written.
    """
    recipe = config.recipe.model_copy(update={"align": located(config.align)})
    program, actors = tasks.program, config.align_actors
    scoring = Scoring(dataset_root, work, recipe, config.scoring_hash, program, actors)
    num_decoded = 0
    for row in track(tasks.decode(scoring, num_slices), "slices of clips", total=num_slices):
        if row["error"]:
            raise OSError(row["error"])
        num_decoded += row["decoded"]
    return num_decoded


def _decode_by_ray(scoring: Scoring, num_slices: int) -> Iterator[Done]:
    import ray

    prepare_ray_data()
    resources = ray.cluster_resources()
    slices = ray.data.range(num_slices, override_num_blocks=num_slices)
    num_actors = _num_actors(scoring, resources)
    if not num_actors:
        yield from slices.map(partial(_in_worker, do_slice, scoring), num_cpus=1).iter_rows()
        return
    has_gpus = resources.get("GPU", 0) > 0
    decoded = slices.map(partial(_in_worker, decode_only, scoring), num_cpus=1)
    aligned = decoded.map(
        AlignActor,  # pyright: ignore[reportArgumentType]  # a class makes actors
        fn_constructor_args=(scoring,),
        compute=ray.data.ActorPoolStrategy(size=num_actors),
        num_gpus=1 if has_gpus else 0,
        num_cpus=0 if has_gpus else 1,
    )
    yield from aligned.iter_rows()


def _num_actors(scoring: Scoring, resources: Mapping[str, float]) -> int:
    """Actors that align; 0: tasks do. Actors on CPUs leave one to the tasks, or the pipeline would wait for ever."""
    if scoring.recipe.align.model is None:
        return 0
    num_gpus, num_cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 0))
    asked = num_gpus if scoring.align_actors is None else scoring.align_actors
    return min(asked, num_gpus if num_gpus else num_cpus - 1)


def _copy_by_ray(jobs: Iterable[ShardJob], dataset_root: str) -> Copied:
    import ray

    copy = ray.remote(num_cpus=1, max_retries=-1)(do_job)
    num_ahead = _SHARDS_AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
    yield from map(ray.get, ahead((copy.remote(job, dataset_root) for job in jobs), num_ahead))


def _decode_here(scoring: Scoring, num_slices: int) -> Iterator[Done]:
    with DecodingProcess(scoring.recipe, scoring.program) as prepare:
        for index in range(num_slices):
            yield do_slice({"id": index}, scoring, prepare)


def _copy_here(jobs: Iterable[ShardJob], dataset_root: str) -> Copied:
    with ThreadPoolExecutor(_COPYING_THREADS) as pool:
        started = (pool.submit(do_job, job, dataset_root) for job in jobs)
        for copied in ahead(started, _SHARDS_AHEAD * _COPYING_THREADS):
            yield copied.result()


BY_RAY = Tasks(_decode_by_ray, _copy_by_ray)
HERE = Tasks(_decode_here, _copy_here)


def do_slice(row: Mapping[str, Any], scoring: Scoring, prepare: Prepare) -> Done:
    """A slice from bytes to scores."""
    score = partial(score_clips, recipe=scoring.recipe, prepare=prepare)
    return _done(row, partial(process_slice, scoring.slice_(int(row["id"])), score, _align(scoring.recipe.align)))


def decode_only(row: Mapping[str, Any], scoring: Scoring, prepare: Prepare) -> Done:
    """A slice from bytes to what alignment looks at."""
    score = partial(score_clips, recipe=scoring.recipe, prepare=prepare)
    return _done(row, partial(decode_slice, scoring.slice_(int(row["id"])), score))


def _in_worker(
    work: Callable[[Mapping[str, Any], Scoring, Prepare], Done], scoring: Scoring, row: Mapping[str, Any]
) -> Done:
    """With the process that decodes for this worker of Ray."""
    return work(row, scoring, _decoding_process(scoring.recipe.model_dump_json(), scoring.program))


class AlignActor:
    """Aligns decoded slices, its model loaded once. Frames come by the slice's file: none pass the object store."""

    def __init__(self, scoring: Scoring) -> None:
        self._scoring, self._align = scoring, _align(scoring.recipe.align)

    def __call__(self, row: Mapping[str, Any]) -> Done:
        """Finish a slice that could be decoded."""
        if row["error"]:
            return dict(row)
        decoded = _done(row, partial(align_slice, self._scoring.slice_(int(row["id"])), self._align))
        return {**decoded, "decoded": row["decoded"]}


def _done(row: Mapping[str, Any], work: Callable[[], int | None]) -> Done:
    try:
        return {"id": row["id"], "decoded": work() or 0, "error": ""}
    except OSError as error:
        return {"id": row["id"], "decoded": 0, "error": str(error)}


def _align(config: AlignConfig) -> Callable[[Sequence[Scored]], Sequence[Scored]]:
    """Nothing, where alignment is left out."""
    return list if config.model is None else partial(align_clips, aligner=_aligner(config.model_dump_json()))


@lru_cache(maxsize=1)
def _decoding_process(recipe_json: str, program: Path) -> DecodingProcess:
    """The process that decodes for this worker; it ends with the worker."""
    return DecodingProcess(Recipe.model_validate_json(recipe_json), program)


@cache
def _aligner(config_json: str) -> Aligner:
    """The model, loaded once a worker."""
    import torch

    if torch.cuda.is_available():
        return Aligner(AlignConfig.model_validate_json(config_json), "cuda")
    torch.set_num_threads(1)  # a task has one CPU
    return Aligner(AlignConfig.model_validate_json(config_json))
