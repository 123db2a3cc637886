"""Raters' answers: batch-results CSV files in Mechanical Turk's convention, as the local page writes them too.

A row is one rater's work on one block. It is taken whole or rejected with a reason and its file and line.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipelines.evaluation.frozen_study import FrozenStudy, KeyedTrial

SIDES: Mapping[str, str] = {"l": "L", "left": "L", "r": "R", "right": "R", "t": "T", "tie": "T"}
"""Accepted spellings of a choice; T is a tie."""
_TRUE = frozenset({"true", "1", "on"})
_SLOT = re.compile(r"Answer\.(t\d+)_id")


@dataclass(frozen=True)
class TrialAnswer:
    """One answered page."""

    trial: KeyedTrial
    sides: Mapping[str, str]
    """Question to L, R or T; empty where the clip was reported as broken and nothing was chosen."""
    rt_ms: int
    """From the first frame shown to the answer."""
    plays_left: int
    plays_right: int
    is_broken: bool


@dataclass(frozen=True)
class Assignment:
    """One row of a results file: a rater's answers to a block."""

    source: str
    """FILE:LINE."""
    assignment_id: str
    rater_id: str
    """HMAC of the platform's id."""
    block_id: str
    answers: tuple[TrialAnswer, ...]


class Rejected(NamedTuple):
    """A row that cannot be used."""

    source: str
    reason: str


class AnswersError(ValueError):
    """Answers that are not there; the message names the path."""


class _RowError(ValueError):
    """Why a row is rejected."""


def read_answers(path: str | Path, study: FrozenStudy) -> tuple[list[Assignment], list[Rejected]]:
    """Read a CSV file, or every *.csv of a folder in order of name.

    Raises:
        AnswersError: No such file, or no *.csv in the folder.
    """
    root = Path(path)
    files = sorted(root.glob("*.csv")) if root.is_dir() else [root] if root.is_file() else []
    if not files:
        raise AnswersError(f"answers {root}: a CSV file, or a folder with *.csv in it, is expected")
    taken: list[Assignment] = []
    rejected: list[Rejected] = []
    seen: set[tuple[str, ...]] = set()
    for source, row in (entry for file in files for entry in _rows(file)):
        try:
            assignment = _assignment(source, row, study)
            _refuse_second(assignment, seen)
        except _RowError as error:
            rejected.append(Rejected(source, str(error)))
            continue
        taken.append(assignment)
    return taken, rejected


def _rows(file: Path) -> Iterator[tuple[str, dict[str, str]]]:
    with file.open(newline="", encoding="utf-8-sig") as text:
        reader = csv.reader(text)
        head = next(reader, [])
        line = reader.line_num + 1  # a cell may hold line breaks: a row begins after the one before has ended
        for cells in reader:
            if cells:
                yield f"{file.name}:{line}", dict(zip(head, cells, strict=False))
            line = reader.line_num + 1


def _assignment(source: str, row: Mapping[str, str], study: FrozenStudy) -> Assignment:
    if row.get("AssignmentStatus", "").lower() == "rejected":
        raise _RowError("the requester rejected the assignment")
    if row.get("Input.study_id", study.study_id) != study.study_id:
        raise _RowError(f"study {row['Input.study_id']!r}, not {study.study_id!r}")
    worker = row.get("WorkerId", "").strip()
    if not worker:
        raise _RowError("no WorkerId")
    slots = sorted(match[1] for match in map(_SLOT.fullmatch, row) if match and row[match[0]])
    if not slots:
        raise _RowError("no Answer.tNN_id")
    answers = [_answer(slot, row, study) for slot in slots]
    blocks = {answer.trial.block_id for answer in answers}
    if len(blocks) > 1:
        raise _RowError(f"trials of several blocks: {', '.join(sorted(blocks))}")
    block_id = blocks.pop()
    expected = [trial.trial_id for trial in study.block(block_id)]
    if sorted(expected) != sorted(answer.trial.trial_id for answer in answers):
        raise _RowError(f"block {block_id}: each of its {len(expected)} trials once expected, {len(answers)} answered")
    rater_id = study.secret.name("rater", worker)
    return Assignment(source, row.get("AssignmentId", ""), rater_id, block_id, tuple(answers))


def _refuse_second(assignment: Assignment, seen: set[tuple[str, ...]]) -> None:
    own, block = ("assignment", assignment.assignment_id), ("block", assignment.rater_id, assignment.block_id)
    if assignment.assignment_id and own in seen:
        raise _RowError(f"assignment {assignment.assignment_id} was read before")
    if block in seen:
        raise _RowError(f"this rater's answers to block {assignment.block_id} were read before")
    seen.update((own, block))


def _answer(slot: str, row: Mapping[str, str], study: FrozenStudy) -> TrialAnswer:
    trial_id = row[f"Answer.{slot}_id"]
    trial = study.trials.get(trial_id)
    if trial is None:
        raise _RowError(f"{slot}_id: {trial_id!r} is no trial of this study")
    is_broken = bool(row.get(f"Answer.{slot}_flag", "").strip())
    sides = {name: side for name in study.questions if (side := _side(f"{slot}_{name}", row))}
    missing = [name for name in study.questions if name not in sides]
    if missing and not is_broken:
        raise _RowError(f"{slot}_{missing[0]}: no answer")
    rt_ms, plays_left, plays_right = (_number(f"{slot}_{name}", row) for name in ("ms", "pl", "pr"))
    return TrialAnswer(trial, sides, rt_ms, plays_left, plays_right, is_broken)


def _side(name: str, row: Mapping[str, str]) -> str:
    """A letter in `Answer.NAME`, or one true value among `Answer.NAME.L`, `.R` and `.T`; empty where there is none."""
    given = row.get(f"Answer.{name}", "").strip()
    if given:
        if given.lower() not in SIDES:
            raise _RowError(f"{name}: L, R or T expected, given {given!r}")
        return SIDES[given.lower()]
    ticked = [side for side in "LRT" if row.get(f"Answer.{name}.{side}", "").strip().lower() in _TRUE]
    if len(ticked) > 1:
        raise _RowError(f"{name}: one choice expected, given {' and '.join(ticked)}")
    return ticked[0] if ticked else ""


def _number(name: str, row: Mapping[str, str]) -> int:
    given = row.get(f"Answer.{name}", "").strip() or "0"
    if not given.isdecimal():
        raise _RowError(f"{name}: a whole number expected, given {given!r}")
    return int(given)


def by_rater(assignments: Sequence[Assignment]) -> dict[str, list[Assignment]]:
    """Each rater's rows, raters in order of their ids."""
    raters: dict[str, list[Assignment]] = {rater: [] for rater in sorted({a.rater_id for a in assignments})}
    for assignment in assignments:
        raters[assignment.rater_id].append(assignment)
    return raters
