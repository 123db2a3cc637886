"""The types at the boundaries of curation: `ClipRecord -> DecodedClip -> ScoredClip -> shard sample`."""

from typing import Literal, NamedTuple, TypedDict, get_args

from pipelines.video_file import Yuv

Verdict = Literal[
    "kept",
    "unreadable",
    "corrupt",
    "no_video",
    "too_short",
    "too_small",
    "too_large",
    "low_fps",
    "still",
    "cut",
    "too_dark",
    "letterboxed",
    "blurry",
    "caption_missing",
    "caption_invalid",
    "misaligned",
    "duplicate",
    "timeout",
    "crashed",
    "removed",
]
"""Every clip ends with one of these: the list is closed."""

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


class Rejection(NamedTuple):
    """Why a clip is not kept: a value, never an exception."""

    verdict: Verdict
    reason: str
    """What was found and what is asked for."""


class ClipRecord(TypedDict):
    """One row of the manifest that is to be processed."""

    row_id: str
    """32 hex digits of the row's identity: uri, span, and which occurrence of them it is."""
    uri: str
    etag: str
    """Changes when the source does: size and time of change. Empty: there is no such file."""
    caption: str
    start_s: float | None
    end_s: float | None
    manifest_json: str
    """All other manifest columns as a JSON object with sorted keys."""
    wrong_caption: str | None
    """Another clip's, by which alignment has a baseline; null where no other caption is known."""


class SourceFacts(TypedDict):
    """What the source file is; null where it could not be told."""

    codec: str | None
    source_width: int | None
    source_height: int | None
    source_fps: float | None
    source_duration_s: float | None
    source_bytes: int | None


class DecodedClip(NamedTuple):
    """A clip's frames at the data set's rate and size."""

    yuv: Yuv
    """T frames of size_px x size_px."""
    crop: tuple[int, int, int, int]
    """Left, top, width, height of the part that is kept, in pixels of the upright source picture, made square."""


class Bars(NamedTuple):
    """Black lines at the sides of a picture."""

    top: int
    bottom: int
    left: int
    right: int


NO_BARS = Bars(0, 0, 0, 0)


class Measures(TypedDict):
    """What the filters measure on a decoded clip; units in `pipelines.curation.filters`."""

    brightness: float
    motion: float
    cut: float
    bars: float
    sharpness: float


class ScoredClip(TypedDict):
    """A clip with all that was found out about it, before selection; null scores where there are no frames.

    `verdict` is null where thresholds decide, `blob_offset` and `blob_bytes` say where its mp4 lies in the slice.
    """

    row_id: str
    uri: str
    etag: str
    caption: str
    start_s: float | None
    end_s: float | None
    manifest_json: str
    wrong_caption: str | None
    key: str | None
    verdict: Verdict | None
    reason: str
    codec: str | None
    source_width: int | None
    source_height: int | None
    source_fps: float | None
    source_duration_s: float | None
    source_bytes: int | None
    crop: list[int] | None
    brightness: float | None
    motion: float | None
    cut: float | None
    bars: float | None
    sharpness: float | None
    fingerprint: bytes | None
    near_keys: list[int] | None
    near_rank: float | None
    align_score: float | None
    align_wrong_score: float | None
    blob_offset: int | None
    blob_bytes: int | None


class Sample(NamedTuple):
    """One sample of a shard: three members that share a key."""

    key: str
    mp4: bytes
    caption: str
    facts: dict[str, object]
    """Becomes `<key>.json`."""
