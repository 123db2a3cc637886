"""Bring a data set of WebDataset shards up to date with its manifest; the first run makes it.

Only what is new or changed is decoded, and clips that left the manifest leave the data set. Other thresholds decode
nothing: stored scores are judged anew and bytes are copied. Every clip of the manifest ends with a verdict in the
catalog, and the counts are printed. --dry-run prints what would be done.

    python jobs/refresh.py --config jobs/configs/refresh.yaml manifest=clips/captions.csv dataset=out/clips

Manifest, clips and data set may lie at addresses such as s3://bucket/folder; the store's endpoint and credentials are
AWS_ENDPOINT_URL (with AWS_ALLOW_HTTP=true for http), AWS_REGION, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, here and
where Ray's workers run.
"""

import os
import socket
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psutil

from jobs.command import run_job
from pipelines.cluster import ray_cluster
from pipelines.curation.config import RefreshConfig


def main(config: RefreshConfig) -> None:
    """Refresh, and print what came of it."""
    from pipelines.curation.align import AlignmentModelError
    from pipelines.curation.baseline import BaselineError
    from pipelines.curation.catalog import CatalogError
    from pipelines.curation.commits import CommitConflictError
    from pipelines.curation.lease import Holder, LeaseHeldError, LeaseLostError
    from pipelines.curation.manifest_files import ManifestError
    from pipelines.curation.plan import SourcesUnseenError
    from pipelines.curation.refresh import refresh
    from pipelines.curation.summary import describe
    from pipelines.curation.takedown import TakedownError
    from pipelines.storage import remote_errors

    told = (AlignmentModelError, BaselineError, ManifestError, TakedownError, CatalogError, SourcesUnseenError)
    told_of_others = (LeaseHeldError, LeaseLostError, CommitConflictError)
    holder = Holder(_own_name(), _is_dead)
    try:
        summary = refresh(config, partial(ray_cluster, config.ray, os.environ), partial(datetime.now, UTC), holder)
    except (*told, *told_of_others, *remote_errors()) as error:
        sys.exit(str(error))
    sys.stdout.write(describe(summary))


def preview(config: RefreshConfig) -> str:
    """What `main` would do."""
    from pipelines.curation import preview as previews
    from pipelines.curation.catalog import CatalogError
    from pipelines.curation.manifest_files import ManifestError
    from pipelines.curation.plan import SourcesUnseenError
    from pipelines.curation.takedown import TakedownError
    from pipelines.storage import remote_errors

    told = (ManifestError, TakedownError, CatalogError, SourcesUnseenError)
    try:
        return previews.preview(config)
    except (*told, *remote_errors()) as error:
        sys.exit(str(error))


def _own_name() -> str:
    process = psutil.Process()
    return f"{_machine()} process {process.pid} of {process.create_time():.2f}"


def _machine() -> str:
    """What process ids count in: a boot of a kernel and, in containers, a part of it. Host names may be shared."""
    places = [Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")]
    if not all(place.exists() for place in places):
        return socket.gethostname()
    boot, space = places[0].read_text().strip(), places[1].readlink()
    return f"{socket.gethostname()} {boot} {space}"


def _is_dead(name: str) -> bool:
    """Whether the name is that of a process of this machine, since it was started, which has ended."""
    machine, _, rest = name.partition(" process ")
    pid, _, created = rest.partition(" of ")
    if machine != _machine() or not pid.isdecimal():
        return False
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" != created
    except psutil.NoSuchProcess:
        return True


if __name__ == "__main__":
    run_job(main, RefreshConfig, __doc__, preview=preview)
