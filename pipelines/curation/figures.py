"""Pictures of a version of the data set: funnel and histograms, drawn for people who set thresholds."""

# pyright: reportAttributeAccessIssue=false
# (pyarrow.compute makes its functions when it is imported)

import io
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from pipelines.curation.config import Recipe
from pipelines.curation.data_card import Rows
from pipelines.curation.filters import RULES

_INK, _KEPT, _REJECTED, _WRONG = "#333338", "#3b7dd8", "#c9c9cf", "#c2452d"
_NUM_BINS = 40
_COLUMNS_ACROSS = 3


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


def histograms(rows: Rows, recipe: Recipe) -> NDArray[np.uint8]:
    """A histogram for each measure, its threshold drawn in; kept clips over all, wrong captions as a line; (H, W, 3).

    Args:
        rows: The catalog.
        recipe: Thresholds, as they were applied.
    """
    thresholds = {rule.measure: getattr(recipe.filters, rule.threshold) for rule in RULES}
    drawn: dict[str, float | None] = {**thresholds, "align_score": recipe.align.min_score}
    num_lines = -(-len(drawn) // _COLUMNS_ACROSS)
    figure = Figure(figsize=(10, 2.75 * num_lines), layout="constrained")
    all_axes = figure.subplots(num_lines, _COLUMNS_ACROSS, squeeze=False).ravel()
    is_kept = pc.equal(_column(rows, "verdict"), "kept").to_numpy()
    for axes, (name, threshold) in zip(all_axes, drawn.items(), strict=False):
        values = _floats(_column(rows, name))
        wrong = _floats(_column(rows, "align_wrong_score")) if name == "align_score" else None
        _histogram(axes, values, values[is_kept], wrong, threshold)
        axes.set_title(name, color=_INK)
    for axes in all_axes[len(drawn) :]:
        axes.set_axis_off()
    return _render(figure)


def _column(rows: Rows, name: str) -> pa.ChunkedArray:
    """One column at a time: those of a data set on disk need not fit into memory together."""
    return rows[name] if isinstance(rows, pa.Table) else rows.to_table(columns=[name])[name]


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return column.cast(pa.float64()).to_numpy()


def _histogram(
    axes: Axes,
    values: NDArray[np.float64],
    kept: NDArray[np.float64],
    wrong: NDArray[np.float64] | None,
    threshold: float | None,
) -> None:
    finite = values[np.isfinite(values)]
    if not len(finite):
        axes.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axes.transAxes, color=_INK)
        return _tidy(axes)
    against = wrong[np.isfinite(wrong)] if wrong is not None else finite[:0]
    marks = np.concatenate((finite, against, [] if threshold is None else [threshold]))
    edges = np.linspace(marks.min(), max(marks.max(), marks.min() + 1e-3), _NUM_BINS + 1).tolist()
    axes.hist(finite, edges, color=_REJECTED, label="all")
    axes.hist(kept[np.isfinite(kept)], edges, color=_KEPT, label="kept")
    if len(against):
        axes.hist(against, edges, histtype="step", color=_WRONG, label="wrong captions")
    if threshold is not None:
        axes.axvline(threshold, color=_INK, linestyle="--", linewidth=1)
    axes.legend(frameon=False, fontsize=7)
    return _tidy(axes)


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_INK, labelsize=8)


def _render(figure: Figure) -> NDArray[np.uint8]:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return np.asarray(Image.open(buffer).convert("RGB"))
