"""The table at the end of the demo: what went in, what came out, what was learned, and where to look."""

import csv
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.table import Table

from demo.steps import Measured
from pipelines.curation.catalog import Catalog
from pipelines.tracking import TrackingConfig, attach

_STEPS_AVERAGED = 50
_SHOWN_METRICS = {
    "shapes/color": "fidelity of colour (share of videos)",
    "shapes/shape": "fidelity of shape",
    "shapes/motion": "fidelity of motion (chance: 0.125)",
    "flicker": "flicker score (1: none)",
    "flow_px": "optical flow, pixels a frame",
}


@dataclass(frozen=True)
class Findings:
    """What a run of the demo left behind."""

    out: Path
    is_rendered: bool
    """The clips are the demo's own: their flaws are known, and what their captions say can be read out."""
    measured: tuple[Measured, ...]


@dataclass(frozen=True)
class LabelCheck:
    """How the verdicts of clips that were rendered with one label came out."""

    label: str
    clips: int
    right: int
    others: str
    """Verdicts that are not the label, with their numbers."""


def print_summary(findings: Findings, console: Console | None = None) -> None:
    """Print the tables."""
    console = console or Console()
    catalog = Catalog.open(findings.out / "dataset")
    console.print()
    console.print(_clips(catalog))
    if findings.is_rendered:
        console.print(_labels(catalog))
    if (findings.out / "runs").is_dir():
        console.print(_learned(findings))
    console.print(_times(findings.measured))
    _where(findings, console)


def check_labels(rows: Sequence[tuple[str, str]]) -> list[LabelCheck]:
    """Compare (label, verdict) of each rendered clip; one line a label, `kept` first."""
    labels = sorted({label for label, _ in rows}, key=lambda label: (label != "kept", label))
    checks: list[LabelCheck] = []
    for label in labels:
        verdicts = Counter(verdict for own, verdict in rows if own == label)
        wrong = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.most_common() if verdict != label)
        checks.append(LabelCheck(label, verdicts.total(), verdicts[label], wrong))
    return checks


def labelled_verdicts(catalog: Catalog) -> list[tuple[str, str]]:
    """(label, verdict) of each clip whose manifest has a column `label`."""
    rows = catalog.rows(["manifest_json", "verdict"]).to_pylist()
    labelled = ((json.loads(row["manifest_json"]).get("label"), row["verdict"]) for row in rows)
    return [(str(label), str(verdict)) for label, verdict in labelled if label and verdict != "removed"]


def _clips(catalog: Catalog) -> Table:
    rows = catalog.rows(["align_score"])
    table = Table(title="clips", title_justify="left", show_header=False)
    table.add_row("in", str(len(rows)))
    for verdict, number in catalog.verdicts().items():
        table.add_row(verdict, str(number), style="bold" if verdict == "kept" else "")
    scores = [score for score in rows.column("align_score").to_pylist() if score is not None]
    table.add_row("alignment", f"measured on {len(scores)}, mean {fmean(scores):.3f}" if scores else "left out")
    return table


def _labels(catalog: Catalog) -> Table:
    table = Table("rendered as", "clips", "verdict is the same", "others", title="flaws", title_justify="left")
    for check in check_labels(labelled_verdicts(catalog)):
        style = "" if check.right == check.clips else "red"
        table.add_row(check.label, str(check.clips), str(check.right), check.others, style=style)
    return table


def _learned(findings: Findings) -> Table:
    table = Table("", "not trained", "trained", title="the model", title_justify="left")
    losses = _losses(findings.out)
    if losses:
        first, last = fmean(losses[:_STEPS_AVERAGED]), fmean(losses[-_STEPS_AVERAGED:])
        table.add_row(
            f"training loss, means of the first and last {_STEPS_AVERAGED} of {len(losses)} steps",
            f"{first:.4f}",
            f"{last:.4f}",
        )
    untrained, trained = (_score_means(findings.out / "scores" / name) for name in ("untrained", "trained"))
    for key, name in _SHOWN_METRICS.items():
        if key in trained:
            table.add_row(name, f"{untrained[key]:.3f}", f"{trained[key]:.3f}")
    preferences = findings.out / "study" / "preferences.csv"
    if preferences.is_file():
        with preferences.open(newline="") as file:
            for row in csv.DictReader(file):
                interval = f"{float(row['win_rate']):.0%} ({float(row['ci_lo']):.0%} to {float(row['ci_hi']):.0%})"
                table.add_row(f"preferred by SIMULATED raters: {row['question']}", "", interval)
    return table


def _times(measured: Sequence[Measured]) -> Table:
    table = Table("step", "seconds", "peak MiB", title="time", title_justify="left")
    for step in measured:
        table.add_row(step.name, f"{step.elapsed_s:.0f}", f"{step.peak_mib:.0f}")
    total_s = sum(step.elapsed_s for step in measured)
    peak_mib = max((step.peak_mib for step in measured), default=0.0)
    table.add_row("all", f"{total_s:.0f}", f"{peak_mib:.0f}", style="bold")
    return table


def _where(findings: Findings, console: Console) -> None:
    out = findings.out
    places = {
        "data set": out / "dataset",
        "checkpoints": out / "runs" / "demo",
        "videos": out / "videos",
        "scores": out / "scores",
        "rater page": out / "study" / "site" / "index.html",
    }
    for name, place in places.items():
        if place.exists():
            console.print(f"{name:<12} {_shown(place)}", highlight=False, soft_wrap=True)
        elif name == "checkpoints":
            console.print("too few clips were kept: nothing was trained", style="bold")
    console.print(f"{'everything':<12} make ui OUT={_shown(out)}   then http://127.0.0.1:5000", highlight=False)


def _shown(place: Path) -> Path:
    return place.relative_to(Path.cwd()) if place.is_relative_to(Path.cwd()) else place


def _losses(out: Path) -> list[float]:
    record = json.loads((out / "runs" / "demo" / "run.json").read_text())
    run = attach(TrackingConfig(uri=f"sqlite:///{out}/mlflow.db"), record["tracking_run_id"])
    return [loss for _, loss in run.history("loss")]


def _score_means(folder: Path) -> dict[str, float]:
    return json.loads((folder / "summary.json").read_text())["means"]
