"""One clip of the plan to a `ScoredClip`: read, prepare (perhaps in another process), align. Thresholds come later."""

from collections.abc import Sequence
from concurrent.futures import Future
from typing import NamedTuple

from pipelines.ahead import ahead, one_thread
from pipelines.curation.align import Alignable, Aligner
from pipelines.curation.config import Recipe
from pipelines.curation.decode import Span
from pipelines.curation.near_duplicates import near_hash
from pipelines.curation.prepare import Preparation, Prepare, decode_jpegs
from pipelines.curation.records import ClipRecord, Measures, Rejection, ScoredClip, SourceFacts
from pipelines.curation.source import clip_key, read_source

_NO_FACTS = SourceFacts(
    codec=None, source_width=None, source_height=None, source_fps=None, source_duration_s=None, source_bytes=None
)
_SOURCES = 2
_NO_MEASURES = dict.fromkeys(Measures.__annotations__)


class Scored(NamedTuple):
    """A clip's row, its encoded frames, and the frames for alignment; empty where there are none."""

    clip: ScoredClip
    mp4: bytes
    align_jpegs: tuple[bytes, ...] = ()


class _Read(NamedTuple):
    """The bytes of a source, the part that is meant, and the key that both give."""

    source: bytes
    span: Span
    key: str


class _Prepared(NamedTuple):
    """What became of a clip; a source that could not be read has no key."""

    key: str | None
    preparation: Preparation


def score_clips(records: Sequence[ClipRecord], recipe: Recipe, prepare: Prepare) -> list[Scored]:
    """Do all that is expensive about clips but alignment. Every outcome is a row; nothing about a clip raises.

    While a clip is decoded the next source is read and the row of the last one is made: two sources are in memory, each
    at most `limits.max_bytes`.

    Args:
        records: The clips.
        recipe: What decides about them.
        prepare: Where foreign bytes are decoded: `pipelines.curation.prepare.prepare` here, or an isolated process. It
            is called in a thread, one clip after another.
    """
    with one_thread() as reading, one_thread() as preparing:

        def started(record: ClipRecord) -> Future[_Prepared]:
            read = reading.submit(_read, record, recipe)
            return preparing.submit(_prepare, record, read, recipe, prepare)

        under_way = ahead(map(started, records), _SOURCES)
        return [_scored(record, clip.result()) for record, clip in zip(records, under_way, strict=True)]


def _read(record: ClipRecord, recipe: Recipe) -> _Read | Rejection:
    source = read_source(record["uri"], recipe.limits.max_bytes)
    if isinstance(source, Rejection):
        return source
    span = Span(record["start_s"], record["end_s"])
    return _Read(source, span, clip_key(source, span))


def _prepare(record: ClipRecord, read: Future[_Read | Rejection], recipe: Recipe, prepare: Prepare) -> _Prepared:
    seen = read.result()
    if isinstance(seen, Rejection):
        return _Prepared(None, Preparation(seen, _NO_FACTS))
    is_alignable = recipe.align.model is not None and record["caption"]
    return _Prepared(seen.key, prepare(seen.source, seen.span, recipe.align.frames if is_alignable else 0))


def _scored(record: ClipRecord, clip: _Prepared) -> Scored:
    key, (prepared, facts) = clip
    if isinstance(prepared, Rejection):
        return Scored(_rejected(record, key, facts, prepared), b"")
    near = near_hash(prepared.fingerprint)
    row = ScoredClip(
        **record,
        **facts,
        **prepared.measures,
        key=key,
        verdict=None,
        reason="",
        crop=list(prepared.crop),
        fingerprint=prepared.fingerprint,
        near_keys=near.keys,
        near_rank=near.rank,
        align_score=None,
        align_wrong_score=None,
        blob_offset=None,
        blob_bytes=None,
    )
    return Scored(row, prepared.mp4, prepared.align_jpegs)


def align_clips(scored: Sequence[Scored], aligner: Aligner) -> list[Scored]:
    """The same clips with their alignment scores; those without frames for it stay as they are."""
    places = [index for index, clip in enumerate(scored) if clip.align_jpegs]
    looked_at = [_alignable(scored[index]) for index in places]
    aligned = list(scored)
    for place, (score, wrong_score) in zip(places, aligner.scores(looked_at), strict=True):
        clip = scored[place].clip.copy()
        clip["align_score"], clip["align_wrong_score"] = score, wrong_score
        aligned[place] = scored[place]._replace(clip=clip)
    return aligned


def _alignable(scored: Scored) -> Alignable:
    clip = scored.clip
    return Alignable(decode_jpegs(scored.align_jpegs), clip["caption"], clip["wrong_caption"])


def _rejected(record: ClipRecord, key: str | None, facts: SourceFacts, rejection: Rejection) -> ScoredClip:
    row = {
        **record,
        **facts,
        **_NO_MEASURES,
        "key": key,
        "verdict": rejection.verdict,
        "reason": rejection.reason,
        "crop": None,
        "fingerprint": None,
        "near_keys": None,
        "near_rank": None,
        "align_score": None,
        "align_wrong_score": None,
        "blob_offset": None,
        "blob_bytes": None,
    }
    return ScoredClip(**row)  # pyright: ignore[reportArgumentType]  # the keys are those of the parts above
