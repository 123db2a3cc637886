"""A data set behind s3:// is what it is on a local disk; a store that is away for a while costs time and no clip."""

import hashlib
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from botocore.config import Config
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
PROCESS = Path(__file__).with_name("s3_process.py")
REFRESH = str(Path(__file__).with_name("refresh_process.py"))
KEYS = ("frames=16", "fps=8", "size_px=32", "clips_per_slice=2", "samples_per_shard=2")

pytestmark = pytest.mark.slow


@contextmanager
def running(python: str, kind: str, *words: int | str, port: int = 0) -> Iterator[int]:
    """A server on a port of loopback, any that is free, from when it answers to the end of the block."""
    with socket.socket() as free:
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", port))
        port = free.getsockname()[1]
    process = subprocess.Popen([python, str(PROCESS), kind, str(port), *map(str, words)])
    try:
        for _ in range(600):
            with socket.socket() as trial:
                if trial.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield port
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def s3_port(python: str) -> Iterator[int]:
    with running(python, "server") as port:
        yield port


@pytest.fixture(scope="module")
def store(s3_port: int) -> Iterator[Any]:
    """A client of the server, with the bucket `clips`."""
    client = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{s3_port}",
        region_name="us-east-1",
        aws_access_key_id="nobody",
        aws_secret_access_key="nothing",
        config=Config(s3={"addressing_style": "path"}),
    )
    client.create_bucket(Bucket="clips")
    yield client
    client.close()


@pytest.fixture(scope="module")
def library(
    tmp_path_factory: pytest.TempPathFactory,
    moving: Callable[..., NDArray[np.uint8]],
    video_writer: Callable[..., Path],
    manifest_writer: Callable[..., Path],
    store: Any,
) -> Path:
    """Five clips and their manifest, in a folder and in the store."""
    folder = tmp_path_factory.mktemp("library")
    rows = []
    for seed in range(5):
        video_writer(folder / f"clip{seed}.mp4", moving(24, height=36, width=48, seed=seed), 12)
        rows.append({"video": f"clip{seed}.mp4", "caption": f"Clip {seed}"})
    rows.append({"video": "none.mp4", "caption": "There is no such clip"})
    manifest_writer(folder / "manifest.csv", rows)
    for path in folder.iterdir():
        store.upload_file(str(path), "clips", f"in/{path.name}")
    return folder


def environment(port: int) -> dict[str, str]:
    return {
        **os.environ,
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
    }


