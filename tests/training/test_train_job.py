"""`jobs/train.py` as a user runs it: killed, stopped, gone on with, on one worker and on two, and on a cluster."""

import contextlib
import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import torch
from safetensors.torch import load_file

from pipelines.tracking import Run, TrackingConfig, attach
from pipelines.training.checkpoint import find_newest, load_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

STEPS = 24
WAIT_S = 900


class World(NamedTuple):
    root: Path
    folder: Path
    dataset: Path
    backbone: Path

    @property
    def tracking(self) -> TrackingConfig:
        return TrackingConfig(uri=f"sqlite:///{self.folder}/mlflow.db", artifacts=str(self.folder / "artifacts"))

    def words(self, name: str, *overrides: str) -> list[str]:
        return [
            "jobs/train.py",
            f"run.name={name}",
            f"run.storage={self.folder}/runs",
            f"dataset={self.dataset}",
            f"backbone={self.backbone}",
            f"tracking.uri={self.tracking.uri}",
            f"tracking.artifacts={self.tracking.artifacts}",
            f"steps={STEPS}",
            "clips_per_step=4",
            "clips_per_micro_batch=2",
            "inflation.temporal_factor=2",
            "inflation.attention_layers=1",
            "lr=1e-3",
            "warmup_steps=4",
            "checkpoint_every_steps=4",
            "validation.every_steps=20",
            "validation.sampler_steps=2",
            "validation.num_clips=2",
            "validation.held_out_clips=2",
            *overrides,
        ]

    def start(self, name: str, *overrides: str) -> subprocess.Popen[str]:
        words = [sys.executable, *self.words(name, *overrides)]
        with (self.folder / f"{name}.log").open("a") as log:
            return subprocess.Popen(words, cwd=self.root, stdout=log, stderr=log, text=True)

    def finish(self, name: str, *overrides: str) -> None:
        status = self.start(name, *overrides).wait(WAIT_S)
        assert status == 0, (self.folder / f"{name}.log").read_text()[-4000:]

    def checkpoints(self, name: str) -> Path:
        return self.folder / "runs" / name / "checkpoints"

    def run(self, name: str) -> Run:
        record = json.loads((self.folder / "runs" / name / "run.json").read_text())
        return attach(self.tracking, record["tracking_run_id"])

    def losses(self, name: str) -> list[tuple[int, str]]:
        return [(step, f"{loss:.6f}") for step, loss in self.run(name).history("loss")]


@pytest.fixture(scope="module")
def world(root: Path, tmp_path_factory: pytest.TempPathFactory, dataset: Path, backbone: Path) -> World:
    return World(root, tmp_path_factory.mktemp("train"), dataset, backbone)


@pytest.fixture(scope="module")
def whole(world: World) -> list[tuple[int, str]]:
    """The losses of a run of one worker that nothing interrupted."""
    world.finish("whole")
    return world.losses("whole")


def test_a_run_starts_from_the_weights_of_another_one(world: World, whole: list[tuple[int, str]]) -> None:
    runs = world.folder / "runs"
    world.finish("tuned", f"initial_weights={runs}/whole", "steps=1", "lr=1e-9", "weight_decay=0")
    before, after = (load_file(runs / name / "model" / "temporal.safetensors") for name in ("whole", "tuned"))
    assert before.keys() == after.keys()
    assert all(torch.allclose(after[name], value, atol=1e-6) for name, value in before.items())
    assert any(value.abs().max() > 1e-4 for name, value in after.items() if name.endswith("projection.weight"))


