"""What a refresh would do: its plan in numbers, and how long an earlier refresh's speed makes it."""

import json
from typing import Any

from pipelines.curation.catalog import open_if_there
from pipelines.curation.config import RefreshConfig
from pipelines.curation.layout import refreshes_path
from pipelines.curation.manifest import RejectedRow
from pipelines.curation.plan import make_plan
from pipelines.curation.summary import describe_unmatched
from pipelines.curation.workbench import workbench
from pipelines.storage import absolute, joined, list_names, read_bytes

_RECORDS = 100  # the newest, that are looked at
_ENOUGH = 200  # clips, beside which starting costs little


def preview(config: RefreshConfig) -> str:
    """The plan as lines of text. Reads the manifest, the catalog and what stores say of sources; changes nothing.

    Raises:
        ManifestError, TakedownError: As the refresh itself.
    """
    dataset = absolute(config.dataset)
    rejected: list[RejectedRow] = []
    with workbench() as database:
        catalog = open_if_there(dataset)
        plan = make_plan(database, config, catalog, rejected.append if config.on_bad_row == "reject" else None)
    version = "makes the data set" if catalog is None else f"follows version {catalog.version}"
    counts = {
        "new": plan.num_new,
        "changed": plan.num_changed,
        "to retry": plan.num_retried,
        "to judge anew": plan.num_rejudged,
        "removed": plan.num_removed,
        "taken down": plan.num_taken_down,
        "unchanged": plan.num_unchanged,
        "cannot be seen": plan.num_unreachable,
        "rows rejected": len(rejected),
    }
    lines = [
        f"plan: {plan.num_clips} clips, {version}",
        *(f"  {name:<14}{count:>12}" for name, count in counts.items()),
    ]
    lines.append(f"  {'to decode':<14}{plan.num_due:>12}  {_estimate(plan.num_due, dataset)}")
    return "\n".join(lines) + "\n" + describe_unmatched(plan.unmatched_takedowns)


def _estimate(num_due: int, dataset: str) -> str:
    if not num_due:
        return "nothing but bytes to copy"
    telling = _telling_refresh(dataset, num_due)
    if telling is None:
        return "no earlier refresh tells how long that takes"
    speed = telling["decoded"] / telling["decoding_s"]
    return (
        f"about {num_due / speed:.0f} s at the {speed:.1f} clips/s of refresh {telling['refresh_id']}, "
        f"which decoded {telling['decoded']}"
    )


def _telling_refresh(dataset: str, num_due: int) -> dict[str, Any] | None:
    """The record of the newest refresh that decoded enough to tell a speed; of those that did not, the largest."""
    folder = refreshes_path(dataset)
    names = [name for name in list_names(folder) if name.endswith(".json")][-_RECORDS:]
    records = (json.loads(read_bytes(joined(folder, name))) for name in reversed(names))
    largest = None
    for record in records:
        if not record["decoding_s"]:
            continue
        if record["decoded"] >= min(_ENOUGH, num_due):
            return record
        if largest is None or record["decoded"] > largest["decoded"]:
            largest = record
    return largest
