"""What captions of other clips score: the baseline of alignment, and the threshold that is set from it.

A cosine of 0.3 is much for one open_clip model and nothing for another. What is known of every model is what it says
about captions that are wrong for sure: each clip is scored with the caption of another clip too. Which one is told by
its row and the manifest alone, so that it is the same however clips are cut into slices and whatever was cut off.
"""

from math import ceil

import duckdb
import numpy as np

from pipelines.curation.config import Recipe
from pipelines.curation.data_card import Rows

WRONG_CAPTION = "if(other.caption <> manifest.caption, other.caption, nullif(another.caption, manifest.caption))"
"""SQL: the caption of another clip, null where all captions are the same, in a query that joins `OTHER_CAPTIONS`."""
_PLACE = "((md5_number_lower(row_id) >> 2)::bigint + {step}) % (select count(*) from other_captions)"
OTHER_CAPTIONS = f"""
left join other_captions other on other.place = {_PLACE.format(step=0)}
left join other_captions another on another.place = {_PLACE.format(step=1)}
"""
"""SQL: joins to the manifest two captions a row, of which one is not its own."""

_NUM_OTHERS = 4096
_LEAST_WRONG = 20
_COLLECT = f"""
create table other_captions as
select caption, row_number() over (order by md5(caption), caption) - 1 as place from (
    select distinct caption from (
        select caption from manifest where caption <> '' and getvariable('is_aligned')
        order by md5(row_id), row_id limit {_NUM_OTHERS}))
"""
_WRONG_SCORES = """
select quantile_cont(align_wrong_score, $share), count(align_wrong_score), count(align_score) from (
    select align_score, align_wrong_score from touched
    union all
    select align_score, align_wrong_score from catalog_rows
    where verdict <> 'removed' and row_id not in (select row_id from touched)
)
"""
_COUNTS = "select {column}, count(*) from rows where {column} is not null group by {column}"


class BaselineError(ValueError):
    """A threshold that so few wrong captions cannot set; the message tells how many there are."""


def collect_other_captions(database: duckdb.DuckDBPyConnection) -> None:
    """Make the table `other_captions`: up to 4096 different ones, of rows of the manifest that chance draws.

    Args:
        database: The refresh's, with `manifest`. What is drawn depends on nothing else.
    """
    database.execute(_COLLECT)


def with_baseline(database: duckdb.DuckDBPyConnection, recipe: Recipe) -> Recipe:
    """The recipe with `align.min_score` set from the wrong captions, where `align.min_percentile` asks for it.

    All clips that are in the data set or come into it now have a say; clips that were judged before keep their verdict
    until thresholds are changed.

    Args:
        database: The refresh's, with `touched` and `catalog_rows`.
        recipe: As configured.

    Raises:
        BaselineError: Clips have scores, but too few of them with a wrong caption for a percentile.
    """
    percentile = recipe.align.min_percentile
    if recipe.align.model is None or percentile is None:
        return recipe
    threshold, num_wrong, num_scored = database.execute(_WRONG_SCORES, {"share": percentile / 100}).fetchall()[0]
    needed = max(_LEAST_WRONG, ceil(100 / (100 - percentile)) if percentile < 100 else 0)
    if num_scored and num_wrong < needed:
        raise BaselineError(
            f"align.min_percentile {percentile:g}: scores of at least {needed} clips with another clip's caption "
            f"expected, {num_wrong} of {num_scored} clips have one; give align.min_score instead"
        )
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
