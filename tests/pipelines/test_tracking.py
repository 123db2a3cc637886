import json
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from pipelines.tracking import TrackingConfig, attach, start_run


def test_a_run_holds_what_was_logged_and_ends_finished(tracking: TrackingConfig, tmp_path: Path) -> None:
    with start_run(tracking, "train", {"job": "train"}, {"lr": 0.1, "run": {"name": "a"}}) as run:
        run.log_metrics({"loss": 2.0}, step=0)
        run.log_metrics({"loss": 1.0}, step=1)
        run.log_image("sheet", np.zeros((8, 8, 3), np.uint8))
        run.log_image("samples", np.zeros((8, 8, 3), np.uint8), step=1)
        run.log_table("tables/first.json", [{"verdict": "kept", "clips": 3}])
        run.log_table("tables/second.json", [{"verdict": "still", "clips": 1}])
        run.log_text("hello", "note.txt")
        run.log_dataset("clips", "/data/clips", version="4", digest="abcd", rows=3)
    client = MlflowClient(tracking_uri=tracking.uri)
    stored = client.get_run(run.run_id)
    assert stored.info.status == "FINISHED"
    assert stored.data.params == {"lr": "0.1", "run.name": "a"}
    assert attach(tracking, run.run_id).history("loss") == [(0, 2.0), (1, 1.0)]
    assert stored.inputs.dataset_inputs[0].dataset.digest == "abcd"
    tables = json.loads(stored.data.tags["mlflow.loggedArtifacts"])
    assert {"tables/first.json", "tables/second.json"} <= {table["path"] for table in tables}
    assert {p.name for p in (tmp_path / "mlflow-artifacts" / run.run_id / "artifacts").iterdir()} >= {
        "sheet.png",
        "note.txt",
        "tables",
        "images",
    }


def test_a_run_goes_on_under_the_same_id_and_keeps_its_first_params(tracking: TrackingConfig) -> None:
    with start_run(tracking, "train", {}, {"steps": 10}) as first:
        first.log_metrics({"loss": 2.0}, step=7)
    with start_run(tracking, "train", {}, {"steps": 20}, run_id=first.run_id) as again:
        worker = attach(tracking, first.run_id)
        assert worker.last_step("loss") == 7
        assert worker.last_step("never logged") is None
        worker.log_metrics({"loss": 1.0}, step=8)
        worker.close()
    assert again.run_id == first.run_id
    assert attach(tracking, first.run_id).last_step("loss") == 8


@pytest.mark.parametrize(("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")])
def test_a_run_ends_with_the_fate_of_its_block(
    tracking: TrackingConfig, error: type[BaseException], status: str
) -> None:
    with pytest.raises(error), start_run(tracking, "train", {}, {}) as run:
        raise error
    assert MlflowClient(tracking_uri=tracking.uri).get_run(run.run_id).info.status == status