def run(python: str, words: list[str], given: Mapping[str, str]) -> str:
    ended = subprocess.run(
        [python, *words], cwd=ROOT, env=given, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def refresh_job(python: str, place: str, dataset: str, tmp_path: Path, port: int, *keys: str) -> str:
    tracking = (f"tracking.uri=sqlite:///{tmp_path}/mlflow.db", f"tracking.artifacts={tmp_path}/artifacts")
    words = [REFRESH, f"manifest={place}/manifest.csv", f"dataset={dataset}", *KEYS, *tracking, *keys]
    return run(python, words, environment(port))


def stored(store: Any, prefix: str) -> dict[str, str]:
    """sha256 of each object of a data set's shards."""
    listed = store.list_objects_v2(Bucket="clips", Prefix=f"{prefix}/shards/").get("Contents", [])
    bodies = {entry["Key"]: store.get_object(Bucket="clips", Key=entry["Key"])["Body"] for entry in listed}
    return {key.rsplit("/", 1)[-1]: hashlib.sha256(body.read()).hexdigest() for key, body in bodies.items()}


def local_samples(python: str, library: Path, tmp_path: Path, s3_port: int) -> dict[str, str]:
    refresh_job(python, str(library), f"{tmp_path}/local", tmp_path, s3_port)
    return samples(python, f"{tmp_path}/local", s3_port)


READ = """
import hashlib, sys
from pipelines.curation.catalog import Catalog
from pipelines.training.reader import ClipReader
rows = Catalog.open(sys.argv[1]).kept()
reader = ClipReader(sys.argv[1], rows)
print({key: hashlib.sha256(reader.read(index).frames_THWC.tobytes()).hexdigest()
       for index, key in enumerate(rows["key"].to_pylist())})
"""


def samples(python: str, dataset: str, port: int) -> dict[str, str]:
    """sha256 of each kept clip's frames, as training reads them."""
    return json.loads(run(python, ["-c", READ, dataset], environment(port)).replace("'", '"'))


def test_a_data_set_in_a_store_is_the_same_as_in_a_folder_and_training_reads_it(
    python: str, library: Path, store: Any, tmp_path: Path, s3_port: int
) -> None:
    local = local_samples(python, library, tmp_path, s3_port)
    told = refresh_job(python, "s3://clips/in", "s3://clips/whole", tmp_path, s3_port)
    assert "s3://clips/whole is at version 0\nclips in 6: 6 new" in told
    assert samples(python, "s3://clips/whole", s3_port) == local
    assert len(local) == 5

    again = refresh_job(python, "s3://clips/in", "s3://clips/whole", tmp_path, s3_port)
    assert "6 unchanged" in again
    assert "\n0 clips decoded" in again

    other = refresh_job(
        python, "s3://clips/in", "s3://clips/whole", tmp_path, s3_port, "shuffle_seed=1", "vacuum_older_than_days=0"
    )
    assert "is at version 1" in other
    assert "\n0 clips decoded" in other
    listed = store.get_object(Bucket="clips", Key="whole/versions/00001.txt")["Body"].read().decode().split()
    assert sorted(stored(store, "whole")) == listed
    assert samples(python, "s3://clips/whole", s3_port) == local


def test_a_store_that_answers_503_for_a_while_costs_time_and_nothing_else(
    python: str, library: Path, store: Any, tmp_path: Path, s3_port: int
) -> None:
    calm = refresh_job(python, "s3://clips/in", "s3://clips/calm", tmp_path, s3_port)
    with running(python, "proxy", s3_port, 25, 70) as port:
        stormy = refresh_job(python, "s3://clips/in", "s3://clips/stormy", tmp_path, port)
    assert stored(store, "stormy") == stored(store, "calm")
    assert stormy.split("clips in")[1].split("alignment")[0] == calm.split("clips in")[1].split("alignment")[0]


READ_RANGES = """
import sys
from pipelines.storage import read_ranges
path = "s3://clips/in/clip0.mp4"
print(read_ranges([path, path, path], [0, 4, 8], [4, 8, 12]))
"""


def test_bytes_of_many_places_are_asked_for_again_and_never_errors_in_their_place(
    python: str, library: Path, s3_port: int
) -> None:
    source = (library / "clip0.mp4").read_bytes()
    with running(python, "proxy", s3_port, 1, 90) as port:
        told = run(python, ["-c", READ_RANGES], environment(port))
    assert told.strip() == str([source[0:4], source[4:8], source[8:12]])


def test_sources_that_are_forbidden_or_away_for_too_long_cost_themselves(
    python: str, library: Path, store: Any, tmp_path: Path, s3_port: int
) -> None:
    with running(python, "proxy", s3_port, 0, 0, "in/clip0.mp4", 403, "in/clip1.mp4", 503) as port:
        told = refresh_job(python, "s3://clips/in", f"{tmp_path}/data", tmp_path, port)
    assert re.search(r"kept +3\n", told)
    assert re.search(r"unreadable +3\n", told)
    later = refresh_job(python, "s3://clips/in", f"{tmp_path}/data", tmp_path, s3_port)
    assert "2 retried" in later
    assert re.search(r"kept +5\n", later)
    with running(python, "proxy", s3_port, 0, 0, "in/clip0.mp4", 403) as port:
        again = refresh_job(python, "s3://clips/in", f"{tmp_path}/data", tmp_path, port)
    assert "1 known sources cannot be seen; their clips stay" in again
    assert re.search(r"kept +5\n", again)


HOLD = """
import sys
from datetime import UTC, datetime
from pipelines.curation.lease import Holder, leased
with leased("s3://clips/held", Holder("host a"), 3, lambda: datetime.now(UTC)) as lease:
    print("held", flush=True)
    sys.stdin.readline()
    lease.check()
"""


def test_a_lease_outlives_a_store_that_cannot_be_reached_for_a_while(python: str, store: Any, s3_port: int) -> None:
    def newest() -> str:
        listed = store.list_objects_v2(Bucket="clips", Prefix="held/lease/")["Contents"]
        return max(entry["Key"] for entry in listed)

    with running(python, "proxy", s3_port, 0, 0) as port:
        process = subprocess.Popen(
            [python, "-c", HOLD],
            cwd=ROOT,
            env=environment(port),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
    with process:
        time.sleep(20)  # longer than the library of the store tries by itself
        before = newest()
        with running(python, "proxy", s3_port, 0, 0, port=port):
            for _ in range(600):
                if newest() > before:
                    break
                time.sleep(0.1)
            assert newest() > before
            process.communicate("\n")
    assert process.returncode == 0


def test_of_two_refreshes_of_one_data_set_the_second_is_refused(
    python: str, library: Path, store: Any, tmp_path: Path, s3_port: int
) -> None:
    held = {"owner": "host far-away", "expires_at": "2999-01-01T00:00:00+00:00", "is_released": False}
    store.put_object(Bucket="clips", Key="busy/lease/0000000003.json", Body=json.dumps(held).encode())
    words = ["jobs/refresh.py", "manifest=s3://clips/in/manifest.csv", "dataset=s3://clips/busy", *KEYS]
    ended = subprocess.run(
        [python, *words], cwd=ROOT, env=environment(s3_port), capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 1
    assert "host far-away writes it, until 2999-01-01" in ended.stderr
    assert "Traceback" not in ended.stderr
