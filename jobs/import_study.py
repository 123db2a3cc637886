"""Turn the raters' answers to a study into preferences, each with the interval that fits the design.

    python jobs/import_study.py study=out/study answers=out/answers

`answers` is a results CSV, or a folder of them: what the local page downloads, or a crowd platform's batch results.
The study's folder then holds responses.csv, exclusions.csv, preferences.csv, import_log.json and report/index.html.
"""

import sys

from jobs.command import run_job
from pipelines.evaluation.config import ImportStudyConfig


def main(config: ImportStudyConfig) -> None:
    """Import, and print the preferences."""
    from pipelines.evaluation.answers import AnswersError
    from pipelines.evaluation.results import import_study
    from pipelines.evaluation.study import StudyError

    try:
        results = import_study(config)
    except (AnswersError, StudyError) as error:
        sys.exit(str(error))
    counts = results.row_counts
    parts = " + ".join(f"{name} {counts[name]}" for name in ("used", "excluded", "rejected"))
    sys.stdout.write(f"rows in {counts['in']} = {parts}\n")
    for row in results.rejected:
        sys.stdout.write(f"rejected {row.source}: {row.reason}\n")
    for row in results.preferences:
        interval = f"{row.win_rate:.1%} ({row.ci_lo:.1%} to {row.ci_hi:.1%})"
        sys.stdout.write(f"ours over {row.baseline}, {row.question}: {interval}, {row.n} judgements\n")
    for warning in results.warnings:
        sys.stdout.write(f"note: {warning}\n")


if __name__ == "__main__":
    run_job(main, ImportStudyConfig, __doc__)
