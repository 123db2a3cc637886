"""Intervals and tests of a preference. `y`: 1 where ours was chosen, 0 where the baseline was, 0.5 for a tie.

The interval that counts is the two-way cluster-robust one (Cameron, Gelbach and Miller, 2011, section 2): judgements
of one prompt resemble each other, and so do those of one rater. Wilson's interval and the binomial test take judgements
for independent; beside this design's prompt and rater variation they promise too much, and are told for comparison.
"""

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

LEVEL = 0.95


class Interval(NamedTuple):
    """Of a share, within 0..1."""

    lo: float
    hi: float


def cluster_variance(y: Sequence[float], prompts: Sequence[Hashable], raters: Sequence[Hashable]) -> float:
    """V = (sum over prompts (sum e)^2 + sum over raters (sum e)^2 - sum e^2) / n^2 with e = y - mean.

    Not below the larger of the two one-way terms: the difference can fall below it in small samples, even below 0.
    """
    values = np.asarray(y, np.float64)
    errors = values - values.mean()
    of_prompts, of_raters = _squared_sums(errors, prompts), _squared_sums(errors, raters)
    two_way = of_prompts + of_raters - float((errors**2).sum())
    return max(two_way, of_prompts, of_raters) / len(values) ** 2


def cluster_interval(y: Sequence[float], prompts: Sequence[Hashable], raters: Sequence[Hashable]) -> Interval:
    """The mean +- t(.975, min(P, W) - 1) sqrt(V) with P prompts and W raters, cut to 0..1.

    With one prompt or one rater nothing is known of their variation: 0 to 1. Where all agree V is 0 and the interval
    would be a point; it is then Wilson's for min(P, W) judgements.
    """
    clusters = min(len(set(prompts)), len(set(raters)))
    if clusters < 2:
        return Interval(0.0, 1.0)
    mean = float(np.mean(y))
    variance = cluster_variance(y, prompts, raters)
    if variance == 0:
        return wilson(mean * clusters, clusters)
    half = float(stats.t.ppf(0.5 + LEVEL / 2, clusters - 1)) * variance**0.5
    return Interval(max(0.0, mean - half), min(1.0, mean + half))


def wilson(wins: float, n: int) -> Interval:
    """Wilson's score interval of `wins` (ties count half) among `n`."""
    z = float(stats.norm.ppf(0.5 + LEVEL / 2))
    share, scale = wins / n, 1 + z**2 / n
    centre = (share + z**2 / (2 * n)) / scale
    half = z / scale * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def binomial_p(wins: int, losses: int) -> float:
    """Two-sided exact binomial test against one half; ties are left out. 1 where there is nothing but ties."""
    return float(stats.binomtest(wins, wins + losses, 0.5).pvalue) if wins + losses else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment over all comparisons of the study."""
    if not p_values:
        return []
    adjusted: Any = multipletests(p_values, method="holm")[1]
    return [float(p) for p in adjusted]


def krippendorff_alpha(units: Sequence[str], raters: Sequence[str], values: Sequence[str]) -> float | None:
    """Nominal alpha of agreement on units (pairs) between raters; None where no unit has two judgements or all agree.

    A rater who judged a unit twice counts by the first judgement.
    """
    import evalica

    judged: dict[str, dict[str, str]] = {}
    for unit, rater, value in zip(units, raters, values, strict=True):
        judged.setdefault(unit, {}).setdefault(rater, value)
    shared = {unit: own for unit, own in judged.items() if len(own) > 1}
    if len({value for own in shared.values() for value in own.values()}) < 2:
        return None
    return float(evalica.alpha(pd.DataFrame(shared)).alpha)


def _squared_sums(errors: NDArray[np.float64], clusters: Sequence[Hashable]) -> float:
    codes, _ = pd.factorize(np.asarray([str(cluster) for cluster in clusters], dtype=object))
    return float((np.bincount(codes, weights=errors) ** 2).sum())
