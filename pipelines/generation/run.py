"""The wiring of generation: requests -> Ray Data actors that hold the model -> mp4 files -> contact sheet.

The one module of this room that knows Ray.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.cluster import prepare_ray_data
from pipelines.contact_sheet import contact_sheet
from pipelines.generation.config import GenerateConfig
from pipelines.generation.recipe import Recipe, check_tasks, make_recipe
from pipelines.generation.requests import Request, kind, read_requests
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


def generate(
    config: GenerateConfig, cluster: Callable[[], AbstractContextManager[None]], clock: Callable[[], float]
) -> Generated:
    """Make the video of every request that is not finished yet.

    Args:
        config: What, from what, to where.
        cluster: Connects to Ray; entered only when there is something to make.
        clock: Seconds since any moment; measures the work.

    Raises:
        RequestError: A request that cannot be used.
        BackboneError, WeightsError, RecipeError, StyleError: A model, geometry, task or style that cannot be used.
    """
    requests = read_requests(config)
    recipe = make_recipe(config)
    check_tasks(recipe, requests)
    missing = [request for request in requests if not recipe.is_finished(request)]
    name = f"generate {Path(recipe.out).name}"
    params = config.model_dump() | {"inflation": asdict(recipe.model.inflation)}
    with start_run(config.tracking, name, {"job": "generate", "out": recipe.out}, params) as run:
        start = clock()
        if missing:
            with cluster():
                _make(missing, recipe, config)
        _log(run, requests, recipe, config.sheet_rows)
        seconds = clock() - start
        run.log_metrics({"videos_made": len(missing), "videos_finished_before": len(requests) - len(missing)})
        if missing:
            run.log_metrics({"seconds_per_video": seconds / len(missing)})
    return Generated(len(missing), len(requests) - len(missing), recipe.out, run.run_id)


def _make(requests: Sequence[Request], recipe: Recipe, config: GenerateConfig) -> None:
    import ray

    from pipelines.generation.maker import VideoMaker

    prepare_ray_data()
    num_batches = -(-len(requests) // config.batch_size)
    # As text: a table of columns would turn what is not there into something else.
    rows: list[dict[str, Any]] = [{"request": json.dumps(request)} for request in sorted(requests, key=kind)]
    count = make_count()
    made = ray.data.from_items(rows, override_num_blocks=num_batches).map_batches(
        VideoMaker,
        fn_constructor_args=(recipe, teller(count)),
        batch_size=config.batch_size,
        compute=ray.data.ActorPoolStrategy(size=_num_actors(config, num_batches, ray.cluster_resources())),
        num_cpus=config.cpus_per_actor,
        num_gpus=config.gpus_per_actor,
    )
    num_steps = sum(recipe.num_steps(request) for request in requests)
    with shown(partial(read, count), f"steps of {len(requests)} videos", num_steps):
        for _ in made.iter_rows():
            pass


def _num_actors(config: GenerateConfig, num_batches: int, resources: Mapping[str, float]) -> int:
    """No more than there are batches; as many as the cluster has room for, where no number is given."""
    if config.actors is not None:
        return min(config.actors, num_batches)
    if config.gpus_per_actor:
        room = resources.get("GPU", 0) // config.gpus_per_actor
    else:
        room = resources.get("CPU", 0) // config.cpus_per_actor
    return max(1, min(int(room), num_batches))


def _log(run: Run, requests: Sequence[Request], recipe: Recipe, sheet_rows: int) -> None:
    shown = requests[:sheet_rows]
    paths = [recipe.paths(request["prompt_id"])[0] for request in shown]
    videos = [read_video(path).frames_THWC for path in paths]
    labels = [_label(request) for request in shown]
    run.log_image("videos", contact_sheet(videos, labels))
    run.log_image("xt_slices", xt_sheet(videos, labels))
    run.log_table("tables/requests.json", requests)
    for path in paths[:_FILES_LOGGED]:
        run.log_file(path, "videos")


def _label(request: Request) -> str:
    task = "" if request["task"] == "text_to_video" else f"{request['task']}: "
    style = "" if request["style"] is None else f" ({Path(request['style']).stem}, alpha {request['alpha']:g})"
    return f"{task}{request['prompt']}{style}"
