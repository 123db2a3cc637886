"""What a refresh made, for people: one self-contained page, and the same figures and pictures in the tracker."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray
from PIL import Image

from pipelines.contact_sheet import contact_sheet
from pipelines.curation.baseline import separation
from pipelines.curation.config import Recipe
from pipelines.curation.data_card import DataCard, make_card
from pipelines.curation.figures import funnel, histograms
from pipelines.curation.ledger import Failure, Flow, failures, flows
from pipelines.curation.records import VERDICTS
from pipelines.curation.summary import Throughput, Version
from pipelines.tracking import Run
from pipelines.video_file import read_video

ReadMp4 = Callable[[dict[str, Any]], bytes]

_MAX_ROWS_OF_TABLE = 1000


@dataclass(frozen=True)
class Page:
    """What the page shows; pictures are data addresses."""

    dataset: str
    version: int
    refresh_id: str
    is_first: bool
    facts: Mapping[str, object]
    card: DataCard
    flows: list[Flow]
    failures: list[Failure]
    funnel: str
    histograms: str
    sheets: Mapping[str, str]


def log_report(
    run: Run, version: Version, clips: Sequence[dict[str, Any]], read_mp4: ReadMp4, recipe: Recipe, sheet_rows: int
) -> None:
    """Send a refresh's report to the tracker.

    Args:
        run: The refresh's run.
        version: What was committed.
        clips: Judged rows of this refresh, a few of each verdict: examples.
        read_mp4: The encoded frames of an example that has some.
        recipe: The thresholds that are drawn in.
        sheet_rows: Clips on a contact sheet.
    """
    card, auc = make_card(version.rows), separation(version.rows)
    pictures = {"funnel": funnel(version.counts), "histograms": histograms(version.rows, recipe)}
    sheets = _sheets(clips, read_mp4, sheet_rows)
    verdicts = {f"verdict/{name}": float(count) for name, count in version.counts.items()}
    run.log_metrics({**card.metrics(), **verdicts, **({} if auc is None else {"align_auc": auc})})
    for name, picture_HWC in {
        **pictures,
        **{f"sheets/{verdict}": picture for verdict, picture in sheets.items()},
    }.items():
        run.log_image(name, picture_HWC)
    rejected = [clip for clip in clips if clip["verdict"] != "kept"]
    if rejected:
        columns = ("verdict", "reason", "uri", "caption")
        rows = [{column: clip[column] for column in columns} for clip in rejected[:_MAX_ROWS_OF_TABLE]]
        run.log_table("rejected.json", rows)
    page = Page(
        dataset=version.dataset,
        version=version.number,
        refresh_id=version.refresh_id,
        is_first=version.before is None,
        facts=_facts(version.throughput, recipe, auc),
        card=card,
        flows=[] if version.before is None else flows(version.before, version.rows),
        failures=failures(version.rows),
        funnel=_address(pictures["funnel"], "PNG"),
        histograms=_address(pictures["histograms"], "PNG"),
        sheets={verdict: _address(picture, "JPEG") for verdict, picture in sheets.items()},
    )
    run.log_text(render(page), "report.html")


def render(page: Page) -> str:
    """The page as HTML that needs no other file; what clips and captions say is escaped."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    template = files("pipelines.curation").joinpath("report_page.html").read_text(encoding="utf-8")
    return environment.from_string(template).render(report=page)


def sheet(clips: Sequence[dict[str, Any]], read_mp4: ReadMp4) -> NDArray[np.uint8]:
    """A contact sheet of clips that have frames, with reason, caption and scores above each; (H, W, 3)."""
    videos = [read_video(read_mp4(clip)).frames_THWC for clip in clips]
    return contact_sheet(videos, [_label(clip) for clip in clips])


def _facts(throughput: Throughput, recipe: Recipe, auc: float | None) -> dict[str, str]:
    decoded, seconds = throughput
    facts = {"decoding": "nothing was decoded" if not decoded else f"{decoded} clips in {seconds:.0f} s"}
    if decoded and seconds:
        facts["decoding"] += f", {decoded / seconds:.1f} a second"
    align = recipe.align
    facts["alignment"] = "left out" if align.model is None else f"{align.model}, at least {align.min_score}"
    if align.model is not None and align.min_percentile is not None:
        facts["alignment"] += f": what {align.min_percentile} % of wrong captions stay below"
    if auc is not None:
        facts["right against wrong captions"] = f"ROC AUC {auc:.4f}"
    return facts


def _sheets(clips: Sequence[dict[str, Any]], read_mp4: ReadMp4, sheet_rows: int) -> dict[str, NDArray[np.uint8]]:
    by_verdict = {
        verdict: [clip for clip in clips if clip["verdict"] == verdict and clip["slice_bytes"]][:sheet_rows]
        for verdict in VERDICTS
    }
    return {verdict: sheet(shown, read_mp4) for verdict, shown in by_verdict.items() if shown}


def _label(clip: Mapping[str, Any]) -> str:
    align = "" if clip["align_score"] is None else f"  [align {clip['align_score']:.2f}]"
    reason = f"{clip['reason']}  " if clip["reason"] else ""
    return f"{reason}{clip['caption'] or '(no caption)'}{align}"


def _address(picture_HWC: NDArray[np.uint8], kind: str) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture_HWC).save(buffer, kind, quality=85)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
