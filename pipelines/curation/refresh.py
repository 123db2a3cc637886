"""The wiring of curation: manifest -> plan -> slices -> selection -> shards -> catalog -> report.

The one module that knows how stages become Ray Data operators. A task does one slice from bytes to scored and encoded
clips; what comes after copies bytes and is done by the driver.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.cluster import prepare_ray_data
from pipelines.config import config_hash
from pipelines.curation.align import Aligner, located
from pipelines.curation.catalog import SCHEMA, Catalog, commit, open_if_there
from pipelines.curation.config import AlignConfig, Recipe, RefreshConfig
from pipelines.curation.isolation import PROGRAM, DecodingProcess
from pipelines.curation.manifest import read_manifest
from pipelines.curation.plan import Plan, make_plan
from pipelines.curation.records import Sample
from pipelines.curation.scoring import score_clip
from pipelines.curation.selection import select
from pipelines.curation.shards import Placed, write_shards
from pipelines.curation.slices import process_slice, read_blob, read_slices, write_plan
from pipelines.curation.summary import RefreshSummary
from pipelines.progress import track
from pipelines.storage import write_whole

_SOURCE_FACTS = ("codec", "source_width", "source_height", "source_fps", "source_duration_s", "source_bytes")
_SCORES = ("brightness", "motion", "cut", "bars", "sharpness", "align_score")


def refresh(
    config: RefreshConfig,
    cluster: Callable[[], AbstractContextManager[None]],
    now: Callable[[], datetime],
    program: Path = PROGRAM,
) -> RefreshSummary:
    """Bring a data set up to date with its manifest; the first refresh makes it.

    Args:
        config: What, from where, to where.
        cluster: Connects to Ray; entered only when there are clips to decode.
        now: The time, with its zone: names the refresh and measures it.
        program: What decodes foreign bytes, in processes of its own; see `pipelines.curation.isolation`.

    Raises:
        ManifestError: The manifest cannot be used.
        VerdictSumError: The verdicts do not add up; nothing was committed.
    """
    start = now()
    refresh_id = start.strftime("%Y%m%dT%H%M%S.%f")
    catalog = open_if_there(config.dataset)
    plan = make_plan(read_manifest(config.manifest), catalog, config_hash(config.recipe))
    decoded, run_id = 0, None
    if not plan.is_empty:
        catalog, decoded, run_id = _tracked(
            config, refresh_id, plan, catalog, partial(_decode, cluster=cluster, program=program)
        )
    assert catalog is not None, "a manifest has a clip, so the first plan is not empty"
    counts, seconds = catalog.verdicts(), (now() - start).total_seconds()
    summary = RefreshSummary(
        refresh_id=refresh_id,
        dataset=config.dataset,
        version=catalog.version,
        clips=plan.num_clips,
        new=plan.num_new,
        changed=plan.num_changed,
        removed=len(plan.removed_ids),
        unchanged=plan.num_unchanged,
        decoded=decoded,
        kept=counts.get("kept", 0),
        by_verdict=counts,
        align_model=config.align.model,
        seconds=round(seconds, 3),
        clips_per_s=round(decoded / seconds, 3) if seconds else 0.0,
        run_id=run_id,
    )
    record = json.dumps(dataclasses.asdict(summary), indent=2) + "\n"
    write_whole(Path(config.dataset) / "refreshes" / f"{refresh_id}.json", record.encode())
    return summary


def _tracked(
    config: RefreshConfig,
    refresh_id: str,
    plan: Plan,
    catalog: Catalog | None,
    decode: Callable[[Path, int, Recipe], int],
) -> tuple[Catalog, int, str]:
    """Carry a plan out, in a run of the tracker: the catalog after it, clips decoded, the run's id."""
    from pipelines.curation.report import log_report
    from pipelines.tracking import start_run

    dataset = Path(config.dataset).resolve()
    digest = plan.digest(config_hash(config.recipe))
    folder = dataset / "slices" / f"{digest}-{config.clips_per_slice}"
    name = f"refresh {dataset.name}"
    with start_run(config.tracking, name, {"job": "refresh", "dataset": str(dataset)}, config.model_dump()) as run:
        num_slices = write_plan(folder, plan.clips, config.clips_per_slice) if len(plan.clips) else 0
        decoded = decode(folder, num_slices, config.recipe) if num_slices else 0
        scored = read_slices(folder, num_slices).to_pylist() if num_slices else []
        judged = select(scored, config.recipe, plan.kept_keys)
        placed = _shard(folder, dataset / "shards", judged, config)
        upserts = _catalog_rows(judged, placed, config, refresh_id)
        after = commit(dataset, catalog, pa.concat_tables([upserts, _gone(catalog, plan, refresh_id)]), plan.num_clips)
        run.log_metrics({"decoded": decoded, "version": after.version})
        run.log_dataset(dataset.name, str(dataset), str(after.version), refresh_id, plan.num_clips)
        log_report(run, after.rows(), judged, partial(read_blob, folder), config.recipe, config.sheet_rows)
    shutil.rmtree(folder, ignore_errors=True)
    return after, decoded, run.run_id