def wait_for(is_there: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not is_there():
        assert process.poll() is None, f"it ended with {process.returncode} before it got there"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def has_checkpoint(world: World, name: str, step: int) -> Callable[[], bool]:
    return (world.checkpoints(name) / f"step_{step:08d}" / "COMPLETE").is_file


def kill_all(driver: subprocess.Popen[str]) -> None:
    """SIGKILL to the driver and everything below it at once: the machine dies."""
    below = psutil.Process(driver.pid).children(recursive=True)
    driver.kill()
    for process in below:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    driver.wait()
    psutil.wait_procs(below, timeout=60)


def test_a_run_trains_logs_and_leaves_a_model_and_checkpoints(world: World, whole: list[tuple[int, str]]) -> None:
    assert [step for step, _ in whole] == list(range(1, STEPS + 1))
    folder = world.folder / "runs" / "whole"
    assert (folder / "model" / "temporal.safetensors").is_file()
    assert json.loads((folder / "model" / "temporal.json").read_text())["extra"]["fps"] == 8
    assert sorted(path.name for path in world.checkpoints("whole").iterdir()) == [
        f"step_{step:08d}" for step in (16, 20, 24)
    ]
    run = world.run("whole")
    for key in ("lr", "grad_norm", "step_time_s", "samples_per_s", "loader_stall_fraction", "skipped_steps"):
        assert len(run.history(key)) == STEPS, key
    for quantile in range(10, 100, 10):
        assert [step for step, _ in run.history(f"held_out_loss_q{quantile}")] == [20, 24]
    sheets = [path.name for path in Path(world.tracking.artifacts or "").rglob("*.png") if "samples" in path.name]
    assert sheets, "a contact sheet of samples"


def test_a_run_killed_midway_goes_on_under_the_same_name_with_other_workers_and_the_same_losses(
    world: World, whole: list[tuple[int, str]]
) -> None:
    process = world.start("killed")
    wait_for(has_checkpoint(world, "killed", 8), process)
    kill_all(process)
    kept = find_newest(world.checkpoints("killed"))
    assert kept is not None
    assert 8 <= load_checkpoint(kept).facts.step < STEPS
    before = world.run("killed").run_id

    world.finish("killed", "workers=2")
    assert world.run("killed").run_id == before, "one run in the tracker"
    assert world.losses("killed") == whole, "no step twice, every printed digit the same"


def test_a_killed_worker_is_restarted_and_the_losses_are_the_same(world: World, whole: list[tuple[int, str]]) -> None:
    process = world.start("restarted")
    wait_for(has_checkpoint(world, "restarted", 8), process)
    children = psutil.Process(process.pid).children(recursive=True)
    workers = [child for child in children if "RayTrainWorker" in "".join(child.cmdline())]
    assert len(workers) == 1
    workers[0].kill()
    assert process.wait(WAIT_S) == 0, (world.folder / "restarted.log").read_text()[-4000:]
    assert world.losses("restarted") == whole


def test_sigterm_saves_the_step_it_is_in_and_the_same_command_goes_on(
    world: World, whole: list[tuple[int, str]]
) -> None:
    process = world.start("stopped", "checkpoint_every_steps=1000")
    wait_for((world.folder / "runs" / "stopped" / "run.json").is_file, process)
    wait_for(lambda: len(world.losses("stopped")) >= 2, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT_S) == 143
    stopped = find_newest(world.checkpoints("stopped"))
    assert stopped is not None
    step = load_checkpoint(stopped).facts.step
    assert step == len(world.losses("stopped")) < STEPS, "no step lost"
    world.finish("stopped")
    assert world.losses("stopped") == whole


def test_the_same_name_with_another_configuration_is_refused(world: World, whole: list[tuple[int, str]]) -> None:
    assert world.start("whole", "lr=2e-3").wait(WAIT_S) != 0
    assert "lr was 0.001, now 0.002" in (world.folder / "whole.log").read_text()


def test_gradients_that_stay_non_finite_end_the_run_at_once_and_no_worker_is_started_again(
    world: World,
) -> None:
    """They would be the same once more: noise and order are the sample's own."""
    keys = ("lr=1e36", "warmup_steps=0", "max_skipped_steps=2", "max_failures=-1", "validation.every_steps=0")
    assert world.start("diverged", *keys).wait(WAIT_S) == 1
    assert "gradients not finite 2 steps in a row" in (world.folder / "diverged.log").read_text().splitlines()[-1]
    assert [number for _, number in world.run("diverged").history("skipped_steps")][-2:] == [1, 2]


class Head(NamedTuple):
    environment: dict[str, str]
    address: str


@pytest.fixture
def head(world: World) -> Iterator[Head]:
    """`ray start --head` with token authentication, on ports and in a folder of its own."""
    folder = tempfile.mkdtemp(prefix="ray-")  # a short path: sockets lie below it
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_JOB_STOP_WAIT_TIME_S": "120",
        "LUMIERE_OUT": str(world.folder / "demo"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    names = (
        "port",
        "dashboard-port",
        "dashboard-agent-listen-port",
        "dashboard-agent-grpc-port",
        "metrics-export-port",
    )
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    words = ["ray", "start", "--head", "--block", "--num-cpus=2", f"--temp-dir={folder}", "--disable-usage-stats"]
    words += [f"--{name}={port}" for name, port in ports.items()]
    with (world.folder / "head.log").open("w") as log:
        process = subprocess.Popen(words, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{ports['dashboard-port']}"
    try:
        deadline = time.monotonic() + 300
        while ray(environment, "job", "list", f"--address={address}").returncode != 0:
            assert process.poll() is None, (world.folder / "head.log").read_text()
            assert time.monotonic() < deadline
        yield Head(environment, address)
    finally:
        below = psutil.Process(process.pid).children(recursive=True)
        process.terminate()
        process.wait(120)
        for child in psutil.wait_procs(below, timeout=30)[1]:
            child.kill()
        shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def ray(environment: dict[str, str], *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ray", *words], env=environment, cwd=cwd, capture_output=True, text=True, check=False)


def test_a_submitted_job_trains_and_a_stopped_one_loses_no_step(
    world: World, whole: list[tuple[int, str]], head: Head
) -> None:
    stranger = head.environment | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    assert ray(stranger, "job", "list", f"--address={head.address}").returncode != 0, "authentication is on"

    submit = ["job", "submit", f"--address={head.address}", "--working-dir", "."]
    result = ray(head.environment, *submit, "--", "python", *world.words("submitted"), cwd=world.root)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert world.losses("submitted") == whole

    words = [*submit, "--no-wait", "--submission-id=stop-me", "--", "python"]
    started = ray(head.environment, *words, *world.words("halted", "steps=5000"), cwd=world.root)
    assert started.returncode == 0, started.stderr
    deadline = time.monotonic() + WAIT_S
    while not has_checkpoint(world, "halted", 8)():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    ray(head.environment, "job", "stop", f"--address={head.address}", "stop-me")
    newest = find_newest(world.checkpoints("halted"))
    assert newest is not None
    assert load_checkpoint(newest).facts.step == len(world.losses("halted")), "no step lost"


def test_the_readmes_command_trains_the_demos_configuration(world: World, head: Head) -> None:
    readme = (world.root / "README.md").read_text().splitlines()
    command = next(line for line in readme if line.startswith("ray job submit "))
    demo = world.folder / "demo"
    demo.mkdir()
    (demo / "dataset").symlink_to(world.dataset)
    environment = head.environment | {"RAY_API_SERVER_ADDRESS": head.address}
    result = ray(environment, *shlex.split(command)[1:], "steps=2", cwd=world.root)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert (demo / "runs" / "demo" / "model" / "temporal.safetensors").is_file()
