"""What a refresh did, as pictures and figures for the tracker: funnel, histograms, contact sheets, data card."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from pipelines.contact_sheet import contact_sheet
from pipelines.curation.catalog import count_verdicts
from pipelines.curation.config import Recipe
from pipelines.curation.filters import RULES
from pipelines.curation.records import VERDICTS
from pipelines.tracking import Run
from pipelines.video_file import read_video

_INK, _KEPT, _REJECTED = "#333338", "#3b7dd8", "#c9c9cf"
_NUM_BINS = 40
_SECONDS_AN_HOUR = 3600

ReadMp4 = Callable[[dict[str, Any]], bytes]


def log_report(
    run: Run, rows: pa.Table, touched: Sequence[dict[str, Any]], read_mp4: ReadMp4, recipe: Recipe, sheet_rows: int
) -> None:
    """Send a refresh's report to the tracker.

    Args:
        run: The refresh's run.
        rows: The whole catalog after the commit.
        touched: Judged rows of this refresh.
        read_mp4: The encoded frames of a touched row that has some.
        recipe: The thresholds that are drawn in.
        sheet_rows: Clips on a contact sheet.
    """
    run.log_metrics(data_card(rows))
    run.log_image("funnel", funnel(count_verdicts(rows)))
    run.log_image("histograms", histograms(rows, recipe))
    for verdict in VERDICTS:
        shown = [row for row in touched if row["verdict"] == verdict and row["slice_bytes"]][:sheet_rows]
        if shown:
            run.log_image(f"sheets/{verdict}", sheet(shown, read_mp4))
    rejected = [row for row in touched if row["verdict"] != "kept"]
    if rejected:
        columns = ("verdict", "reason", "uri", "caption")
        run.log_table("rejected.json", [{column: row[column] for column in columns} for row in rejected[:1000]])


def data_card(rows: pa.Table) -> dict[str, float]:
    """The data set in figures: clips by verdict, hours, bytes, and means over the kept clips."""
    card = {f"verdict/{verdict}": float(count) for verdict, count in count_verdicts(rows).items()}
    kept = rows.filter(pc.equal(rows["verdict"], "kept"))
    card["clips"] = float(sum(count for name, count in card.items() if name != "verdict/removed"))
    card["kept"] = float(len(kept))
    if not len(kept):
        return card
    seconds = pc.sum(pc.divide(pc.cast(kept["num_frames"], pa.float64()), kept["fps"])).as_py()
    card["hours"] = seconds / _SECONDS_AN_HOUR
    card["mp4_bytes"] = float(pc.sum(kept["bytes"]).as_py())
    card["caption_chars_mean"] = float(pc.mean(pc.utf8_length(kept["caption"])).as_py())
    for column in ("source_fps", "source_duration_s", "source_height", "align_score"):
        mean = pc.mean(kept[column]).as_py()
        if mean is not None:
            card[f"{column}_mean"] = float(mean)
    return card


def funnel(counts: Mapping[str, int]) -> NDArray[np.uint8]:
    """Clips by verdict as bars, in the order of the closed list; (H, W, 3)."""
    figure = Figure(figsize=(8, 0.6 + 0.32 * len(counts)), layout="constrained")
    axes = figure.subplots()
    names = list(counts)
    bars = axes.barh(names, list(counts.values()), color=[_KEPT if name == "kept" else _REJECTED for name in names])
    axes.bar_label(bars, padding=3, color=_INK)
    axes.invert_yaxis()
    axes.set_title(f"{sum(counts.values())} clips by verdict", color=_INK)
    _tidy(axes)
    return _render(figure)


def histograms(rows: pa.Table, recipe: Recipe) -> NDArray[np.uint8]:
    """A histogram for each measure, its threshold drawn in; kept clips over all; (H, W, 3)."""
    thresholds = {rule.measure: getattr(recipe.filters, rule.threshold) for rule in RULES}
    drawn: dict[str, float | None] = {**thresholds, "align_score": recipe.align.min_score}
    figure = Figure(figsize=(10, 5.5), layout="constrained")
    is_kept = np.asarray(rows["verdict"].to_pylist()) == "kept"
    for axes, (column, threshold) in zip(figure.subplots(2, 3).ravel(), drawn.items(), strict=True):
        values = rows[column].to_numpy().astype(np.float64)
        _histogram(axes, values, values[is_kept], threshold)
        axes.set_title(column, color=_INK)
    return _render(figure)


def sheet(rows: Sequence[dict[str, Any]], read_mp4: ReadMp4) -> NDArray[np.uint8]:
    """A contact sheet of rows that have frames, with reason, caption and scores above each; (H, W, 3)."""
    videos = [read_video(read_mp4(row)).frames_THWC for row in rows]
    return contact_sheet(videos, [_label(row) for row in rows])


def _label(row: Mapping[str, Any]) -> str:
    align = "" if row["align_score"] is None else f"  [align {row['align_score']:.2f}]"
    reason = f"{row['reason']}  " if row["reason"] else ""
    return f"{reason}{row['caption'] or '(no caption)'}{align}"


def _histogram(axes: Axes, values: NDArray[np.float64], kept: NDArray[np.float64], threshold: float | None) -> None:
    finite = values[np.isfinite(values)]
    if len(finite):
        marks = finite if threshold is None else np.append(finite, threshold)
        edges = np.linspace(marks.min(), max(marks.max(), marks.min() + 1e-3), _NUM_BINS + 1)
        axes.hist(finite, edges.tolist(), color=_REJECTED, label="all")
        axes.hist(kept[np.isfinite(kept)], edges.tolist(), color=_KEPT, label="kept")
        axes.legend(frameon=False, fontsize=7)
    else:
        axes.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axes.transAxes, color=_INK)
    if threshold is not None and len(finite):
        axes.axvline(threshold, color=_INK, linestyle="--", linewidth=1)
    _tidy(axes)


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK, labelsize=8)


def _render(figure: Figure) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return np.asarray(Image.open(buffer).convert("RGB"))
