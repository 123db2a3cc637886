"""What the driver hands to every worker."""

from dataclasses import dataclass
from typing import Any

from pipelines.training.config import TrainConfig


@dataclass(frozen=True)
class Job:
    """One start of a run.

    Attributes:
        config: With absolute places.
        dataset_version: Pinned.
        tracking_run_id: The run in the tracker, the same at every start.
        git_sha: Of the code, as far as it is known.
        board: Handle to a `pipelines.training.board.Board`.
        initial_weights: `TrainConfig.initial_weights`, absolute.
    """

    config: TrainConfig
    dataset_version: int
    tracking_run_id: str
    git_sha: str
    board: Any
    initial_weights: str | None
