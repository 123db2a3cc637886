"""From raters' answers to preferences: read, exclude, count, write, record. Every row of the files is accounted for."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pipelines.evaluation.answers import Assignment, Rejected, read_answers
from pipelines.evaluation.config import ImportStudyConfig, PolicyConfig
from pipelines.evaluation.exclusions import Conduct, find_exclusions
from pipelines.evaluation.frozen_study import FrozenStudy, load_study
from pipelines.evaluation.preferences import Preference, as_cells, preferences_of
from pipelines.evaluation.prompts import to_csv
from pipelines.evaluation.responses import Response, responses_of
from pipelines.evaluation.study_report import render_report
from pipelines.storage import write_whole
from pipelines.tracking import TrackingConfig, start_run

_PARENT = "mlflow.parentRunId"  # the tag by which the tracker nests runs


@dataclass(frozen=True)
class Results:
    """What an import came to."""

    study: FrozenStudy
    assignments: tuple[Assignment, ...]
    rejected: tuple[Rejected, ...]
    excluded: Mapping[str, tuple[Conduct, str]]
    """By rater: conduct and reason."""
    responses: tuple[Response, ...]
    preferences: tuple[Preference, ...]

    @property
    def row_counts(self) -> dict[str, int]:
        """Rows in = used + excluded + rejected."""
        excluded = sum(assignment.rater_id in self.excluded for assignment in self.assignments)
        used = len(self.assignments) - excluded
        rejected = len(self.rejected)
        return {"in": used + excluded + rejected, "used": used, "excluded": excluded, "rejected": rejected}

    @property
    def warnings(self) -> list[str]:
        """What the study falls short of by its own policy."""
        return _warnings(self.responses, self.study.policy)


def import_study(config: ImportStudyConfig) -> Results:
    """Read answers against their study, write the results beside it, and record them.

    Raises:
        StudyError: The study is not whole, or not the one that was exported.
        AnswersError: There are no answers.
    """
    study = load_study(config.study)
    results = tally(study, *read_answers(config.answers, study))
    out = Path(config.study if config.out is None else config.out)
    write_results(results, out)
    _record(results, out, config)
    return results


def tally(study: FrozenStudy, assignments: Sequence[Assignment], rejected: Sequence[Rejected]) -> Results:
    """Exclude raters by the study's policy and compute its preferences."""
    excluded = find_exclusions(assignments, study.policy.exclusions)
    reasons = {rater_id: reason for rater_id, (_, reason) in excluded.items()}
    responses = responses_of(assignments, study.questions, reasons)
    baselines = sorted({trial.baseline for trial in study.trials.values() if trial.baseline})
    preferences = preferences_of(responses, baselines, list(study.questions))
    return Results(study, tuple(assignments), tuple(rejected), excluded, tuple(responses), tuple(preferences))


def write_results(results: Results, out: Path) -> None:
    """Write responses.csv, exclusions.csv, preferences.csv, import_log.json and report/index.html."""
    conduct = [field.name for field in fields(Conduct)]
    exclusions = [{**asdict(found), "reason": reason} for found, reason in results.excluded.values()]
    columns = [field.name for field in fields(Preference)]
    write_whole(out / "responses.csv", to_csv(Response._fields, (row._asdict() for row in results.responses)))
    write_whole(out / "exclusions.csv", to_csv((*conduct, "reason"), exclusions))
    write_whole(out / "preferences.csv", to_csv(columns, (as_cells(row) for row in results.preferences)))
    write_whole(out / "import_log.json", (json.dumps(_log(results), indent=2) + "\n").encode())
    report = render_report(results.study.study_id, results.preferences, results.row_counts, results.warnings)
    write_whole(out / "report" / "index.html", report.encode())


def _log(results: Results) -> dict[str, object]:
    rows: list[dict[str, str]] = []
    for assignment in results.assignments:
        _, reason = results.excluded.get(assignment.rater_id, (None, ""))
        rows.append({"source": assignment.source, "status": "excluded" if reason else "used", "reason": reason})
    rows += [{"source": row.source, "status": "rejected", "reason": row.reason} for row in results.rejected]
    return {
        "study_id": results.study.study_id,
        "study_yaml_sha256": results.study.sha256,
        **{f"rows_{name}": number for name, number in results.row_counts.items()},
        "warnings": results.warnings,
        "rows": rows,
    }


def _warnings(responses: Sequence[Response], policy: PolicyConfig) -> list[str]:
    judged = Counter(response.rater_id for response in responses if response.is_used and response.kind == "main")
    told: list[str] = []
    if len(judged) < policy.min_raters:
        told.append(f"{len(judged)} raters count; the policy asks for at least {policy.min_raters}")
    largest = max(judged.values(), default=0)
    if largest > policy.max_rater_share * judged.total():
        told.append(
            f"one rater gave {largest / judged.total():.0%} of the judgements; "
            f"the policy allows {policy.max_rater_share:.0%}"
        )
    return told


def _record(results: Results, out: Path, config: ImportStudyConfig) -> None:
    """A run of the study, and below it one a baseline: equal metric keys, so that the runs' table compares them."""
    study_id = results.study.study_id
    tags = {"job": "import_study", "study_id": study_id, "study_yaml_sha256": results.study.sha256}
    with start_run(config.tracking, f"study {study_id}", tags, config.model_dump(mode="json")) as run:
        run.log_metrics({f"rows_{name}": number for name, number in results.row_counts.items()})
        for name in ("preferences.csv", "responses.csv", "exclusions.csv", "import_log.json"):
            run.log_file(out / name)
        run.log_file(out / "report" / "index.html", "report")
        if results.preferences:
            run.log_table("tables/preferences.json", [as_cells(row) for row in results.preferences])
        for baseline in dict.fromkeys(row.baseline for row in results.preferences):
            own = [row for row in results.preferences if row.baseline == baseline]
            _record_baseline(own, config.tracking, {**tags, "baseline": baseline, _PARENT: run.run_id})


def _record_baseline(preferences: Sequence[Preference], tracking: TrackingConfig, tags: Mapping[str, str]) -> None:
    with start_run(tracking, f"over {tags['baseline']}", tags, {"baseline": tags["baseline"]}) as run:
        for row in preferences:
            key = f"pref/{row.question}"
            run.log_metrics({key: row.win_rate, f"{key}_lo": row.ci_lo, f"{key}_hi": row.ci_hi, f"{key}_n": row.n})
