"""What a platform imports, and the columns it hands back. Mechanical Turk's file conventions; no platform is called.

A row of `platforms/mturk/input.csv` is a block: `${variable}` of the layout is filled from the column of that name.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipelines.evaluation.page import render_page
from pipelines.evaluation.prompts import to_csv
from pipelines.storage import write_whole

INPUT_COLUMNS = ("study_id", "page_version", "block_id", "n_trials", "media_base", "trials_b64")
"""Of `input.csv`; `Input.*` in the results."""

_RESULTS_HEAD = (
    "HITId HITTypeId Title Description Keywords Reward CreationTime MaxAssignments RequesterAnnotation "
    "AssignmentDurationInSeconds AutoApprovalDelayInSeconds Expiration NumberOfSimilarHITs LifetimeInSeconds "
    "AssignmentId WorkerId AssignmentStatus AcceptTime SubmitTime AutoApprovalTime ApprovalTime RejectionTime "
    "RequesterFeedback WorkTimeInSeconds LifetimeApprovalRate Last30DaysApprovalRate Last7DaysApprovalRate"
)
RESULTS_HEAD = tuple(_RESULTS_HEAD.split())
"""Columns of a batch-results CSV before `Input.*`, `Answer.*`, Approve and Reject."""

MAX_QUESTION_BYTES = 65_535
"""Of an HTMLQuestion."""

PublicTrial = Mapping[str, object]
"""A trial as the page sees it: id, task, prompt, image, left, right, duration_s, questions."""

_QUESTION = """<HTMLQuestion xmlns="http://mechanicalturk.amazonaws.com/AWSMechanicalTurkDataSchemas/2011-11-11/HTMLQuestion.xsd">
  <HTMLContent><![CDATA[{page}]]></HTMLContent>
  <FrameHeight>0</FrameHeight>
</HTMLQuestion>
"""


class PlatformError(ValueError):
    """A file that the platform would refuse; the message says why."""


def to_base64url(trials: Sequence[PublicTrial]) -> str:
    """Trials as base64url of UTF-8 JSON: no comma, quote or bracket for a spreadsheet or a template to trip on."""
    text = json.dumps(trials, ensure_ascii=False, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode()


def write_mturk(
    folder: Path, study: Mapping[str, str], questions: Mapping[str, str], blocks: Mapping[str, Sequence[PublicTrial]]
) -> None:
    """Write `input.csv`, `layout.html` (for a project) and `question.xml` (the same page as an HTMLQuestion).

    Args:
        folder: `platforms/mturk` of the study.
        study: `study_id`, `page_version` and `media_base`.
        questions: What is asked, by question.
        blocks: Trials by block.

    Raises:
        PlatformError: The HTMLQuestion is larger than a platform takes.
    """
    rows = [
        {**study, "block_id": block_id, "n_trials": len(trials), "trials_b64": to_base64url(trials)}
        for block_id, trials in blocks.items()
    ]
    variables = {name: f"${{{name}}}" for name in INPUT_COLUMNS}
    layout = render_page({"mode": "mturk", "questions": questions, **variables})
    question = _QUESTION.format(page=layout.decode()).encode()
    if len(question) > MAX_QUESTION_BYTES:
        raise PlatformError(f"HTMLQuestion: at most {MAX_QUESTION_BYTES} bytes expected, it has {len(question)}")
    write_whole(folder / "input.csv", to_csv(INPUT_COLUMNS, rows))
    write_whole(folder / "layout.html", layout)
    write_whole(folder / "question.xml", question)
