"""From results files to preferences: every row accounted for, letters and booleans alike."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pipelines.evaluation.answers import AnswersError, read_answers
from pipelines.evaluation.frozen_study import load_study
from pipelines.evaluation.preferences import Preference
from pipelines.evaluation.results import Results, tally, write_results
from pipelines.evaluation.study import StudyError
from pipelines.tracking import TrackingConfig
from tests.evaluation.conftest import MakeStudy, blocks_of, log_of, prefers_ours, results_row, rows_of, write_answers

COLUMNS = (
    "baseline,question,n_prompts,n_raters,n,win_rate,ci_lo,ci_hi,wilson_lo,wilson_hi,p,p_holm,left_share,alpha,"
    "catch_acc,repeat_agree"
)


def everyone(study: Path) -> list[dict[str, str]]:
    """Every block by a rater of its own, who prefers ours."""
    blocks = blocks_of(study).items()
    return [results_row(block, trials, f"rater{n}", prefers_ours) for n, (block, trials) in enumerate(blocks)]


def run_import(study: Path, answers: Path, out: Path) -> Results:
    """The import without its record in the tracker, which the job's test looks at."""
    frozen = load_study(study)
    results = tally(frozen, *read_answers(answers, frozen))
    write_results(results, out)
    return results


def as_booleans(row: Mapping[str, str]) -> dict[str, str]:
    """The same answers as true and false in a column a choice."""
    turned: dict[str, str] = {}
    for name, value in row.items():
        if name.endswith(("_align", "_quality")):
            turned |= {f"{name}.L": str(value == "L").lower(), f"{name}.R": str(value == "R").lower()}
        else:
            turned[name] = value
    return turned


def test_rows_in_are_those_used_excluded_and_rejected_each_with_its_line(study: Path, tmp_path: Path) -> None:
    rows = everyone(study)
    (block, trials), *_ = blocks_of(study).items()
    hasty = {**results_row(block, trials, "hasty", prefers_ours)}
    hasty |= {name: "100" for name in hasty if name.endswith("_ms")}
    spoilt = [
        results_row(block, trials, "nobody", prefers_ours) | {"WorkerId": ""},
        results_row(block, trials, "odd", prefers_ours) | {"Answer.t03_align": "up"},
        results_row(block, trials, "lazy", prefers_ours) | {"Answer.t02_quality": ""},
        results_row(block, trials, "alien", prefers_ours) | {"Answer.t01_id": "0123456789abcdef"},
        results_row(block, trials[:-1], "early", prefers_ours),
        results_row(block, trials, "bad", prefers_ours) | {"AssignmentStatus": "Rejected"},
        results_row(block, trials, "rater0", prefers_ours) | {"AssignmentId": "another"},
        results_row(block, trials, "rater0", prefers_ours) | {"WorkerId": "rater0b"},
    ]
    told = {"RequesterFeedback": "two\nlines"}
    answers = write_answers(tmp_path / "batch.csv", [rows[0] | told, *rows[1:], hasty, *spoilt])
    results = run_import(study, answers, tmp_path / "out")
    log = log_of(tmp_path / "out")
    assert results.row_counts == {"in": len(rows) + 9, "used": len(rows), "excluded": 1, "rejected": 8}
    assert log["rows_in"] == log["rows_used"] + log["rows_excluded"] + log["rows_rejected"] == len(log["rows"])
    # The first row takes two lines: the second begins on line 4.
    assert sorted(int(row["source"].split(":")[1]) for row in log["rows"]) == [2, *range(4, len(rows) + 12)]
    reasons = [row["reason"] for row in log["rows"] if row["status"] == "rejected"]
    expected = ["no WorkerId", "t03_align: L, R or T", "t02_quality: no answer", "is no trial", "each of its"]
    expected += ["requester rejected", "were read before", "was read before"]
    assert all(word in reason for word, reason in zip(expected, reasons, strict=True)), reasons
    [excluded] = rows_of(tmp_path / "out" / "exclusions.csv")
    assert excluded["reason"].startswith("median trial time")


