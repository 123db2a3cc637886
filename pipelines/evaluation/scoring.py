"""Score a folder of videos: one row a video, whatever the video is."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from pipelines.contact_sheet import contact_sheet
from pipelines.evaluation.appearance import slices_picture
from pipelines.evaluation.clips import Clip, find_clips, with_prompts
from pipelines.evaluation.config import ScoreConfig
from pipelines.evaluation.metrics import MEASURED, NOT_RUN, MetricError, UserMetric, load_user_metrics, measure
from pipelines.evaluation.prompts import read_prompts, to_csv
from pipelines.progress import track
from pipelines.storage import write_whole
from pipelines.tracking import Run, start_run
from pipelines.video_file import Video, VideoError, read_video

Row = dict[str, str | int | float]

_FACTS = ("video", "prompt", "status", "error", "num_frames", "fps", "width_px", "height_px")


@dataclass(frozen=True)
class Scores:
    """What was measured."""

    rows: tuple[Row, ...]
    """One a video: its facts, `status` ok or failed, `error`, and its metrics; what was not measured is missing."""
    shown: tuple[tuple[str, NDArray[np.uint8]], ...]
    """(prompt or name, frames_THWC) of the first readable videos, for pictures."""

    @property
    def metrics(self) -> list[str]:
        """Names of the measured metrics, the project's own first."""
        found = {name for row in self.rows for name in row if name not in _FACTS}
        return [*(name for name in MEASURED if name in found), *sorted(found - set(MEASURED))]

    @property
    def means(self) -> dict[str, float]:
        """Mean of each metric over the videos that have it."""
        return {name: fmean(float(row[name]) for row in self.rows if name in row) for name in self.metrics}

    @property
    def num_failed(self) -> int:
        """Videos that could not be measured."""
        return sum(row["status"] == "failed" for row in self.rows)


def score(config: ScoreConfig) -> Scores:
    """Measure every video of a folder, write `scores.csv`, `summary.json` and two pictures, and record them.

    Raises:
        ClipError: No such folder, or no video in it.
        MetricError: An unknown metric of the user's own.
        PromptError: A prompt file that cannot be used.
    """
    own = load_user_metrics(config.metrics)
    clips = find_clips(config.videos)
    if config.prompts is not None:
        clips = with_prompts(clips, read_prompts(config.prompts))
    scores = score_clips(clips, own, config.sheet_rows)
    tags = {"job": "score", "videos": config.videos}
    name = f"score {Path(config.videos).name}"
    with start_run(config.tracking, name, tags, config.model_dump(mode="json")) as run:
        write_scores(scores, Path(config.out))
        _record(scores, Path(config.out), run)
    return scores


def score_clips(clips: Sequence[Clip], own: Mapping[str, UserMetric], num_shown: int) -> Scores:
    """Measure clips one by one, and keep the frames of the first readable ones."""
    rows: list[Row] = []
    shown: list[tuple[str, NDArray[np.uint8]]] = []
    for clip in track(clips, "scoring"):
        facts: Row = {"video": clip.path.name, "prompt": clip.prompt or ""}
        try:
            video = read_video(clip.path)
            rows.append({**facts, "status": "ok", "error": "", **_measured(video, clip.prompt, own)})
        except (VideoError, MetricError) as error:
            rows.append({**facts, "status": "failed", "error": _without_folder(str(error), clip.path)})
            continue
        if len(shown) < num_shown:
            shown.append((clip.prompt or clip.path.stem, video.frames_THWC))
    return Scores(tuple(rows), tuple(shown))


def _without_folder(message: str, path: Path) -> str:
    """The message as it is wherever the videos lie; the row names the file."""
    return message.replace(f"{path}: ", "").replace(str(path), path.name)


def _measured(video: Video, prompt: str | None, own: Mapping[str, UserMetric]) -> Row:
    num_frames, height_px, width_px, _ = video.frames_THWC.shape
    row: Row = {"num_frames": num_frames, "fps": float(video.fps), "width_px": width_px, "height_px": height_px}
    row.update(measure(video.frames_THWC))
    if prompt is not None:  # a user's metric compares with the prompt: without one there is nothing to measure
        for name, metric in own.items():
            row.update({f"{name}/{key}": float(value) for key, value in metric(video.frames_THWC, prompt).items()})
    return row


def write_scores(scores: Scores, out: Path) -> None:
    """Write scores.csv and summary.json."""
    columns = (*_FACTS, *scores.metrics)
    write_whole(out / "scores.csv", to_csv(columns, (dict.fromkeys(columns, "") | row for row in scores.rows)))
    summary = {
        "videos": len(scores.rows),
        "failed": scores.num_failed,
        "means": scores.means,
        "not_run": dict(NOT_RUN),
    }
    write_whole(out / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())


def _record(scores: Scores, out: Path, run: Run) -> None:
    run.log_metrics({f"auto/{name}": value for name, value in scores.means.items()})
    run.log_metrics({"videos": len(scores.rows), "videos_failed": scores.num_failed})
    columns = (*_FACTS, *scores.metrics)
    run.log_table("tables/scores.json", [dict.fromkeys(columns, "") | row for row in scores.rows])
    run.log_file(out / "scores.csv")
    run.log_file(out / "summary.json")
    if scores.shown:
        labels, videos = zip(*scores.shown, strict=True)
        run.log_image("contact_sheet", contact_sheet(videos, labels))
        run.log_image("space_time_slices", slices_picture(list(videos)))
