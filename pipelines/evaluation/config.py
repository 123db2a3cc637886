"""Configurations of the jobs that judge videos: score, export_study, import_study. Light to import."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipelines.config import Config
from pipelines.tracking import TrackingConfig

Question = Literal["align", "quality"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_OWN_SIDES = frozenset({"ours", "tie", "unrelated", "degraded"})


class ScoreConfig(Config):
    """`jobs/score.py`: measure the videos of a folder."""

    videos: str = Field(description="folder of *.mp4, each with a NAME.json that holds its `prompt` where it has one")
    out: str = Field(description="folder of the results: scores.csv, summary.json and pictures")
    prompts: str | None = Field(
        default=None, description="prompt file for videos without NAME.json; their file names are its prompt_id"
    )
    metrics: tuple[str, ...] = Field(
        default=(), description="metrics of your own, by the names of their entry points in the group lumiere.metrics"
    )
    sheet_rows: int = Field(default=12, ge=1, description="videos on the contact sheet and on the picture of slices")
    tracking: TrackingConfig = TrackingConfig()


class ExclusionConfig(Config):
    """Whose answers do not count; frozen in the study before the first answer."""

    max_wrong_catches: int = Field(default=1, ge=0, description="more wrong catch answers exclude the rater")
    min_catch_accuracy: float = Field(
        default=0.75, ge=0, le=1, description="a lower share of right catch answers excludes the rater"
    )
    catch_accuracy_from: int = Field(default=4, ge=1, description="catch answers from which the share is looked at")
    min_trial_time_in_clips: float = Field(
        default=1.0, ge=0, description="a lower median of (time on a trial / its duration) excludes the rater"
    )
    min_left_share: float = Field(default=0.1, ge=0, le=0.5, description="a lower share of Left excludes the rater")
    max_left_share: float = Field(default=0.9, ge=0.5, le=1, description="a higher share of Left excludes the rater")
    left_share_from: int = Field(default=20, ge=1, description="trials from which the share of Left is looked at")


class PolicyConfig(Config):
    """What is asked, who counts and what is computed; copied into study.yaml."""

    raters_per_pair: int = Field(
        default=5, ge=1, description="judgements of each pair; every one has a block of its own"
    )
    min_raters: int = Field(default=30, ge=1, description="fewer raters are told in the import's log")
    max_rater_share: float = Field(
        default=0.05, gt=0, le=1, description="a rater with a larger share of the judgements is told in the log"
    )
    exclusions: ExclusionConfig = ExclusionConfig()
    primary_analysis: Literal["two-way cluster-robust t interval over prompts and raters"] = Field(
        default="two-way cluster-robust t interval over prompts and raters", description="the interval that counts"
    )


class ExportStudyConfig(Config):
    """`jobs/export_study.py`: videos of two or more systems to a pairwise study."""

    ours: str = Field(description="folder of our videos: NAME.mp4 with NAME.json, or PROMPT_ID.mp4")
    baselines: dict[str, str] = Field(
        description="name: folder of its videos; on the command line baselines.NAME=FOLDER"
    )
    prompts: str = Field(description="prompt file: text (one a line), CSV or JSONL with prompt_id and text or prompt")
    out: str = Field(description="the study's folder")
    study_id: str | None = Field(default=None, description="public name of the study; null: one that tells nothing")
    task: Literal["t2v", "i2v"] = Field(default="t2v", description="text-to-video or image-to-video")
    questions: Annotated[tuple[Question, ...], Field(min_length=1)] = Field(
        default=("align", "quality"), description="align: matches the text; quality: quality and motion"
    )
    seed: int | None = Field(
        default=None, ge=0, description="makes the same study again; null: the key of its secrets is drawn anew"
    )
    width_px: int | None = Field(default=None, ge=16, multiple_of=2, description="null: of the narrowest clip")
    height_px: int | None = Field(default=None, ge=16, multiple_of=2, description="null: of the lowest clip")
    fps: float | None = Field(default=None, gt=0, le=120, description="null: of the slowest clip")
    media_base: str = Field(
        default="../media", description="where the raters' browsers find the clips: a path from site/, or an https URL"
    )
    policy: PolicyConfig = PolicyConfig()
    tracking: TrackingConfig = TrackingConfig()

    @field_validator("baselines")
    @classmethod
    def _baselines_have_names(cls, baselines: dict[str, str]) -> dict[str, str]:
        if not baselines:
            raise ValueError("at least one baseline is expected: baselines.NAME=FOLDER")
        for name in baselines:
            if not _NAME.fullmatch(name) or name in _OWN_SIDES:
                raise ValueError(
                    f"baseline {name!r}: letters, digits, '_', '.' and '-' expected, and none of {sorted(_OWN_SIDES)}"
                )
        return baselines

    @field_validator("questions")
    @classmethod
    def _questions_are_asked_once(cls, questions: tuple[Question, ...]) -> tuple[Question, ...]:
        if len(set(questions)) != len(questions):
            raise ValueError("each question once expected")
        return questions

    @field_validator("study_id")
    @classmethod
    def _study_id_is_a_name(cls, study_id: str | None) -> str | None:
        if study_id is not None and not _NAME.fullmatch(study_id):
            raise ValueError("letters, digits, '_', '.' and '-' expected")
        return study_id


class ImportStudyConfig(Config):
    """`jobs/import_study.py`: raters' answers to preferences."""

    study: str = Field(description="the study's folder, as jobs/export_study.py made it")
    answers: str = Field(description="results: a CSV file, or a folder of *.csv")
    out: str | None = Field(default=None, description="folder of the results; null: the study's folder")
    tracking: TrackingConfig = TrackingConfig()