def test_booleans_and_letters_give_the_same_responses(study: Path, tmp_path: Path) -> None:
    for name, rows in (("letters", everyone(study)), ("booleans", list(map(as_booleans, everyone(study))))):
        (tmp_path / name).mkdir()
        answers = write_answers(tmp_path / name / "a.csv", rows)
        run_import(study, answers, tmp_path / name)
    for name in ("responses.csv", "preferences.csv", "exclusions.csv"):
        assert (tmp_path / "letters" / name).read_bytes() == (tmp_path / "booleans" / name).read_bytes()


def test_both_booleans_true_are_refused(study: Path, tmp_path: Path) -> None:
    row = as_booleans(everyone(study)[0]) | {"Answer.t01_align.L": "true", "Answer.t01_align.R": "TRUE"}
    results = run_import(study, write_answers(tmp_path / "a.csv", [row]), tmp_path)
    assert results.rejected[0].reason == "t01_align: one choice expected, given L and R"


def test_preferences_have_the_columns_and_who_always_prefers_ours_is_counted_so(study: Path, tmp_path: Path) -> None:
    run_import(study, write_answers(tmp_path / "a.csv", everyone(study)), tmp_path)
    assert (tmp_path / "preferences.csv").read_text().splitlines()[0] == COLUMNS
    rows = rows_of(tmp_path / "preferences.csv")
    assert [(row["baseline"], row["question"]) for row in rows] == [
        (baseline, question) for baseline in ("pika", "zeroscope") for question in ("align", "quality")
    ]
    for row in rows:
        assert (row["n_prompts"], row["n"], row["win_rate"]) == ("12", "36", "1.0")
        assert float(row["catch_acc"]) == 1.0
        assert float(row["left_share"]) == pytest.approx(0.5, abs=1 / 36)
        assert row["alpha"] == "", "all agree: alpha is not defined"


def test_ties_count_half_and_leave_the_binomial_test(study: Path, tmp_path: Path) -> None:
    def undecided(trial: Mapping[str, str], question: str, rater: str) -> str:
        return trial[f"expected_{question}"] or "T"

    (block, trials), *_ = blocks_of(study).items()
    answers = write_answers(tmp_path / "a.csv", [results_row(block, trials, "r", undecided)])
    results = run_import(study, answers, tmp_path)
    assert {(row.win_rate, row.p, row.left_share) for row in results.preferences} == {(0.5, 1.0, None)}


def test_repeats_count_as_agreement_and_not_as_judgements(study: Path, tmp_path: Path) -> None:
    def always_left(trial: Mapping[str, str], question: str, rater: str) -> str:
        return trial[f"expected_{question}"] or "L"

    block, trials = next((b, t) for b, t in blocks_of(study).items() if any(row["kind"] == "repeat" for row in t))
    answers = write_answers(tmp_path / "a.csv", [results_row(block, trials, "r", always_left)])
    results = run_import(study, answers, tmp_path)
    assert sum(row.n for row in results.preferences) == 2 * sum(trial["kind"] == "main" for trial in trials)
    assert [row.repeat_agree for row in results.preferences if row.repeat_agree is not None] == [0.0, 0.0]


def test_a_clip_reported_as_broken_is_left_out_without_its_rater(study: Path, tmp_path: Path) -> None:
    rows = everyone(study)
    slot = next(int(t["slot"]) for t in next(iter(blocks_of(study).values())) if t["kind"] == "main")
    rows[0] |= {
        f"Answer.t{slot:02d}_flag": "broken",
        f"Answer.t{slot:02d}_align": "",
        f"Answer.t{slot:02d}_quality": "",
    }
    results = run_import(study, write_answers(tmp_path / "a.csv", rows), tmp_path)
    assert results.row_counts["used"] == len(rows)
    assert sum(row.n for row in results.preferences) == 2 * 72 - 2
    assert {row["reason"] for row in rows_of(tmp_path / "responses.csv") if row["excluded"] == "true"} == {
        "clip reported as broken"
    }


