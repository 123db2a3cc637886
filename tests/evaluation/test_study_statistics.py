"""Intervals and tests of preferences, against closed forms and simulated coverage."""

import numpy as np
import pytest
from scipy import stats

from pipelines.evaluation.statistics import (
    binomial_p,
    cluster_interval,
    cluster_variance,
    holm,
    krippendorff_alpha,
    wilson,
)


def test_the_variance_is_the_formula_of_the_paper_term_by_term() -> None:
    y, prompts, raters = [1, 0, 1, 1, 0, 0], ["a", "a", "b", "b", "c", "c"], [1, 2, 1, 2, 1, 3]
    e = np.array(y) - 0.5
    of_prompts = (e[0] + e[1]) ** 2 + (e[2] + e[3]) ** 2 + (e[4] + e[5]) ** 2
    of_raters = (e[0] + e[2] + e[4]) ** 2 + (e[1] + e[3]) ** 2 + e[5] ** 2
    two_way = of_prompts + of_raters - (e**2).sum()
    assert cluster_variance(y, prompts, raters) == pytest.approx(max(two_way, of_prompts, of_raters) / 36)


def test_with_a_prompt_and_a_rater_of_its_own_for_each_judgement_it_is_the_t_interval() -> None:
    y = [1.0] * 13 + [0.0] * 7
    half = stats.t.ppf(0.975, 19) * np.sqrt(0.65 * 0.35 / 20)
    assert cluster_interval(y, range(20), range(20)) == pytest.approx((0.65 - half, 0.65 + half))


def test_the_cluster_interval_covers_and_wilson_does_not() -> None:
    rng = np.random.default_rng(0)
    num_prompts, num_raters, per_prompt, studies, truth = 40, 24, 6, 300, 0.6
    covered, naive = 0, 0
    for _ in range(studies):
        of_prompt, of_rater = rng.normal(0, 0.22, num_prompts), rng.normal(0, 0.16, num_raters)
        prompts = np.repeat(np.arange(num_prompts), per_prompt)
        raters = np.concatenate([rng.choice(num_raters, per_prompt, replace=False) for _ in range(num_prompts)])
        chance = truth + of_prompt[prompts] + of_rater[raters]
        y = (rng.random(len(prompts)) < np.clip(chance, 0, 1)).astype(float)
        lo, hi = cluster_interval(list(y), list(prompts), list(raters))
        covered += lo <= truth <= hi
        lo, hi = wilson(y.sum(), len(y))
        naive += lo <= truth <= hi
    assert 0.91 <= covered / studies <= 0.99
    assert naive / studies <= 0.88


@pytest.mark.parametrize("wins", [0, 3, 10])
def test_wilson_is_the_one_of_scipy(wins: int) -> None:
    theirs = stats.binomtest(wins, 10).proportion_ci(method="wilson")
    assert wilson(wins, 10) == pytest.approx((theirs.low, theirs.high))


def test_the_interval_of_unanimous_judgements_is_not_a_point() -> None:
    lo, hi = cluster_interval([1.0] * 12, [n // 3 for n in range(12)], [n % 3 for n in range(12)])
    assert hi == pytest.approx(1.0)
    assert lo == pytest.approx(wilson(3, 3).lo)


def test_one_rater_tells_nothing_of_raters() -> None:
    assert cluster_interval([1.0, 0.0, 1.0], ["a", "b", "c"], ["r", "r", "r"]) == (0.0, 1.0)


def test_the_binomial_test_leaves_ties_out_and_nothing_is_no_evidence() -> None:
    assert binomial_p(8, 2) == pytest.approx(2 * sum(stats.binom.pmf(k, 10, 0.5) for k in (8, 9, 10)))
    assert binomial_p(0, 0) == 1.0


def test_holm_multiplies_the_smallest_by_all_the_next_by_one_less() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([]) == []


def test_alpha_is_krippendorffs_worked_by_hand() -> None:
    # Unit 1: a, a; unit 2: a, b, b. Observed disagreement 2/5, expected 2 * 3 * 2 / (5 * 4) = 3/5.
    alpha = krippendorff_alpha(["1", "1", "2", "2", "2"], ["p", "q", "p", "q", "r"], ["a", "a", "a", "b", "b"])
    assert alpha == pytest.approx(1 / 3)
    assert krippendorff_alpha(["1", "2"], ["p", "p"], ["a", "b"]) is None
