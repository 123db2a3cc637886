"""Whose answers do not count, by the rules that were frozen in study.yaml."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from pipelines.evaluation.answers import Assignment, by_rater
from pipelines.evaluation.config import ExclusionConfig

_MS_PER_S = 1000


@dataclass(frozen=True)
class Conduct:
    """How a rater worked; what exclusions.csv tells of those who are excluded."""

    rater_id: str
    rows: int
    trials: int
    """Without those reported as broken."""
    catch_answers: int
    wrong_catches: int
    trial_time_in_clips: float
    """Median of (time on a trial / duration of its clips)."""
    left_share: float
    """Share of Left among all choices of a side; 0.5 where there is none."""


def conduct(rater_id: str, assignments: Sequence[Assignment]) -> Conduct:
    """Measure one rater over all rows."""
    answers = [a for assignment in assignments for a in assignment.answers if not a.is_broken]
    catches = [answer.sides.get(name) == side for answer in answers for name, side in answer.trial.expected.items()]
    times = [answer.rt_ms / _MS_PER_S / answer.trial.duration_s for answer in answers]
    sides = [
        side for answer in answers if answer.trial.kind != "catch" for side in answer.sides.values() if side != "T"
    ]
    return Conduct(
        rater_id=rater_id,
        rows=len(assignments),
        trials=len(answers),
        catch_answers=len(catches),
        wrong_catches=catches.count(False),
        trial_time_in_clips=median(times) if times else 0.0,
        left_share=sides.count("L") / len(sides) if sides else 0.5,
    )


def broken_rules(found: Conduct, rules: ExclusionConfig) -> list[str]:
    """The rules that a rater broke, in words; empty for one who counts."""
    broken: list[str] = []
    if found.wrong_catches > rules.max_wrong_catches:
        broken.append(f"{found.wrong_catches} wrong catches")
    right = found.catch_answers - found.wrong_catches
    if found.catch_answers >= rules.catch_accuracy_from and right / found.catch_answers < rules.min_catch_accuracy:
        broken.append(f"{right} of {found.catch_answers} catches right")
    if found.trials and found.trial_time_in_clips < rules.min_trial_time_in_clips:
        broken.append(f"median trial time {found.trial_time_in_clips:.2f} of a clip")
    is_sided = not rules.min_left_share <= found.left_share <= rules.max_left_share
    if found.trials >= rules.left_share_from and is_sided:
        broken.append(f"left share {found.left_share:.2f}")
    return broken


def find_exclusions(assignments: Sequence[Assignment], rules: ExclusionConfig) -> dict[str, tuple[Conduct, str]]:
    """Excluded raters: their conduct and the rules they broke."""
    measured = [conduct(rater_id, own) for rater_id, own in by_rater(assignments).items()]
    judged = ((found, broken_rules(found, rules)) for found in measured)
    return {found.rater_id: (found, "; ".join(broken)) for found, broken in judged if broken}
