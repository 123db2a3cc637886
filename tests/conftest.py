"""What tests share: one local Ray a session, and a tracker in a folder of its own."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.cluster import RayConfig, ray_cluster
from pipelines.tracking import TrackingConfig

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture(scope="session")
def python() -> str:
    """The interpreter that runs the tests, for jobs started as a user would."""
    return sys.executable


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A real Ray of this session's own, with two CPUs; stopped at the end."""
    with ray_cluster(RayConfig(num_cpus=2, object_store_bytes=128 * 1024**2), environment={}):
        yield


@pytest.fixture
def tracking(tmp_path: Path) -> TrackingConfig:
    """A real MLflow store on SQLite in the test's own folder."""
    return TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db", artifacts=str(tmp_path / "mlflow-artifacts"))
