"""MLflow, the one tracker: every run, data set, checkpoint and study is looked up here.

This is the only module that names MLflow. It uses the client with explicit run ids, never the "active run" of the
process, so that a driver and its workers can write to the same run. Calls in a loop are asynchronous (0.2 ms instead of
28 ms): the newest thousand may be on their way, `close` waits for all. MLflow is imported when a run is opened:
configurations are checked without it.
"""

import json
import tempfile
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from pipelines.config import Config

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = "sqlite:///"
_PARAM_CHARACTERS = 500
_PARAMS_PER_BATCH = 100
_MOST_PENDING = 1000
"""Asynchronous calls that may be on their way: a long run does not keep them all, nor hides an outage until its end."""
_KIND_TAG, _KIND = "mlflow.experimentKind", "custom_model_development"  # runs come first on the tracker's page
_TABLES_TAG = "mlflow.loggedArtifacts"  # what the tracker's page reads to show tables


class TrackingConfig(Config):
    """Where runs are recorded."""

    uri: str = Field(
        default="sqlite:///out/mlflow.db", description="MLflow tracking URI: sqlite:///FILE or http://HOST:PORT"
    )
    artifacts: str | None = Field(
        default="out/mlflow-artifacts",
        description="artifact root of a new experiment under sqlite; a server has its own",
    )
    experiment: str = Field(default="lumiere", description="MLflow experiment; made where it does not exist")


class Run:
    """One MLflow run, addressed by its id. Make it by `start_run` or `attach`."""

    def __init__(self, client: "MlflowClient", run_id: str) -> None:
        self._client = client
        self.run_id = run_id
        self._pending: deque[Any] = deque()

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Record one value a key at a step, asynchronously."""
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now_ms = get_current_time_millis()
        entities = [Metric(key, float(value), now_ms, step) for key, value in metrics.items()]
        self._pending.append(self._client.log_batch(self.run_id, metrics=entities, synchronous=False))
        while len(self._pending) > _MOST_PENDING:
            _settle(self._pending.popleft())

    def log_params(self, params: Mapping[str, object]) -> None:
        """Record parameters; values are cut to 500 characters. A key that the run already has keeps its first value."""
        from mlflow.entities import Param

        known = self._client.get_run(self.run_id).data.params
        entities = [Param(k, str(v)[:_PARAM_CHARACTERS]) for k, v in params.items() if k not in known]
        for start in range(0, len(entities), _PARAMS_PER_BATCH):
            self._client.log_batch(self.run_id, params=entities[start : start + _PARAMS_PER_BATCH])

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set or overwrite tags."""
        for key, value in tags.items():
            self._client.set_tag(self.run_id, key, value)

    def log_image(self, name: str, image_HWC: NDArray[np.uint8], step: int | None = None) -> None:
        """Record an (H, W, 3) uint8 picture: `name.png`, or with a step one picture of the series `name`."""
        if step is None:
            self._client.log_image(self.run_id, Image.fromarray(image_HWC), artifact_file=f"{name}.png")
        else:
            self._client.log_image(self.run_id, Image.fromarray(image_HWC), key=name, step=step)

    def log_file(self, path: str | Path, folder: str = "") -> None:
        """Copy a file, or a folder with all in it, into the run's artifacts."""
        if Path(path).is_dir():
            self._client.log_artifacts(self.run_id, str(path), folder or None)
        else:
            self._client.log_artifact(self.run_id, str(path), folder or None)

    def log_text(self, text: str, path: str) -> None:
        """Record a text as the artifact `path`."""
        self._client.log_text(self.run_id, text, path)

    def log_table(self, path: str, rows: Sequence[Mapping[str, object]]) -> None:
        """Record rows of equal keys as a table that MLflow shows (`path` ends in .json); an older one is replaced."""
        import pandas as pd

        frame = pd.DataFrame([dict(row) for row in rows])
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / Path(path).name
            frame.to_json(file, orient="split", index=False)
            self._client.log_artifact(self.run_id, str(file), str(Path(path).parent).removeprefix("."))
        known = self._client.get_run(self.run_id).data.tags.get(_TABLES_TAG, "[]")
        tables = [entry for entry in json.loads(known) if entry["path"] != path]
        self._client.set_tag(self.run_id, _TABLES_TAG, json.dumps([*tables, {"path": path, "type": "table"}]))

    def log_dataset(self, name: str, source: str, version: str, digest: str, rows: int) -> None:
        """Record that the run reads a data set: its place, pinned version, digest (at most 36 characters) and rows."""
        self._log_dataset((name, digest), source, version, rows, "training")

    def log_made_dataset(self, name: str, source: str, version: str, digest: str, rows: int) -> None:
        """Record that the run made this version of a data set; the arguments are those of `log_dataset`."""
        self._log_dataset((name, digest), source, version, rows, "curation")

    def _log_dataset(self, named: tuple[str, str], source: str, version: str, rows: int, context: str) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        name, digest = named
        dataset = Dataset(
            name=name,
            digest=digest[:36],
            source_type="local" if "://" not in source else source.partition("://")[0],
            source=json.dumps({"uri": source, "version": version}),
            profile=json.dumps({"num_rows": rows}),
        )
        tags = [InputTag("mlflow.data.context", context), InputTag("version", version)]
        self._client.log_inputs(self.run_id, datasets=[DatasetInput(dataset, tags)])

    def history(self, key: str) -> list[tuple[int, float]]:
        """All (step, value) of a metric, by step; empty where it was never recorded."""
        metrics = self._client.get_metric_history(self.run_id, key)
        return sorted((metric.step, metric.value) for metric in metrics)

    def last_step(self, key: str) -> int | None:
        """The highest step at which `key` was recorded, or None: a resumed loop records only what lies behind it."""
        return max((step for step, _ in self.history(key)), default=None)

    def close(self) -> None:
        """Wait until all that was logged asynchronously has been written."""
        while self._pending:
            _settle(self._pending.popleft())


