"""One clip of the plan to a `ScoredClip`: read, decode, measure, align, encode. Thresholds come later, in selection."""

from typing import NamedTuple

from pipelines.curation.align import Aligner
from pipelines.curation.config import Recipe
from pipelines.curation.decode import Span, decode
from pipelines.curation.filters import measure
from pipelines.curation.records import ClipRecord, DecodedClip, Measures, Rejection, ScoredClip, SourceFacts
from pipelines.curation.source import clip_key, read_source
from pipelines.video_file import encode_mp4

_NO_FACTS = SourceFacts(
    codec=None, source_width=None, source_height=None, source_fps=None, source_duration_s=None, source_bytes=None
)
_NO_MEASURES = dict.fromkeys(Measures.__annotations__)


class Scored(NamedTuple):
    """A clip's row and its encoded frames (empty where there are none)."""

    clip: ScoredClip
    mp4: bytes


def score_clip(record: ClipRecord, recipe: Recipe, aligner: Aligner | None) -> Scored:
    """Do all that is expensive about a clip. Every outcome is a row; nothing about a clip raises."""
    source = read_source(record["uri"], recipe.limits.max_bytes)
    if isinstance(source, Rejection):
        return Scored(_rejected(record, None, _NO_FACTS, source), b"")
    span = Span(record["start_s"], record["end_s"])
    key = clip_key(source, span)
    decoding = decode(source, span, recipe)
    if isinstance(decoding.result, Rejection):
        return Scored(_rejected(record, key, decoding.facts, decoding.result), b"")
    return _scored(record, key, decoding.facts, decoding.result, recipe, aligner)


def _scored(
    record: ClipRecord, key: str, facts: SourceFacts, decoded: DecodedClip, recipe: Recipe, aligner: Aligner | None
) -> Scored:
    is_alignable = aligner is not None and record["caption"]
    clip = ScoredClip(
        **record,
        **facts,
        **measure(decoded.frames_THWC),
        key=key,
        verdict=None,
        reason="",
        crop=list(decoded.crop),
        align_score=aligner.score(decoded.frames_THWC, record["caption"]) if aligner and is_alignable else None,
        blob_offset=None,
        blob_bytes=None,
    )
    return Scored(clip, encode_mp4(decoded.frames_THWC, recipe.rate))


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
