"""Selection: thresholds turn scores into verdicts, and of equal clips one is kept. No decoding, no pixels.

Precedence of verdicts, first match wins:

1. what ended decoding: `too_large` (bytes), `unreadable`, `no_video`, `too_large` (pixels, duration), `too_small`,
   `too_short` or `corrupt` (the file ends before the clip does), `low_fps`, `corrupt` (a damaged frame);
2. what the picture is: `too_dark`, `still`, `cut`, `letterboxed`, `blurry`;
3. what the caption is: `caption_missing`, `caption_invalid`;
4. how they fit: `misaligned`;
5. `duplicate`: the same bytes and span as a clip that is kept. An earlier kept clip stays, then the order of the
   manifest decides. A copy of a clip that was rejected for another reason bears that reason too.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pipelines.curation.captions import judge_caption
from pipelines.curation.config import AlignConfig, Recipe
from pipelines.curation.filters import judge
from pipelines.curation.records import Rejection


def select(rows: Iterable[dict[str, Any]], recipe: Recipe, kept_keys: Mapping[str, str]) -> list[dict[str, Any]]:
    """Give every scored row its verdict and reason.

    Args:
        rows: `ScoredClip` rows in the order of the manifest.
        recipe: The thresholds.
        kept_keys: Keys of clips that the catalog keeps and this refresh does not touch, each with its address.
    """
    owners, judged = dict(kept_keys), list[dict[str, Any]]()
    for row in rows:
        rejection = _judge_row(row, recipe)
        if rejection is None and row["key"] in owners:
            rejection = Rejection("duplicate", f"same bytes and span as {owners[row['key']]}")
        if rejection is None:
            owners[row["key"]] = row["uri"]
        verdict, reason = rejection or ("kept", "")
        judged.append({**row, "verdict": verdict, "reason": reason})
    return judged


def _judge_row(row: Mapping[str, Any], recipe: Recipe) -> Rejection | None:
    if row["verdict"] is not None:
        return Rejection(row["verdict"], row["reason"])
    return (
        judge(row, recipe.filters)
        or judge_caption(row["caption"], recipe.filters)
        or _judge_alignment(row["align_score"], recipe.align)
    )


def _judge_alignment(score: float | None, align: AlignConfig) -> Rejection | None:
    if score is None or align.min_score is None or score >= align.min_score:
        return None
    return Rejection("misaligned", f"align_score {score:.3f}, at least {align.min_score}")
