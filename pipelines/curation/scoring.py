"""One clip of the plan to a `ScoredClip`: read, prepare (perhaps in another process), align. Thresholds come later."""

from typing import NamedTuple

from pipelines.curation.align import Aligner
from pipelines.curation.config import Recipe
from pipelines.curation.decode import Span
from pipelines.curation.prepare import Prepare, PreparedClip, decode_jpegs
from pipelines.curation.records import ClipRecord, Measures, Rejection, ScoredClip, SourceFacts
from pipelines.curation.source import clip_key, read_source

_NO_FACTS = SourceFacts(
    codec=None, source_width=None, source_height=None, source_fps=None, source_duration_s=None, source_bytes=None
)
_NO_MEASURES = dict.fromkeys(Measures.__annotations__)


class Scored(NamedTuple):
    """A clip's row, its encoded frames, and the frames for alignment; empty where there are none."""

    clip: ScoredClip
    mp4: bytes
    align_jpegs: tuple[bytes, ...] = ()


def score_clip(record: ClipRecord, recipe: Recipe, prepare: Prepare, aligner: Aligner | None) -> Scored:
    """Do all that is expensive about a clip. Every outcome is a row; nothing about a clip raises.

    Args:
        record: The clip.
        recipe: What decides about it.
        prepare: Where foreign bytes are decoded: `pipelines.curation.prepare.prepare` here, or an isolated process.
        aligner: Scores the frames here; None leaves them in `align_jpegs` to be scored elsewhere.
    """
    source = read_source(record["uri"], recipe.limits.max_bytes)
    if isinstance(source, Rejection):
        return Scored(_rejected(record, None, _NO_FACTS, source), b"")
    span = Span(record["start_s"], record["end_s"])
    key = clip_key(source, span)
    is_alignable = recipe.align.model is not None and record["caption"]
    prepared, facts = prepare(source, span, recipe.align.frames if is_alignable else 0)
    if isinstance(prepared, Rejection):
        return Scored(_rejected(record, key, facts, prepared), b"")
    return _scored(record, key, facts, prepared, aligner)


def _scored(
    record: ClipRecord, key: str, facts: SourceFacts, prepared: PreparedClip, aligner: Aligner | None
) -> Scored:
    align_score = None
    if aligner and prepared.align_jpegs:
        align_score = aligner.score(decode_jpegs(prepared.align_jpegs), record["caption"])
    clip = ScoredClip(
        **record,
        **facts,
        **prepared.measures,
        key=key,
        verdict=None,
        reason="",
        crop=list(prepared.crop),
        align_score=align_score,
        blob_offset=None,
        blob_bytes=None,
    )
    return Scored(clip, prepared.mp4, prepared.align_jpegs)


def _rejected(record: ClipRecord, key: str | None, facts: SourceFacts, rejection: Rejection) -> ScoredClip:
    row = {
        **record,
        **facts,
        **_NO_MEASURES,
        "key": key,
        "verdict": rejection.verdict,
        "reason": rejection.reason,
        "crop": None,
        "align_score": None,
        "blob_offset": None,
        "blob_bytes": None,
    }
    return ScoredClip(**row)  # pyright: ignore[reportArgumentType]  # the keys are those of the parts above
