"""A small real study: rendered clips of two systems, exported; and raters who answer it."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pipelines.evaluation.config import ExportStudyConfig
from pipelines.evaluation.platforms import INPUT_COLUMNS, RESULTS_HEAD
from pipelines.evaluation.secrecy import secret_of_seed
from pipelines.evaluation.study import export_study
from pipelines.video_file import write_mp4

NUM_PROMPTS = 12
HTML_PROMPT = "<img src=x onerror=alert(1)> & <b>bold</b>"
FORMULA_PROMPT = "=HYPERLINK(A1) on a sign"

MakeStudy = Callable[..., Path]
Choose = Callable[[Mapping[str, str], str, str], str]
"""(row of key.csv, question, rater) to L, R, T or an empty text."""


def moving_square(seed: int, num_frames: int = 4, side_px: int = 48) -> NDArray[np.uint8]:
    """(T, H, W, 3) uint8: a coloured square on grey, moving by the seed."""
    rng = np.random.default_rng(seed)
    frames_THWC = np.full((num_frames, side_px, side_px, 3), 60, np.uint8)
    colour, start, step = rng.integers(100, 255, 3), rng.integers(2, 20, 2), rng.integers(1, 4, 2)
    for t, frame_HWC in enumerate(frames_THWC):
        top, left = start + t * step
        frame_HWC[top : top + 14, left : left + 14] = colour
    return frames_THWC


def write_system(folder: Path, first_seed: int, num_prompts: int = NUM_PROMPTS, **shape: int) -> Path:
    """A folder of clips p00.mp4 ..."""
    for number in range(num_prompts):
        write_mp4(folder / f"p{number:02d}.mp4", moving_square(first_seed + number, **shape), 8)
    return folder


@pytest.fixture(scope="session")
def systems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `lumiere`, `zeroscope` and `pika` of clips, the last one longer and larger, and prompts.csv."""
    root = tmp_path_factory.mktemp("systems")
    for number, name in enumerate(("lumiere", "zeroscope")):
        write_system(root / name, 1000 * number)
    write_system(root / "pika", 2000, num_frames=6, side_px=64)
    texts = [HTML_PROMPT, FORMULA_PROMPT, *(f"square number {n} wanders off" for n in range(2, NUM_PROMPTS))]
    with (root / "prompts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["prompt_id", "text"], *([f"p{n:02d}", text] for n, text in enumerate(texts))])
    return root


@pytest.fixture(scope="session")
def make_study(systems: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeStudy:
    """Export a study of the systems; keyword arguments are keys of the configuration."""

    def make(seed: int = 0, **keys: object) -> Path:
        values: dict[str, object] = {
            "ours": str(systems / "lumiere"),
            "baselines": {name: str(systems / name) for name in ("zeroscope", "pika")},
            "prompts": str(systems / "prompts.csv"),
            "out": str(tmp_path_factory.mktemp("studies") / "study"),
            "policy": {"raters_per_pair": 3},
        }
        config = ExportStudyConfig.model_validate(values | keys)
        return export_study(config, secret_of_seed(seed)).folder

    return make


@pytest.fixture(scope="session")
def study(make_study: MakeStudy) -> Path:
    """One study, to be read only."""
    return make_study()


def rows_of(path: Path) -> list[dict[str, str]]:
    """A CSV file's rows."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def blocks_of(study: Path) -> dict[str, list[dict[str, str]]]:
    """Trials joined with their key, by block."""
    key = {row["trial_id"]: row for row in rows_of(study / "key.csv")}
    blocks: dict[str, list[dict[str, str]]] = {}
    for row in rows_of(study / "trials.csv"):
        blocks.setdefault(row["block_id"], []).append(key[row["trial_id"]] | row)
    return blocks


def prefers_ours(trial: Mapping[str, str], question: str, rater: str) -> str:
    """A diligent rater: catches right, ours otherwise."""
    return trial[f"expected_{question}"] or ("L" if trial["left_model"] == "ours" else "R")


def results_row(block_id: str, trials: Sequence[Mapping[str, str]], rater: str, choose: Choose) -> dict[str, str]:
    """A row of batch results, in letters."""
    row = dict.fromkeys(RESULTS_HEAD, "") | {f"Input.{name}": "" for name in INPUT_COLUMNS}
    row |= {"AssignmentId": f"{rater}-{block_id}", "WorkerId": rater, "AssignmentStatus": "Submitted"}
    del row["Input.study_id"]
    for trial in trials:
        slot = f"Answer.t{int(trial['slot']):02d}"
        row |= {f"{slot}_id": trial["trial_id"], f"{slot}_ms": "4000", f"{slot}_pl": "1", f"{slot}_pr": "1"}
        row |= {f"{slot}_{name}": choose(trial, name, rater) for name in trial["questions"].split("|")}
        row[f"{slot}_flag"] = ""
    return row


def write_answers(path: Path, rows: Sequence[Mapping[str, str]]) -> Path:
    """Rows as a CSV with the union of their columns."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def log_of(folder: Path) -> dict[str, object]:
    """import_log.json."""
    return json.loads((folder / "import_log.json").read_text())
