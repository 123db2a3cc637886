"""Train the temporal layers of an inflated image U-Net on a curated data set.

Here, with a Ray of its own:

    python jobs/train.py --config jobs/configs/demo.yaml steps=100

On the cluster that `ray start --head` or KubeRay made:

    ray job submit --working-dir . -- python jobs/train.py --config jobs/configs/demo.yaml

The same `run.name` goes on from its newest checkpoint, with any number of workers. SIGTERM, as `ray job stop` sends it,
saves a checkpoint after the current step; set RAY_JOB_STOP_WAIT_TIME_S where Ray runs to give it the time.
"""

import os
import subprocess
import sys

from jobs.command import run_job
from pipelines.training.config import TrainConfig


def main(config: TrainConfig) -> None:
    """Train, and print what came of it."""
    from pipelines.cluster import ray_cluster
    from pipelines.curation.catalog import CatalogError
    from pipelines.training.record import RunRefusedError
    from pipelines.training.run import TrainingAbortedError, train
    from pipelines.training.stopping import stop_on_sigterm

    # How soon a dead or finished worker is noticed; Ray Train's own 2 s are for clusters of hundreds.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    try:
        with ray_cluster(config.ray, os.environ), stop_on_sigterm() as stop:
            result = train(config, _git_sha(), stop)
    except (CatalogError, RunRefusedError, TrainingAbortedError) as error:
        sys.exit(str(error))
    losses = "" if result.first_loss is None else f", loss {result.first_loss:.4f} -> {result.last_loss:.4f}"
    sys.stdout.write(f"steps {result.first_step} -> {result.last_step}{losses}\nmodel {result.model}\n")


def _git_sha() -> str:
    """Of the code that runs: a submitted job has no repository, so its submitter may say it."""
    found = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return os.environ.get("LUMIERE_GIT_SHA") or found.stdout.strip() or "unknown"


if __name__ == "__main__":
    run_job(main, TrainConfig, __doc__)
