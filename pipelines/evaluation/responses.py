"""One row per trial and question: what a rater chose, what it means, and whether it counts."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from pipelines.evaluation.answers import Assignment, TrialAnswer

_ANSWERED = {True: "true", False: "false"}


class Response(NamedTuple):
    """A row of responses.csv."""

    source: str
    """FILE:LINE of the row it came from."""
    rater_id: str
    block_id: str
    slot: int
    trial_id: str
    kind: str
    pair_id: str
    prompt_id: str
    baseline: str
    question: str
    choice_side: str
    """L, R or T; empty where nothing was chosen."""
    choice: str
    """ours, baseline or tie; empty for a catch and where nothing was chosen."""
    correct: str
    """true or false for a catch's own question, else empty."""
    rt_ms: int
    plays_left: int
    plays_right: int
    excluded: str
    """true or false."""
    reason: str
    repeat_of: str

    @property
    def is_used(self) -> bool:
        """Whether it counts."""
        return self.excluded == "false"


def responses_of(
    assignments: Iterable[Assignment], questions: Iterable[str], excluded: Mapping[str, str]
) -> list[Response]:
    """Flatten rows of answers.

    Args:
        assignments: The rows that were taken.
        questions: Of the study.
        excluded: Rater to reason.
    """
    names = list(questions)
    return [
        _response(assignment, answer, question, excluded.get(assignment.rater_id, ""))
        for assignment in assignments
        for answer in assignment.answers
        for question in names
    ]


def main_responses(responses: Iterable[Response], baseline: str, question: str) -> Iterator[Response]:
    """The judgements that count in a preference: used, of main trials."""
    for response in responses:
        if (
            response.is_used
            and response.kind == "main"
            and (response.baseline, response.question) == (baseline, question)
        ):
            yield response


def _response(assignment: Assignment, answer: TrialAnswer, question: str, reason: str) -> Response:
    trial, side = answer.trial, answer.sides.get(question, "")
    if not reason and answer.is_broken:
        reason = "clip reported as broken"
    is_catch = trial.kind == "catch"
    return Response(
        source=assignment.source,
        rater_id=assignment.rater_id,
        block_id=trial.block_id,
        slot=trial.slot,
        trial_id=trial.trial_id,
        kind=trial.kind,
        pair_id=trial.pair_id,
        prompt_id=trial.prompt_id,
        baseline=trial.baseline,
        question=question,
        choice_side=side,
        choice="" if is_catch or not side else trial.chosen(side),
        correct=_ANSWERED[side == trial.expected[question]] if side and question in trial.expected else "",
        rt_ms=answer.rt_ms,
        plays_left=answer.plays_left,
        plays_right=answer.plays_right,
        excluded=_ANSWERED[bool(reason)],
        reason=reason,
        repeat_of=trial.repeat_of,
    )
