"""SIMULATED raters: answers to a study of the demo's clips, so that the path can be shown without people.

    python -m demo.raters --study out/demo/study --out out/demo/answers.csv

No person has seen these clips. A simulated rater chooses the side that the demo's read-out finds more faithful (align)
or steadier (quality), and slips now and then. Reads only what a real rater would see: trials.csv and media/, never
key.csv. Writes a batch-results CSV in Mechanical Turk's convention; every worker and every row says SIMULATED.

Shape letters: T frames in time, H height, W width, C channels (RGB).
"""

import argparse
import csv
import io
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from demo.fidelity import fidelity
from demo.readout import find_thing
from pipelines.evaluation.platforms import INPUT_COLUMNS, RESULTS_HEAD
from pipelines.progress import track
from pipelines.storage import write_whole
from pipelines.video_file import read_video

SIMULATED = "SIMULATED"
_ANSWER_FIELDS = ("id", "align", "quality", "ms", "pl", "pr", "flag")
_JITTER_WEIGHT = 5.0
_SLIPS = (0.02, 0.15)


@dataclass(frozen=True)
class Impression:
    """What a clip makes on a simulated rater."""

    align: float
    """How many of colour, shape and motion are as the prompt says."""
    quality: float
    """Share of frames with a clear shape, less its jitter."""


def answer_study(study: Path, num_raters: int, seed: int) -> bytes:
    """The results CSV of all blocks, dealt to `num_raters` simulated raters in turn.

    Raises:
        FileNotFoundError: The folder is no study.
    """
    blocks = {row["block_id"]: row for row in _read(study / "platforms" / "mturk" / "input.csv")}
    trials: dict[str, list[dict[str, str]]] = {block_id: [] for block_id in blocks}
    for trial in _read(study / "trials.csv"):
        trials[trial["block_id"]].append(trial)
    impressions: dict[tuple[str, str], Impression] = {}
    shown = [(trial[side], trial["prompt"]) for own in trials.values() for trial in own for side in ("left", "right")]
    for media, prompt in track(list(dict.fromkeys(shown)), "simulated raters look"):
        impressions[media, prompt] = look(read_video(study / "media" / media).frames_THWC, prompt)
    rows = list[dict[str, str]]()
    for number, block_id in enumerate(blocks):
        rater = _Rater(f"{SIMULATED}-{number % num_raters:03d}", seed)
        rows.append(rater.answer(blocks[block_id], trials[block_id], impressions))
    return _csv(rows)


def look(frames_THWC: NDArray[np.uint8], prompt: str) -> Impression:
    """Judge one clip by its pixels."""
    things = [find_thing(frame_HWC) for frame_HWC in frames_THWC]
    clear = sum(thing is not None and thing.shape is not None for thing in things) / len(things)
    path = np.array([(time, thing.x, thing.y) for time, thing in enumerate(things) if thing is not None])
    jitter = _jitter(path) if len(path) > 2 else 1.0
    return Impression(sum(fidelity(frames_THWC, prompt).values()), clear - _JITTER_WEIGHT * jitter)


def _jitter(path: NDArray[np.float64]) -> float:
    """Root mean square distance, in sides of the frame, of (time, x, y) rows from a steady straight motion."""
    time, places = path[:, 0], path[:, 1:]
    design = np.stack((time, np.ones_like(time)), axis=1)
    fitted = design @ np.linalg.lstsq(design, places)[0]
    return math.sqrt(float(np.mean(np.sum((places - fitted) ** 2, axis=1))))


class _Rater:
    """One simulated rater, with slips of their own."""

    def __init__(self, worker: str, seed: int) -> None:
        self._worker, self._seed = worker, seed
        self._slips = random.Random(f"{seed}:{worker}").uniform(*_SLIPS)

    def answer(
        self,
        block: Mapping[str, str],
        trials: Sequence[Mapping[str, str]],
        impressions: Mapping[tuple[str, str], Impression],
    ) -> dict[str, str]:
        """One row of the results: a block answered."""
        rng = random.Random(f"{self._seed}:{self._worker}:{block['block_id']}")
        times_ms = [round(1000 * float(trial["duration_s"]) * rng.uniform(1.5, 4)) for trial in trials]
        row = dict.fromkeys(RESULTS_HEAD, "") | {
            "HITId": f"{SIMULATED}-{block['block_id']}",
            "Title": f"{SIMULATED} raters, no people",
            "MaxAssignments": "1",
            "RequesterAnnotation": f"{SIMULATED} by demo/raters.py",
            "AssignmentId": f"{SIMULATED}-{block['block_id']}-{self._worker}",
            "WorkerId": self._worker,
            "AssignmentStatus": "Submitted",
            "WorkTimeInSeconds": str(round(sum(times_ms) / 1000)),
        }
        row |= {f"Input.{name}": block[name] for name in INPUT_COLUMNS}
        for trial, time_ms in zip(trials, times_ms, strict=True):
            left, right = (impressions[trial[side], trial["prompt"]] for side in ("left", "right"))
            answers = {name: self._choose(rng, left, right, name) for name in trial["questions"].split("|")}
            answers |= {"id": trial["trial_id"], "ms": str(time_ms), "flag": ""}
            answers |= {"pl": str(rng.randint(1, 2)), "pr": str(rng.randint(1, 2))}
            slot = f"Answer.t{int(trial['slot']):02d}"
            row |= {f"{slot}_{name}": answers[name] for name in _ANSWER_FIELDS if name in answers}
        return row

    def _choose(self, rng: random.Random, left: Impression, right: Impression, question: str) -> str:
        better = getattr(left, question) - getattr(right, question)
        if better == 0 or rng.random() < self._slips:
            return rng.choice("LR")
        return "L" if better > 0 else "R"


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _csv(rows: Sequence[Mapping[str, str]]) -> bytes:
    """Columns in the order of a batch-results CSV; shorter blocks leave the last answers empty."""
    answers = sorted({name for row in rows for name in row if name.startswith("Answer.")}, key=_place)
    columns = [*RESULTS_HEAD, *(f"Input.{name}" for name in INPUT_COLUMNS), *answers, "Approve", "Reject"]
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, restval="")
    writer.writeheader()
    writer.writerows(rows)
    return table.getvalue().encode()


def _place(column: str) -> tuple[str, int]:
    slot, _, field = column.removeprefix("Answer.").partition("_")
    return slot, _ANSWER_FIELDS.index(field)


def main() -> None:
    """Parse the command line and answer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, required=True, help="folder that jobs/export_study.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="results CSV to write")
    parser.add_argument("--raters", type=int, default=30, help="simulated raters; each block goes to one of them")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if not (arguments.study / "trials.csv").is_file():
        parser.error(f"--study {arguments.study}: a study folder with trials.csv expected")
    write_whole(arguments.out, answer_study(arguments.study, arguments.raters, arguments.seed))
    print(f"{arguments.out}: answers of {SIMULATED} raters, no people")


if __name__ == "__main__":
    main()