def _decode(
    folder: Path,
    num_slices: int,
    recipe: Recipe,
    cluster: Callable[[], AbstractContextManager[None]],
    program: Path,
) -> int:
    """Have Ray do every slice that is not done yet; returns the number of clips decoded."""
    import ray

    local = recipe.model_copy(update={"align": located(recipe.align)})
    task = partial(_slice_task, folder=str(folder), recipe=local, program=str(program))
    with cluster():
        prepare_ray_data()
        done = ray.data.range(num_slices, override_num_blocks=num_slices).map(task, num_cpus=1)
        return sum(row["decoded"] for row in track(done.iter_rows(), "slices of clips", total=num_slices))


def _slice_task(row: Mapping[str, Any], folder: str, recipe: Recipe, program: str) -> dict[str, int]:
    """One slice, in a worker of Ray."""
    aligner = _aligner(recipe.align.model_dump_json()) if recipe.align.model is not None else None
    prepare = _decoding_process(recipe.model_dump_json(), program)
    score = partial(score_clip, recipe=recipe, prepare=prepare, aligner=aligner)
    return {"decoded": process_slice(Path(folder), int(row["id"]), score)}


@lru_cache(maxsize=1)
def _decoding_process(recipe_json: str, program: str) -> DecodingProcess:
    """The process that decodes for this worker; it ends with the worker."""
    return DecodingProcess(Recipe.model_validate_json(recipe_json), Path(program))


@cache
def _aligner(config_json: str) -> Aligner:
    """The model, loaded once a worker."""
    import torch

    torch.set_num_threads(1)  # a task has one CPU
    return Aligner(AlignConfig.model_validate_json(config_json))


def _shard(folder: Path, shards: Path, judged: Sequence[dict[str, Any]], config: RefreshConfig) -> dict[str, Placed]:
    """Copy what is kept into shards, in the order of the keys, which is as good as shuffled; places by key."""
    kept = sorted((row for row in judged if row["verdict"] == "kept"), key=lambda row: row["key"])
    return {
        placed.key: placed for placed in write_shards(shards, _samples(folder, kept, config), config.samples_per_shard)
    }


def _samples(folder: Path, kept: Sequence[dict[str, Any]], config: RefreshConfig) -> Iterator[Sample]:
    for row in track(kept, "samples into shards"):
        facts: dict[str, object] = {
            **{name: row[name] for name in ("key", "uri", "caption", "start_s", "end_s", "crop")},
            "source": {name.removeprefix("source_"): row[name] for name in _SOURCE_FACTS},
            "scores": {name: row[name] for name in _SCORES},
            "manifest": json.loads(row["manifest_json"]),
            **{"num_frames": config.frames, "fps": config.fps, "size_px": config.size_px},
        }
        yield Sample(row["key"], read_blob(folder, row), row["caption"], facts)


def _catalog_rows(
    judged: Sequence[dict[str, Any]], placed: Mapping[str, Placed], config: RefreshConfig, refresh_id: str
) -> pa.Table:
    about = {
        "num_frames": config.frames,
        "fps": config.fps,
        "size_px": config.size_px,
        "refresh_id": refresh_id,
        "config_hash": config_hash(config.recipe),
    }
    rows = [{**row, **about, **_place(row, placed)} for row in judged]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _place(row: Mapping[str, Any], placed: Mapping[str, Placed]) -> dict[str, object]:
    if row["verdict"] != "kept":
        return {}
    place = placed[row["key"]]
    return {
        "shard": place.shard,
        **{"offset": place.mp4.offset, "bytes": place.mp4.num_bytes},
        **{"txt_offset": place.txt.offset, "txt_bytes": place.txt.num_bytes},
        **{"json_offset": place.json.offset, "json_bytes": place.json.num_bytes},
    }


def _gone(catalog: Catalog | None, plan: Plan, refresh_id: str) -> pa.Table:
    """Rows of clips that left the manifest: they stay, as `removed`, and no longer name a sample."""
    if catalog is None or not plan.removed_ids:
        return SCHEMA.empty_table()
    ids = set(plan.removed_ids)
    no_place = dict.fromkeys(("shard", "offset", "bytes", "txt_offset", "txt_bytes", "json_offset", "json_bytes"))
    change = {"verdict": "removed", "reason": "not in the manifest", "refresh_id": refresh_id, **no_place}
    rows = [{**row, **change} for row in catalog.rows().to_pylist() if row["row_id"] in ids]
    return pa.Table.from_pylist(rows, schema=SCHEMA)