@pytest.mark.parametrize(
    ("blocks", "choose", "ms", "reason"),
    [
        (2, lambda t, q, r: "LR"[t[f"expected_{q}"] == "L"] if t[f"expected_{q}"] else "L", 4000, "2 wrong catches"),
        (2, lambda t, q, r: t[f"expected_{q}"] or "L", 4000, "left share 1.00"),
        (1, prefers_ours, 400, "median trial time 0.80 of a clip"),
    ],
    ids=["catches", "one side", "too fast"],
)
def test_a_rater_is_excluded_by_the_studys_own_rules(
    study: Path, tmp_path: Path, blocks: int, choose: object, ms: int, reason: str
) -> None:
    rows = [results_row(b, t, "r", choose) for b, t in list(blocks_of(study).items())[:blocks]]  # type: ignore[arg-type]
    rows = [{name: str(ms) if name.endswith("_ms") else value for name, value in row.items()} for row in rows]
    results = run_import(study, write_answers(tmp_path / "a.csv", rows), tmp_path)
    [(_, told)] = results.excluded.values()
    assert reason in told
    assert results.preferences == ()


def test_no_answer_names_a_rater(study: Path, tmp_path: Path) -> None:
    answers = write_answers(tmp_path / "a.csv", everyone(study))
    run_import(study, answers, tmp_path / "out")
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) == 5
    assert all("rater0" not in path.read_text() for path in written)


@pytest.mark.parametrize("name", ["study.yaml", "trials.csv", "key.csv"])
def test_a_study_changed_after_its_export_is_refused(make_study: MakeStudy, name: str) -> None:
    study = make_study()
    (study / name).write_text((study / name).read_text() + "\n")
    with pytest.raises(StudyError, match=f"{name} was changed"):
        load_study(study)


def test_answers_that_are_not_there_are_told_by_path(study: Path, tmp_path: Path) -> None:
    with pytest.raises(AnswersError, match="nowhere"):
        run_import(study, tmp_path / "nowhere", tmp_path)


def test_a_study_without_answers_that_count_says_so(study: Path) -> None:
    results = tally(load_study(study), [], [])
    assert results.preferences == ()
    assert results.warnings == ["0 raters count; the policy asks for at least 30"]


def test_the_report_holds_every_number_and_asks_nothing_of_anyone(study: Path, tmp_path: Path) -> None:
    results = run_import(study, write_answers(tmp_path / "a.csv", everyone(study)), tmp_path)
    report = (tmp_path / "report" / "index.html").read_text()
    assert report.count("<svg") == 2
    assert all(name in report for name in Preference.__dataclass_fields__)
    assert "src=" not in report
    assert "href=" not in report
    assert f"{results.row_counts['used']}" in report


@pytest.mark.slow
def test_the_job_imports_prints_and_records(study: Path, tmp_path: Path, root: Path, tracking: TrackingConfig) -> None:
    from mlflow import MlflowClient

    answers = write_answers(tmp_path / "a.csv", everyone(study))
    words = [f"study={study}", f"answers={answers}", f"out={tmp_path}/results"]
    words += [f"tracking.uri={tracking.uri}", f"tracking.artifacts={tracking.artifacts}"]
    command = [sys.executable, "jobs/import_study.py", *words]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "ours over pika, quality: 100.0%" in result.stdout
    client = MlflowClient(tracking_uri=tracking.uri)
    experiment = client.get_experiment_by_name(tracking.experiment)
    runs = client.search_runs([experiment.experiment_id])
    [over_pika] = [run for run in runs if run.data.tags.get("baseline") == "pika"]
    assert over_pika.data.metrics["pref/quality"] == 1.0
    assert {"pref/align_lo", "pref/align_hi"} <= set(over_pika.data.metrics)
    assert over_pika.data.tags["mlflow.parentRunId"] in {run.info.run_id for run in runs}
