"""Alignment: right captions over wrong ones, a threshold from wrong ones, and the same scores whoever computes them."""

import hashlib
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from demo.captions import caption
from demo.render import render
from demo.scene import draw_scene
from pipelines.curation.align import Alignable, Aligner, Alignment, AlignmentModelError, located
from pipelines.curation.baseline import (
    OTHER_CAPTIONS,
    WRONG_CAPTION,
    BaselineError,
    collect_other_captions,
    separation,
    with_baseline,
)
from pipelines.curation.catalog import Catalog
from pipelines.curation.config import AlignConfig, Recipe
from pipelines.curation.prepare import decode_jpegs, encode_jpeg
from pipelines.curation.summary import RefreshSummary

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")


@pytest.fixture(scope="module")
def model(root: Path) -> str:
    return f"local-dir:{root / 'demo' / 'weights' / 'clip'}"


@pytest.fixture(scope="module")
def clips() -> list[Alignable]:
    rng = random.Random(5)
    scenes = [draw_scene(rng) for _ in range(12)]
    captions = [caption(scene, rng) for scene in scenes]
    wrong = [*captions[1:], captions[0]]
    frames = [render(scene, [0.2, 0.9], 32, 32) for scene in scenes]
    return [Alignable(*clip) for clip in zip(frames, captions, wrong, strict=True)]


def test_right_captions_score_above_wrong_ones(model: str, clips: list[Alignable]) -> None:
    scores = Aligner(AlignConfig(model=model)).scores(clips)
    right, wrong = [own.score for own in scores], [own.wrong_score for own in scores]
    assert np.mean(right) > 0.6
    assert np.mean([score for score in wrong if score is not None]) < 0.4
    assert all(-1 <= score <= 1 for score in right)


def test_scores_do_not_depend_on_the_batch(model: str, clips: list[Alignable]) -> None:
    together = Aligner(AlignConfig(model=model, clips_per_batch=12)).scores(clips)
    alone = Aligner(AlignConfig(model=model, clips_per_batch=1)).scores(clips)
    assert together == alone


def test_a_clip_without_a_wrong_caption_has_no_wrong_score(model: str, clips: list[Alignable]) -> None:
    with_one, without = Aligner(AlignConfig(model=model)).scores([clips[0], clips[0]._replace(wrong_caption=None)])
    assert without == Alignment(with_one.score, None)


def test_jpegs_of_frames_score_as_the_frames_do(model: str, clips: list[Alignable]) -> None:
    aligner = Aligner(AlignConfig(model=model))
    coded = [own._replace(frames_KHWC=decode_jpegs([encode_jpeg(f) for f in own.frames_KHWC])) for own in clips]
    differences = [a.score - b.score for a, b in zip(aligner.scores(clips), aligner.scores(coded), strict=True)]
    assert np.abs(differences).mean() < 0.03, "right and wrong captions are 0.5 and more apart"


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(AlignmentModelError, match="no-such-model"):
        Aligner(AlignConfig(model="no-such-model"))


def _recipe(percentile: float | None) -> Recipe:
    return Recipe(align=AlignConfig(model="any", min_score=0.3, min_percentile=percentile))


def _database(touched: Sequence[float | None], before: Sequence[float]) -> duckdb.DuckDBPyConnection:
    database = duckdb.connect()
    for name, scores in (("touched", touched), ("catalog_rows", before)):
        rows = [
            {"row_id": f"{name}{i}", "verdict": "kept", "align_score": 0.5, "align_wrong_score": s}
            for i, s in enumerate(scores)
        ]
        texts = [(column, pa.string()) for column in ("row_id", "verdict")]
        floats = [(column, pa.float64()) for column in ("align_score", "align_wrong_score")]
        database.register(name, pa.Table.from_pylist(rows, schema=pa.schema([*texts, *floats])))
    return database


def test_the_threshold_is_the_percentile_of_wrong_captions_old_and_new() -> None:
    with _database([*[0.0, 0.1] * 5, None], [0.2, 0.3, 0.4] * 5) as database:
        assert with_baseline(database, _recipe(75)).align.min_score == 0.3
        assert with_baseline(database, _recipe(None)).align.min_score == 0.3
        assert with_baseline(database, _recipe(100)).align.min_score == 0.4


@pytest.mark.parametrize(
    ("percentile", "num_wrong", "needed"), [(90, 0, 20), (90, 19, 20), (99, 99, 100), (100, 3, 20)]
)
def test_too_few_wrong_captions_set_no_threshold_and_are_counted(percentile: int, num_wrong: int, needed: int) -> None:
    with _database([None, *[0.1] * num_wrong], []) as database, pytest.raises(BaselineError) as told:
        with_baseline(database, _recipe(percentile))
    assert f"at least {needed} clips" in str(told.value)
    assert f"{num_wrong} of {num_wrong + 1} clips have one" in str(told.value)


def test_where_no_clip_has_a_score_no_threshold_is_needed() -> None:
    with _database([], []) as database:
        assert with_baseline(database, _recipe(90)).align.min_score is None


def _wrong_captions(captions: Mapping[str, str]) -> dict[str, str | None]:
    with duckdb.connect() as database:
        database.register("given", pa.table({"row_id": list(captions), "caption": list(captions.values())}))
        database.execute("create table manifest as from given; set variable is_aligned = true")
        collect_other_captions(database)
        return dict(
            database.sql(f"select row_id, {WRONG_CAPTION} from manifest {OTHER_CAPTIONS} order by row_id").fetchall()
        )


