"""Simulated raters of a small study: what they prefer, and that nobody can take them for people."""

import csv
import random
from pathlib import Path

import pytest

from demo.captions import caption
from demo.raters import answer_study, look
from demo.render import render
from demo.scene import draw_scene
from pipelines.evaluation.config import ExportStudyConfig
from pipelines.evaluation.frozen_study import FrozenStudy, load_study
from pipelines.evaluation.platforms import RESULTS_HEAD
from pipelines.evaluation.results import tally
from pipelines.evaluation.secrecy import secret_of_seed
from pipelines.evaluation.study import export_study
from pipelines.video_file import write_mp4

NUM_PROMPTS = 10
TIMES_S = [index / 8 for index in range(16)]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ours shows what the prompts say; the other shows other scenes, their frames in disorder."""
    root, rng = tmp_path_factory.mktemp("study"), random.Random(0)
    prompts = [["prompt_id", "prompt"]]
    for number in range(NUM_PROMPTS):
        scene, name = draw_scene(rng), f"p{number:02d}"
        prompts.append([name, caption(scene, rng)])
        write_mp4(root / "ours" / f"{name}.mp4", render(scene, TIMES_S, 32, 32), 8)
        disorder = rng.sample(TIMES_S, len(TIMES_S))
        write_mp4(root / "other" / f"{name}.mp4", render(draw_scene(rng), disorder, 32, 32), 8)
    with (root / "prompts.csv").open("w", newline="") as file:
        csv.writer(file).writerows(prompts)
    values = {
        "ours": str(root / "ours"),
        "baselines": {"other": str(root / "other")},
        "prompts": str(root / "prompts.csv"),
        "out": str(root / "study"),
        "width_px": 64,
        "height_px": 64,
    }
    return export_study(ExportStudyConfig.model_validate(values), secret_of_seed(0)).folder


@pytest.fixture(scope="module")
def answers(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("answers") / "answers.csv"
    path.write_bytes(answer_study(study, num_raters=30, seed=0))
    return path


@pytest.fixture(scope="module")
def frozen(study: Path) -> FrozenStudy:
    return load_study(study)


def test_the_importer_takes_every_row_and_finds_ours_preferred(frozen: FrozenStudy, answers: Path) -> None:
    from pipelines.evaluation.answers import read_answers

    taken, rejected = read_answers(answers, frozen)
    assert not rejected
    results = tally(frozen, taken, rejected)
    rates = {preference.question: preference.win_rate for preference in results.preferences}
    assert set(rates) == {"align", "quality"}
    assert min(rates.values()) > 0.8


def test_catch_trials_are_mostly_answered_right(frozen: FrozenStudy, answers: Path) -> None:
    right: list[bool] = []
    for row in rows_of(answers):
        for name in (name for name in row if name.startswith("Answer.") and name.endswith("_id") and row[name]):
            expected = frozen.trials[row[name]].expected
            right += [row[f"{name.removesuffix('_id')}_{question}"] == side for question, side in expected.items()]
    assert len(right) >= 5
    assert sum(right) / len(right) >= 0.8


def test_every_row_says_that_its_rater_is_simulated(answers: Path) -> None:
    rows = rows_of(answers)
    assert rows
    for row in rows:
        assert row["WorkerId"].startswith("SIMULATED")
        assert "SIMULATED" in row["Title"]
        assert "SIMULATED" in row["RequesterAnnotation"]


def test_columns_stand_in_the_order_of_a_batch_results_file(answers: Path) -> None:
    columns = answers.read_text().splitlines()[0].split(",")
    assert tuple(columns[: len(RESULTS_HEAD)]) == RESULTS_HEAD
    kinds = [name.split(".")[0] for name in columns[len(RESULTS_HEAD) :]]
    assert list(dict.fromkeys(kinds)) == ["Input", "Answer", "Approve", "Reject"]


def test_raters_never_read_the_key(study: Path, answers: Path, tmp_path: Path) -> None:
    import shutil

    public = tmp_path / "public"
    shutil.copytree(study, public)
    (public / "key.csv").unlink()
    assert answer_study(public, num_raters=30, seed=0) == answers.read_bytes()


def test_another_seed_slips_elsewhere(study: Path, answers: Path) -> None:
    assert answer_study(study, num_raters=30, seed=1) != answers.read_bytes()


def test_disorder_and_blur_look_worse_than_the_clip_itself() -> None:
    rng = random.Random(5)
    for _ in range(8):
        scene = draw_scene(rng)
        frames, disorder = (render(scene, times, 32, 32) for times in (TIMES_S, rng.sample(TIMES_S, 16)))
        text = caption(scene, rng)
        assert look(frames, text).quality > look(disorder, text).quality
        assert look(frames, text).align == 3
