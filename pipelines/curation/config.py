"""Configuration of `jobs/refresh.py`. Light to import: a mistake is told before Ray or torch load."""

import hashlib
import json
from fractions import Fraction
from typing import Any, Literal

from pydantic import Field, model_validator

from pipelines.cluster import RayConfig
from pipelines.config import Config
from pipelines.tracking import TrackingConfig

# What these end is tried again by later refreshes: `max_attempts` in all, and again where they allow more than before.
_COSTS = ("timeout_s", "max_memory_bytes")


class LimitsConfig(Config):
    """What a source may be, before anything is decoded, and what decoding it may cost. A null limit is not applied."""

    max_bytes: int | None = Field(default=512 * 1024**2, ge=1, description="larger files are `too_large`, unread")
    max_pixels: int | None = Field(
        default=4096 * 2304, ge=1, description="larger pictures (width x height) are `too_large`"
    )
    max_duration_s: float | None = Field(default=3600, gt=0, description="longer sources are `too_large`")
    min_short_side_px: int | None = Field(
        default=None, ge=2, description="smaller pictures are `too_small`; null: size_px, nothing is scaled up"
    )
    max_frames: int | None = Field(
        default=1_000_000, ge=1, description="sources of more frames are `too_large`, whatever they declare"
    )
    min_source_fps: float | None = Field(default=8, gt=0, description="slower sources are `low_fps`")
    timeout_s: float = Field(
        default=60, gt=0, description="a clip whose decoding is not done after so long is `timeout`; wall time"
    )
    max_memory_bytes: int = Field(
        default=2 * 1024**3,
        ge=64 * 1024**2,
        description="address space that decoding a clip may take beside the libraries; what needs more is `crashed`",
    )


class FilterConfig(Config):
    """Thresholds on what `pipelines.curation.filters` measures. A null threshold is not applied."""

    min_brightness: float | None = Field(
        default=48,
        ge=0,
        le=255,
        description="below: `too_dark`; level (best channel) that only 1 % of all pixels exceed",
    )
    min_motion: float | None = Field(
        default=2.5,
        ge=0,
        le=255,
        description="below: `still`; deviation over time of the liveliest 1 % of the coarse picture, in levels",
    )
    max_cut: float | None = Field(
        default=18,
        ge=0,
        le=255,
        description="above: `cut`; excess of one frame's change over its neighbours', in levels",
    )
    max_bars: float | None = Field(
        default=0.04, ge=0, le=1, description="above: `letterboxed`; share of the picture under black bars"
    )
    min_sharpness: float | None = Field(
        default=0.3,
        ge=0,
        le=1,
        description="below: `blurry`; steepest one-pixel steps, as a share of the range of levels",
    )
    max_near_levels: float | None = Field(
        default=10,
        ge=0,
        le=255,
        description="to: `duplicate` of an earlier clip that moves alike; difference of coarse colours, in levels",
    )
    max_caption_chars: int | None = Field(default=2000, ge=1, description="longer captions are `caption_invalid`")


class AlignConfig(Config):
    """How well a caption fits its frames, by an open_clip model."""

    model: str | None = Field(
        default=None,
        description="open_clip model: a name such as ViT-B-32, or local-dir:FOLDER; null leaves alignment out",
    )
    pretrained: str | None = Field(
        default=None, description="open_clip weights: a tag, or a path; null for local-dir models"
    )
    frames: int = Field(default=4, ge=1, description="frames looked at, evenly spaced")
    clips_per_batch: int = Field(default=32, ge=1, description="clips that the model looks at together; scores stay")
    min_score: float | None = Field(
        default=0.2, ge=-1, le=1, description="below: `misaligned`; mean cosine of caption and frames"
    )
    min_percentile: float | None = Field(
        default=None,
        ge=0,
        le=100,
        description="then min_score is what only this percentage of clips with WRONG captions stays below",
    )