def test_a_wrong_caption_is_another_clips_and_never_the_same_words() -> None:
    captions = {f"r{number}": f"words {number // 2}" for number in range(500)}
    wrong = _wrong_captions(captions)
    assert wrong.keys() == captions.keys()
    assert set(wrong.values()) <= set(captions.values())
    assert all(wrong[row] != captions[row] for row in captions)
    assert len(set(wrong.values())) > 100, "they are drawn from all"
    assert _wrong_captions(dict.fromkeys(captions, "the same words")) == dict.fromkeys(sorted(captions))


def test_a_wrong_caption_depends_on_no_order() -> None:
    captions = {f"r{number}": f"words {number}" for number in range(50)}
    assert _wrong_captions(dict(reversed(captions.items()))) == _wrong_captions(captions)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"model": "ViT-B-31", "pretrained": "openai"}, "align.model ViT-B-31: .*ViT-B-32"),
        ({"model": "ViT-B-32", "pretrained": "no-such.safetensors"}, "align.pretrained no-such.safetensors: .*openai"),
        ({"model": "ViT-B-32"}, "align.pretrained None: .*openai"),
        ({"model": "local-dir:no/such/folder"}, "align.model local-dir:no/such/folder: .*open_clip_config.json"),
    ],
)
def test_a_model_that_cannot_be_found_is_told_before_anything_starts(given: dict[str, str], told: str) -> None:
    with pytest.raises(AlignmentModelError, match=told):
        located(AlignConfig(**given))


def test_files_of_a_model_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.safetensors").touch()
    config = AlignConfig(model="ViT-B-32", pretrained="weights.safetensors")
    assert located(config).pretrained == str(tmp_path / "weights.safetensors")
    tag = AlignConfig(model="ViT-B-32", pretrained="openai")
    assert located(tag) == tag


def test_a_refresh_whose_model_cannot_be_found_starts_no_cluster(
    tmp_path: Path, refresh_here: Callable[..., RefreshSummary], manifest_writer: Callable[..., Path]
) -> None:
    manifest = manifest_writer(tmp_path / "manifest.csv", [{"video": "a.mp4", "caption": "A clip"}])
    with pytest.raises(AlignmentModelError, match="ViT-B-31"):
        refresh_here(manifest, tmp_path / "data", align=AlignConfig(model="ViT-B-31"))
    assert not (tmp_path / "data" / "slices").exists()


@pytest.mark.slow
def test_the_threshold_of_wrong_captions_does_not_depend_on_slices_or_batches(
    model: str,
    tmp_path: Path,
    refresh_here: Callable[..., RefreshSummary],
    video_writer: Callable[..., Path],
    manifest_writer: Callable[[Path, Sequence[Mapping[str, object]]], Path],
) -> None:
    rng, rows = random.Random(8), list[dict[str, object]]()
    for number in range(24):
        scene = draw_scene(rng)
        video_writer(tmp_path / f"{number}.mp4", render(scene, [i / 8 for i in range(17)], 48, 48), 8)
        rows.append({"video": f"{number}.mp4", "caption": caption(scene, rng)})
    manifest, found = manifest_writer(tmp_path / "manifest.csv", rows), []
    for clips_per_slice, clips_per_batch in ((1, 32), (5, 1), (24, 32)):
        align = AlignConfig(model=model, min_percentile=90, clips_per_batch=clips_per_batch)
        dataset = tmp_path / f"data{clips_per_slice}"
        refresh_here(manifest, dataset, align=align, clips_per_slice=clips_per_slice, filters={"min_sharpness": 0.1})
        columns = ["row_id", "verdict", "align_score", "align_wrong_score"]
        found.append(Catalog.open(dataset).rows(columns).sort_by("row_id"))
    assert found[0].equals(found[1])
    assert found[0].equals(found[2])
    assert found[0]["align_wrong_score"].null_count == 0


@pytest.mark.parametrize(
    ("right", "wrong", "auc"),
    [([0.9, 0.8], [0.1, 0.2], 1.0), ([0.1, 0.2], [0.9, 0.8], 0.0), ([0.5, 0.5], [0.5, 0.1], 0.75)],
)
def test_separation_is_the_area_under_the_roc_curve(right: list[float], wrong: list[float], auc: float) -> None:
    rows = pa.table({"align_score": right, "align_wrong_score": wrong})
    assert separation(rows) == pytest.approx(auc)


@pytest.mark.slow
def test_actors_align_as_tasks_do_and_nothing_of_theirs_stays(
    model: str,
    tmp_path: Path,
    run_refresh: Callable[..., RefreshSummary],
    video_writer: Callable[..., Path],
    manifest_writer: Callable[[Path, Sequence[Mapping[str, object]]], Path],
) -> None:
    rng, rows = random.Random(7), list[dict[str, object]]()
    for number in range(6):
        scene = draw_scene(rng)
        video_writer(tmp_path / f"{number}.mp4", render(scene, [i / 24 for i in range(60)], 96, 72), 24)
        rows.append({"video": f"{number}.mp4", "caption": caption(scene, rng)})
    manifest = manifest_writer(tmp_path / "manifest.csv", rows)
    align: dict[str, Any] = {"align": AlignConfig(model=model, min_score=None), "filters": {"min_sharpness": 0.1}}
    run_refresh(manifest, tmp_path / "tasks", **align, align_actors=0)
    run_refresh(manifest, tmp_path / "actors", **align, align_actors=1)
    columns = ["row_id", "align_score", "align_wrong_score"]
    by_tasks, by_actors = (
        Catalog.open(tmp_path / name).rows(columns).sort_by("row_id") for name in ("tasks", "actors")
    )
    assert by_actors.equals(by_tasks)
    assert by_tasks["align_score"].null_count == 0
    assert _shards(tmp_path / "actors") == _shards(tmp_path / "tasks")
    assert not list((tmp_path / "actors").rglob("unaligned-*"))


def _shards(dataset: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (dataset / "shards").iterdir()}
