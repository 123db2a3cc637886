"""Bring a data set of WebDataset shards up to date with its manifest; the first run makes it.

Only what is new or changed is decoded, and clips that left the manifest leave the data set. Every clip of the manifest
ends with a verdict in the catalog, and the counts are printed.

    python jobs/refresh.py --config jobs/configs/refresh.yaml manifest=clips/captions.csv dataset=out/clips
"""

import os
import sys
from datetime import UTC, datetime
from functools import partial

from jobs.command import run_job
from pipelines.cluster import ray_cluster
from pipelines.curation.config import RefreshConfig


def main(config: RefreshConfig) -> None:
    """Refresh, and print what came of it."""
    from pipelines.curation.align import AlignmentModelError
    from pipelines.curation.manifest import ManifestError
    from pipelines.curation.refresh import refresh
    from pipelines.curation.summary import describe

    try:
        summary = refresh(config, partial(ray_cluster, config.ray, os.environ), partial(datetime.now, UTC))
    except (AlignmentModelError, ManifestError) as error:
        sys.exit(str(error))
    sys.stdout.write(describe(summary))


if __name__ == "__main__":
    run_job(main, RefreshConfig, __doc__)
