"""What captions of other clips score: the baseline of alignment, and the threshold that is set from it.

A cosine of 0.3 is much for one open_clip model and nothing for another. What is known of every model is what it says
about captions that are wrong for sure.
"""

import duckdb
import numpy as np

from pipelines.curation.config import Recipe
from pipelines.curation.data_card import Rows

_WRONG_SCORES = """
select quantile_cont(align_wrong_score, $share) from (
    select align_wrong_score from touched
    union all
    select align_wrong_score from catalog_rows
    where verdict <> 'removed' and row_id not in (select row_id from touched)
)
"""
_COUNTS = "select {column}, count(*) from rows where {column} is not null group by {column}"


def with_baseline(database: duckdb.DuckDBPyConnection, recipe: Recipe) -> Recipe:
    """The recipe with `align.min_score` set from the wrong captions, where `align.min_percentile` asks for it.

    All clips that are in the data set or come into it now have a say; clips that were judged before keep their verdict
    until thresholds are changed.

    Args:
        database: The refresh's, with `touched` and `catalog_rows`.
        recipe: As configured.
    """
    percentile = recipe.align.min_percentile
    if recipe.align.model is None or percentile is None:
        return recipe
    (threshold,) = database.execute(_WRONG_SCORES, {"share": percentile / 100}).fetchall()[0]
    min_score = None if threshold is None else round(threshold, 4)
    return recipe.model_copy(update={"align": recipe.align.model_copy(update={"min_score": min_score})})


def separation(rows: Rows) -> float | None:
    """ROC AUC, 0..1, of right against wrong captions of the catalog: 0.5 is chance; None without scores.

    Exact: scores have 4 digits, so there are few different ones to count.
    """
    with duckdb.connect() as database:
        database.register("rows", rows)
        counted = [
            dict(database.sql(_COUNTS.format(column=column)).fetchall())
            for column in ("align_score", "align_wrong_score")
        ]
    right, wrong = counted
    if not right or not wrong:
        return None
    scores = sorted({*right, *wrong})
    right_N, wrong_N = (np.asarray([counts.get(score, 0) for score in scores], np.float64) for counts in counted)
    wrong_below_N = wrong_N.cumsum() - wrong_N
    return float((right_N * (wrong_below_N + wrong_N / 2)).sum() / (right_N.sum() * wrong_N.sum()))
