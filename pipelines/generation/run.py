"""The wiring of generation: requests -> Ray Data actors that hold the models -> mp4 files -> contact sheet.

The one module of this room that knows Ray.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.cluster import prepare_ray_data
from pipelines.contact_sheet import contact_sheet
from pipelines.generation.config import GenerateConfig
from pipelines.generation.recipe import Recipe
from pipelines.generation.refusal import Refusal
from pipelines.generation.requests import Request, kind, read_requests
from pipelines.generation.resolve import check_tasks, make_recipe
from pipelines.generation.sizes import RecipeError
from pipelines.generation.steps import make_count, read, teller
from pipelines.progress import shown
from pipelines.tracking import Run, start_run
from pipelines.video_file import read_video
from pipelines.xt_slice import xt_sheet

_FILES_LOGGED = 4


class Generated(NamedTuple):
    """What a run of generation did."""

    made: int
    finished_before: int
    out: str
    run_id: str
    refused: tuple[Refusal, ...] = ()
    """Requests without a video; a later run tries them again."""


def generate(
    config: GenerateConfig, cluster: Callable[[], AbstractContextManager[None]], clock: Callable[[], float]
) -> Generated:
    """Make the video of every request that is not finished yet.

    A request that cannot be used when its turn comes (a damaged file, a mask outside the input, a style that does not
    fit) costs its own video; all others are made, and it is told.

    Args:
        config: What, from what, to where.
        cluster: Connects to Ray; entered only when there is something to make.
        clock: Seconds since any moment; measures the work.

    Raises:
        RequestError: A request that cannot be used.
        BackboneError, WeightsError, RecipeError: A model, geometry, sampler or task that cannot be used.
    """
    requests = read_requests(config)
    recipe = make_recipe(config)
    check_tasks(recipe, requests)
    missing = [request for request in requests if not _is_done(recipe, request)]
    name = f"generate {Path(recipe.out).name}"
    params = config.model_dump() | {"inflation": asdict(recipe.model.inflation)}
    with start_run(config.tracking, name, {"job": "generate", "out": recipe.out}, params) as run:
        start, refused = clock(), tuple[Refusal, ...]()
        if missing:
            with cluster():
                refused = _make(missing, recipe, config)
        made, before = len(missing) - len(refused), len(requests) - len(missing)
        seconds = clock() - start
        _log(run, requests, refused, recipe, config.sheet_rows)
        run.log_metrics({"videos_made": made, "videos_finished_before": before, "videos_refused": len(refused)})
        if made:
            run.log_metrics({"seconds_per_video": seconds / made})
    return Generated(made, before, recipe.out, run.run_id, refused)


def _is_done(recipe: Recipe, request: Request) -> bool:
    """The video is there; what an earlier run said against it no longer counts."""
    is_finished = recipe.is_finished(request)
    if is_finished:
        recipe.error_path(request["prompt_id"]).unlink(missing_ok=True)
    return is_finished


def _make(requests: Sequence[Request], recipe: Recipe, config: GenerateConfig) -> tuple[Refusal, ...]:
    """Make the videos; returns what was refused, in the requests' order."""
    import ray

    from pipelines.generation.maker import MakerActor

    prepare_ray_data()
    resources = ray.cluster_resources()
    num_gpus = gpus_per_actor(config.gpus_per_actor, resources)
    recipe = replace(recipe, device="cuda" if num_gpus else "cpu")
    num_batches = -(-len(requests) // config.batch_size)
    # As text: a table of columns would turn what is not there into something else.
    rows: list[dict[str, Any]] = [{"request": json.dumps(request)} for request in sorted(requests, key=kind)]
    count = make_count()
    made = ray.data.from_items(rows, override_num_blocks=num_batches).map_batches(
        MakerActor,  # pyright: ignore[reportArgumentType]  # a class makes actors
        fn_constructor_args=(recipe, teller(count)),
        batch_size=config.batch_size,
        compute=ray.data.ActorPoolStrategy(size=_num_actors(config, num_gpus, num_batches, resources)),
        num_cpus=config.cpus_per_actor,
        num_gpus=num_gpus,
    )
    num_steps = sum(recipe.num_steps(request) for request in requests)
    with shown(partial(read, count), f"steps of {len(requests)} videos", num_steps):
        outcomes = [_checked(row) for row in made.iter_rows()]
    order = {request["prompt_id"]: place for place, request in enumerate(requests)}
    return tuple(sorted((one for one in outcomes if one.error), key=lambda one: order[one.prompt_id]))


def _checked(row: Mapping[str, Any]) -> Refusal:
    """What became of a request; the error is empty where its video was made."""
    if row["fault"]:
        raise RecipeError(row["fault"])
    return Refusal(row["prompt_id"], row["error"], row["reason"])


def gpus_per_actor(asked: int | None, resources: Mapping[str, float]) -> int:
    """One where the cluster has any, unless it is said."""
    if asked is not None:
        return asked
    return 1 if resources.get("GPU", 0) >= 1 else 0


def _num_actors(config: GenerateConfig, num_gpus: int, num_batches: int, resources: Mapping[str, float]) -> int:
    """No more than there are batches; as many as the cluster has room for, where no number is given."""
    if config.actors is not None:
        return min(config.actors, num_batches)
    gpus, cpus = resources.get("GPU", 0), resources.get("CPU", 0)
    room = gpus // num_gpus if num_gpus else cpus // config.cpus_per_actor
    return max(1, min(int(room), num_batches))


def _log(run: Run, requests: Sequence[Request], refused: Sequence[Refusal], recipe: Recipe, sheet_rows: int) -> None:
    run.log_table("tables/requests.json", requests)
    if refused:
        run.log_table("tables/refused.json", [one._asdict() for one in refused])
    without = {one.prompt_id for one in refused}
    shown = [request for request in requests if request["prompt_id"] not in without][:sheet_rows]
    if not shown:
        return
    paths = [recipe.paths(request["prompt_id"])[0] for request in shown]
    videos = [read_video(path).frames_THWC for path in paths]
    labels = [_label(request) for request in shown]
    run.log_image("videos", contact_sheet(videos, labels))
    run.log_image("xt_slices", xt_sheet(videos, labels))
    for path in paths[:_FILES_LOGGED]:
        run.log_file(path, "videos")


def _label(request: Request) -> str:
    task = "" if request["task"] == "text_to_video" else f"{request['task']}: "
    style = "" if request["style"] is None else f" ({Path(request['style']).stem}, alpha {request['alpha']:g})"
    return f"{task}{request['prompt']}{style}"