class Recipe(Config):
    """All that decides what becomes of a clip.

    Two parts of it are told apart: a change of `scoring` makes every clip of the catalog due to be decoded again, a
    change of `selection` alone judges the stored scores anew and copies bytes.
    """

    decoder: Literal["pyav", "decord"] = Field(
        default="pyav",
        description="frame reader; decord cannot flag corrupt frames and leaves AV1, edit lists, rotation to pyav",
    )
    frames: int = Field(default=80, ge=1, description="frames of a clip in the data set")
    fps: float = Field(default=16, gt=0, le=240, description="frames per second of a clip in the data set")
    size_px: int = Field(
        default=128, ge=16, multiple_of=2, description="side of the square that is kept of the picture"
    )
    letterbox: Literal["reject", "crop"] = Field(
        default="reject",
        description="black bars at opposite sides; crop: keep the square between them, decoding the clip twice",
    )
    limits: LimitsConfig = LimitsConfig()
    filters: FilterConfig = FilterConfig()
    align: AlignConfig = AlignConfig()

    @property
    def scoring(self) -> dict[str, Any]:
        """What decoding and scoring depend on."""
        given = self.model_dump(mode="json")
        align = given["align"] if self.align.model is not None else {}
        # Batches of 1 to 128 clips gave the same 1280 scores on a CPU; elsewhere a fourth digit may differ.
        for name in ("min_score", "min_percentile", "clips_per_batch"):
            align.pop(name, None)
        limits = {name: value for name, value in given["limits"].items() if name not in _COSTS}
        parts = {name: given[name] for name in ("decoder", "frames", "fps", "size_px", "letterbox")}
        return {**parts, "limits": limits, "align": align}

    @property
    def selection(self) -> dict[str, Any]:
        """What only judges scores: thresholds, rules of captions, and whatever is not `scoring`."""
        given = self.model_dump(mode="json")
        rest = {name: value for name, value in given.items() if name not in self.scoring}
        has_model = self.align.model is not None
        return rest | {name: given["align"][name] if has_model else None for name in ("min_score", "min_percentile")}

    @property
    def rate(self) -> Fraction:
        """`fps` as the fraction that was written: 29.97 is 2997/100."""
        return Fraction(str(self.fps))

    @property
    def min_short_side_px(self) -> int:
        """Shortest short side of a source that is not `too_small`."""
        return self.size_px if self.limits.min_short_side_px is None else self.limits.min_short_side_px


class Place(Config):
    """What is read and where the data set lies; each a local path or an address such as s3://bucket/folder."""

    manifest: str = Field(
        description="CSV, JSONL or Parquet with `video` and `caption` (optional start_s, end_s, etag with size; other "
        "columns pass through), or a folder of videos with NAME.txt captions"
    )
    dataset: str = Field(description="root of the data set: shards/*.tar, slices/, and the Delta table catalog")
    takedown: str | None = Field(
        default=None,
        description="text file, one video address or 32-digit key a line: their clips leave the data set",
    )


class UpkeepConfig(Config):
    """How a data set is kept over many refreshes."""

    missing_rows: Literal["remove", "keep"] = Field(
        default="remove", description="clips that the manifest no longer names; keep: a manifest of additions only"
    )
    on_bad_row: Literal["refuse", "reject"] = Field(
        default="refuse",
        description="manifest row that cannot be understood; reject: list it in refreshes/ID.rejected.jsonl and go on",
    )
    max_attempts: int = Field(
        default=3,
        ge=1,
        description="refreshes that try a clip which timed out, crashed or could not be read; rejections are final",
    )
    max_unreachable_share: float = Field(
        default=0.2,
        ge=0,
        le=1,
        description="of known sources: if more cannot be seen, the refresh stops; else their clips stay as they are",
    )
    lease_s: float = Field(
        default=300, ge=3, description="seconds after which a refresh that does not answer is taken for dead"
    )
    vacuum_older_than_days: float | None = Field(
        default=None,
        ge=0,
        description="then remove versions that were replaced longer ago, and files that only they name; null: never",
    )


class RefreshConfig(Recipe, UpkeepConfig, Place):
    """`jobs/refresh.py`: bring a data set up to date with its manifest."""

    shuffle_seed: int = Field(default=0, ge=0, description="of the order in which kept samples are put into shards")
    samples_per_shard: int = Field(default=1000, ge=1, description="samples in a tar")
    align_actors: int | None = Field(
        default=None,
        ge=0,
        description="actors that align, one GPU each where there are any; 0: tasks align what they decoded, on their "
        "CPU; null: as many as the cluster has GPUs",
    )
    clips_per_slice: int = Field(default=32, ge=1, description="clips that one task decodes and writes aside together")
    sheet_rows: int = Field(default=12, ge=1, description="clips on a contact sheet of the report")
    tracking: TrackingConfig = TrackingConfig()
    ray: RayConfig = RayConfig()

    @model_validator(mode="after")
    def _alignment_has_a_model(self) -> "RefreshConfig":
        if self.align.model is None and self.align.pretrained is not None:
            raise ValueError("align.pretrained is given, align.model is null; name the model too")
        return self

    @property
    def recipe(self) -> Recipe:
        """The part of the configuration that decides what becomes of a clip."""
        return Recipe(**{name: getattr(self, name) for name in Recipe.model_fields})

    @property
    def scoring_hash(self) -> str:
        """16 hex digits; another one makes all clips due to be decoded."""
        return _digest(self.recipe.scoring)

    @property
    def config_hash(self) -> str:
        """16 hex digits of all that decides about verdicts and shards; another one has all clips judged anew."""
        cut = {"shuffle_seed": self.shuffle_seed, "samples_per_shard": self.samples_per_shard}
        return _digest({**self.recipe.scoring, **self.recipe.selection, **cut})


def _digest(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
