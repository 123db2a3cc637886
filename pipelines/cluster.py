"""Where Ray comes from: the cluster that runs the submitted job, a named one, or a local one started for this job."""

import logging
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from pydantic import Field

from pipelines.config import Config


class RayConfig(Config):
    """How a job reaches Ray."""

    address: str | None = Field(
        default=None,
        description="a running cluster; null: the one that runs this submitted job, else a local one of its own",
    )
    num_cpus: int | None = Field(
        default=None, ge=1, description="CPUs of a local Ray; null: as many as the machine has"
    )
    object_store_bytes: int = Field(default=512 * 1024**2, ge=80 * 1024**2, description="object store of a local Ray")


@contextmanager
def ray_cluster(config: RayConfig, environment: Mapping[str, str]) -> Generator[None]:
    """Connect this process to Ray for the length of the block, and disconnect after it.

    A local Ray has its own temporary folder and no dashboard, and is stopped at the end; no other Ray is touched.

    Args:
        config: `RayConfig`.
        environment: The process's environment: `RAY_ADDRESS` is set in a job that was submitted to a cluster.
    """
    import ray

    address = config.address or environment.get("RAY_ADDRESS")
    if address is not None:
        ray.init(address=address, log_to_driver=False)
        try:
            yield
        finally:
            ray.shutdown()
        return
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        ray.init(
            address="local",
            num_cpus=config.num_cpus,
            object_store_memory=config.object_store_bytes,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _temp_dir=folder,
        )
        try:
            yield
        finally:
            ray.shutdown()


def prepare_ray_data() -> None:
    """Set Ray Data up for a job that is one operator and shows a progress bar of its own.

    Its own messages below errors stay in the session's log files.
    """
    import ray.data

    context = ray.data.DataContext.get_current()
    # One fused operator needs no share of the CPUs kept back for others (half of them, on two cores).
    context.op_resource_reservation_enabled = False
    context.memory_usage_poll_interval_s = None  # reading a worker's memory map each second is not free, and not asked
    context.enable_progress_bars = context.print_on_execution_start = False
    for handler in logging.getLogger("ray.data").handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setLevel(logging.ERROR)
