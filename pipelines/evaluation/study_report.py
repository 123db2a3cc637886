"""The study's report: one HTML file with its numbers and a forest plot, which asks nothing of anyone."""

from collections.abc import Sequence
from dataclasses import fields
from html import escape

from pipelines.evaluation.preferences import Preference
from pipelines.evaluation.study import QUESTIONS

_ROW_PX, _LABEL_PX, _PLOT_PX, _VALUE_PX = 44, 190, 400, 130
_WORDS = {str(name): wording for name, wording in QUESTIONS.items()}

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Study {study_id}</title><style>
body {{ font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #16191d; background: #fff; max-width: 960px;
  margin: 32px auto; padding: 0 20px; }}
h1 {{ font-size: 1.6rem; margin: 0 0 4px; }} h2 {{ font-size: 1.15rem; margin: 32px 0 8px; }}
p {{ max-width: 70ch; }} .soft {{ color: #555d67; }}
svg {{ max-width: 100%; height: auto; font: 14px system-ui, "DejaVu Sans", sans-serif; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }}
th, td {{ text-align: right; padding: 6px 10px; border-bottom: 1px solid #d5dadf; white-space: nowrap; }}
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) {{ text-align: left; }}
</style></head><body>
<h1>Study {study_id}</h1>
<p class="soft">{counts}</p>
{plots}
<p class="soft">Point: share of judgements that chose ours, a tie counting half. Thick line: 95 % two-way cluster-robust
t interval over prompts and raters, the one that counts. Thin line: Wilson's, which takes every judgement for
independent and so promises too much; the same holds for p (exact binomial, Holm over all rows).</p>
<h2>Numbers</h2><div class="wide">{table}</div>
<h2>Rows of the results files</h2><p>{log}</p>{warnings}
</body></html>
"""


def render_report(
    study_id: str, preferences: Sequence[Preference], log: dict[str, int], warnings: Sequence[str]
) -> str:
    """The report as HTML.

    Args:
        study_id: The study's name.
        preferences: One a baseline and question.
        log: Number of rows in, used, excluded and rejected.
        warnings: What the study falls short of.
    """
    questions = list(dict.fromkeys(preference.question for preference in preferences))
    plots = "".join(
        f"<h2>{escape(_WORDS.get(question, question))}</h2>"
        + forest_plot([p for p in preferences if p.question == question])
        for question in questions
    )
    total = sum(preference.n for preference in preferences)
    told = "".join(f"<p><b>Note.</b> {escape(warning)}</p>" for warning in warnings)
    return _PAGE.format(
        study_id=escape(study_id),
        counts=f"{total} judgements of main trials count.",
        plots=plots or "<p>No judgement counts.</p>",
        table=_table(preferences),
        log=", ".join(f"{escape(name)} {number}" for name, number in log.items()),
        warnings=told,
    )


def forest_plot(preferences: Sequence[Preference]) -> str:
    """Inline SVG: a row a baseline, 0 to 100 % from left to right, one half marked."""
    height = _ROW_PX * len(preferences) + 34
    width = _LABEL_PX + _PLOT_PX + _VALUE_PX
    ticks = "".join(_tick(share, height) for share in (0.0, 0.25, 0.5, 0.75, 1.0))
    rows = "".join(_row(preference, _ROW_PX * place + _ROW_PX // 2 + 4) for place, preference in enumerate(preferences))
    label = "; ".join(f"{p.baseline}: {p.win_rate:.0%}, {p.ci_lo:.0%} to {p.ci_hi:.0%}" for p in preferences)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img" '
        f'aria-label="{escape(label)}">{ticks}{rows}</svg>'
    )


def _tick(share: float, height: int) -> str:
    ink = "#77808a" if share == 0.5 else "#e3e7ea"
    return (
        _line(share, share, (4, height - 26), f'stroke="{ink}"')
        + f'<text x="{_x(share)}" y="{height - 8}" text-anchor="middle" fill="#555d67">{share:.0%}</text>'
    )


def _row(preference: Preference, y: int) -> str:
    bounds = f"{preference.ci_lo:.0%} – {preference.ci_hi:.0%}"
    return (
        f'<text x="0" y="{y + 5}" fill="#16191d">ours over {escape(preference.baseline[:20])}</text>'
        + _line(preference.wilson_lo, preference.wilson_hi, (y + 11, y + 11), 'stroke="#77808a"')
        + _line(preference.ci_lo, preference.ci_hi, (y, y), 'stroke="#0b5d78" stroke-width="5"')
        + f'<circle cx="{_x(preference.win_rate)}" cy="{y}" r="7" fill="#0b5d78" stroke="#fff" stroke-width="2"/>'
        f'<text x="{_LABEL_PX + _PLOT_PX + 18}" y="{y + 5}" fill="#16191d"><tspan font-weight="600">'
        f'{preference.win_rate:.0%}</tspan> <tspan fill="#555d67">{bounds}</tspan></text>'
    )


def _line(start: float, end: float, y: tuple[int, int], look: str) -> str:
    return f'<line x1="{_x(start)}" x2="{_x(end)}" y1="{y[0]}" y2="{y[1]}" {look}/>'


def _x(share: float) -> float:
    return round(_LABEL_PX + share * _PLOT_PX, 1)


def _table(preferences: Sequence[Preference]) -> str:
    columns = [field.name for field in fields(Preference)]
    head = "".join(f"<th>{column}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(_cell(getattr(preference, column)))}</td>" for column in columns) + "</tr>"
        for preference in preferences
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
