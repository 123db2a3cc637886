"""What a refresh would do: its plan in numbers, and how long the last refresh's speed makes it."""

import json
from typing import Any

from pipelines.curation.catalog import open_if_there
from pipelines.curation.config import RefreshConfig
from pipelines.curation.layout import refreshes_path
from pipelines.curation.manifest import RejectedRow
from pipelines.curation.plan import make_plan
from pipelines.curation.workbench import workbench
from pipelines.storage import absolute, joined, list_names, read_bytes


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
        "rows rejected": len(rejected),
    }
    lines = [
        f"plan: {plan.num_clips} clips, {version}",
        *(f"  {name:<14}{count:>12}" for name, count in counts.items()),
    ]
    return "\n".join([*lines, f"  {'to decode':<14}{plan.num_due:>12}  {_estimate(plan.num_due, dataset)}"]) + "\n"


def _estimate(num_due: int, dataset: str) -> str:
    last = _last_decoding(dataset)
    if not num_due:
        return "nothing but bytes to copy"
    if last is None:
        return "no earlier refresh tells how long that takes"
    speed = f"{last['clips_per_s']:.1f} clips/s of refresh {last['refresh_id']}"
    return f"about {num_due / last['clips_per_s']:.0f} s at the {speed}"


def _last_decoding(dataset: str) -> dict[str, Any] | None:
    """The record of the newest refresh that decoded something."""
    folder = refreshes_path(dataset)
    for name in reversed([name for name in list_names(folder) if name.endswith(".json")]):
        record = json.loads(read_bytes(joined(folder, name)))
        if record["clips_per_s"]:
            return record
    return None