def _settle(operation: Any) -> None:
    """Wait until it is written; the tracker's client tries again by itself before it raises."""
    if operation is not None:
        operation.wait()


@contextmanager
def start_run(
    config: TrackingConfig,
    name: str,
    tags: Mapping[str, str],
    params: Mapping[str, object],
    run_id: str | None = None,
) -> Generator[Run]:
    """Open a run, or go on with `run_id`, and end it with the block's fate: FINISHED, FAILED or KILLED.

    Args:
        config: Where.
        name: The run's name in the tracker.
        tags: Searchable tags, such as the job and the data-set version.
        params: The configuration; nested mappings are flattened to dotted keys.
        run_id: A run to go on with.
    """
    client = _client(config)
    if run_id is None:
        run_id = client.create_run(_experiment_id(client, config), run_name=name, tags=dict(tags)).info.run_id
    else:
        client.update_run(run_id, status="RUNNING")
    run = Run(client, run_id)
    run.log_params(dict(_flatten(params)))
    status = "FAILED"
    try:
        yield run
        status = "FINISHED"
    except (KeyboardInterrupt, SystemExit):
        status = "KILLED"
        raise
    finally:
        run.close()
        client.set_terminated(run_id, status)


def attach(config: TrackingConfig, run_id: str) -> Run:
    """The face of a run that another process opened and will end; call `close` when done with it."""
    return Run(_client(config), run_id)


def resolve_tracking(config: TrackingConfig) -> TrackingConfig:
    """The same place in absolute paths, for processes that run in another folder (Ray's workers)."""
    artifacts = config.artifacts
    if artifacts is not None and "://" not in artifacts:
        artifacts = str(Path(artifacts).resolve())
    return config.model_copy(update={"uri": _absolute_uri(config.uri), "artifacts": artifacts})


def _absolute_uri(uri: str) -> str:
    if not uri.startswith(_SQLITE):
        return uri
    return _SQLITE + str(Path(uri.removeprefix(_SQLITE)).resolve())


def _client(config: TrackingConfig) -> "MlflowClient":
    from mlflow import MlflowClient

    uri = _absolute_uri(config.uri)
    if uri.startswith(_SQLITE):
        Path(uri.removeprefix(_SQLITE)).parent.mkdir(parents=True, exist_ok=True)
    return MlflowClient(tracking_uri=uri)


def _experiment_id(client: "MlflowClient", config: TrackingConfig) -> str:
    found = client.get_experiment_by_name(config.experiment)
    if found is not None:
        return str(found.experiment_id)
    location = None
    if config.uri.startswith(_SQLITE) and config.artifacts is not None:
        location = config.artifacts
        if "://" not in location:
            location = Path(location).resolve().as_uri()
    return client.create_experiment(config.experiment, artifact_location=location, tags={_KIND_TAG: _KIND})


def _flatten(params: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in params.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")  # pyright: ignore[reportUnknownArgumentType]  # JSON-like
        else:
            yield f"{prefix}{key}", value
