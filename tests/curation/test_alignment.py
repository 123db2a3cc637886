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
from pipelines.curation.align import Alignable, Aligner, AlignmentModelError
from pipelines.curation.baseline import separation, with_baseline
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
    return [Alignable(render(scene, [0.2, 0.9], 32, 32), caption(scene, rng)) for scene in scenes]


def test_right_captions_score_above_wrong_ones(model: str, clips: list[Alignable]) -> None:
    scores = Aligner(AlignConfig(model=model)).scores(clips)
    right, wrong = [own.score for own in scores], [own.wrong_score for own in scores]
    assert np.mean(right) > 0.6
    assert np.mean([score for score in wrong if score is not None]) < 0.4
    assert all(-1 <= score <= 1 for score in right)


def test_scores_do_not_depend_on_the_batch(model: str, clips: list[Alignable]) -> None:
    together = Aligner(AlignConfig(model=model, clips_per_batch=12)).scores(clips)
    alone = Aligner(AlignConfig(model=model, clips_per_batch=1)).scores(clips)
    assert [own.score for own in together] == [own.score for own in alone]
    assert {own.wrong_score for own in alone} == {None}, "alone in a batch there is no other caption"


def test_a_wrong_caption_is_never_the_same_words(model: str, clips: list[Alignable]) -> None:
    frames, words = clips[0]
    scores = Aligner(AlignConfig(model=model)).scores([Alignable(frames, words)] * 2)
    assert [own.wrong_score for own in scores] == [None, None]


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
        rows = [{"row_id": f"{name}{i}", "verdict": "kept", "align_wrong_score": s} for i, s in enumerate(scores)]
        schema = pa.schema([("row_id", pa.string()), ("verdict", pa.string()), ("align_wrong_score", pa.float64())])
        database.register(name, pa.Table.from_pylist(rows, schema=schema))
    return database


def test_the_threshold_is_the_percentile_of_wrong_captions_old_and_new() -> None:
    with _database([0.0, 0.1, None], [0.2, 0.3, 0.4]) as database:
        assert with_baseline(database, _recipe(75)).align.min_score == 0.3
        assert with_baseline(database, _recipe(None)).align.min_score == 0.3
        assert with_baseline(database, _recipe(100)).align.min_score == 0.4


def test_without_wrong_captions_there_is_no_threshold() -> None:
    with _database([None], []) as database:
        assert with_baseline(database, _recipe(90)).align.min_score is None


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
