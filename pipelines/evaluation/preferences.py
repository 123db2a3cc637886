"""Preferences: one row per baseline and question, from the judgements that count."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from pipelines.evaluation.responses import Response, main_responses
from pipelines.evaluation.statistics import binomial_p, cluster_interval, holm, krippendorff_alpha, wilson

_SCORES = {"ours": 1.0, "tie": 0.5, "baseline": 0.0}


@dataclass(frozen=True)
class Preference:
    """A row of preferences.csv; None is an empty cell."""

    baseline: str
    question: str
    n_prompts: int
    n_raters: int
    n: int
    """Judgements of main trials; repeats and catches are not among them."""
    win_rate: float
    """Share that chose ours, a tie counting half."""
    ci_lo: float
    ci_hi: float
    """Two-way cluster-robust t interval: the one that counts."""
    wilson_lo: float
    wilson_hi: float
    p: float
    """Exact binomial test without ties."""
    p_holm: float
    left_share: float | None
    """Share of Left among choices of a side."""
    alpha: float | None
    """Krippendorff's, nominal, pairs as units."""
    catch_acc: float | None
    """Right share of this question's catches, over all raters who count."""
    repeat_agree: float | None
    """Share of repeats in which the rater chose the same system again."""


def preferences_of(
    responses: Sequence[Response], baselines: Sequence[str], questions: Sequence[str]
) -> list[Preference]:
    """All rows, p adjusted over them; a baseline and question without any judgement has no row."""
    rows = [
        _preference(responses, own, baseline, question)
        for baseline in baselines
        for question in questions
        if (own := list(main_responses(responses, baseline, question)))
    ]
    adjusted = holm([row.p for row in rows])
    return [replace(row, p_holm=p_holm) for row, p_holm in zip(rows, adjusted, strict=True)]


def as_cells(preference: Preference) -> dict[str, object]:
    """The row as it stands in a file: no None."""
    return {name: "" if value is None else value for name, value in asdict(preference).items()}


def _preference(responses: Sequence[Response], own: Sequence[Response], baseline: str, question: str) -> Preference:
    y = [_SCORES[response.choice] for response in own]
    prompts, raters = [response.prompt_id for response in own], [response.rater_id for response in own]
    interval, naive = cluster_interval(y, prompts, raters), wilson(sum(y), len(y))
    wins, losses = y.count(1.0), y.count(0.0)
    return Preference(
        baseline=baseline,
        question=question,
        n_prompts=len(set(prompts)),
        n_raters=len(set(raters)),
        n=len(y),
        win_rate=sum(y) / len(y),
        ci_lo=interval.lo,
        ci_hi=interval.hi,
        wilson_lo=naive.lo,
        wilson_hi=naive.hi,
        p=binomial_p(wins, losses),
        p_holm=1.0,
        left_share=_share([response.choice_side == "L" for response in own if response.choice_side != "T"]),
        alpha=krippendorff_alpha([r.pair_id for r in own], raters, [r.choice for r in own]),
        catch_acc=_share(
            [r.correct == "true" for r in responses if r.is_used and r.question == question and r.correct]
        ),
        repeat_agree=_share(_repeats_agree(responses, baseline, question)),
    )


def _repeats_agree(responses: Sequence[Response], baseline: str, question: str) -> list[bool]:
    used = [r for r in responses if r.is_used and r.choice and (r.baseline, r.question) == (baseline, question)]
    first = {(r.source, r.trial_id): r.choice for r in used}
    again = [(r.choice, first.get((r.source, r.repeat_of))) for r in used if r.kind == "repeat"]
    return [choice == original for choice, original in again if original is not None]


def _share(answers: Sequence[bool]) -> float | None:
    return sum(answers) / len(answers) if answers else None
