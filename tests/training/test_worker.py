"""Where workers go on from: all of them from the same place."""

import multiprocessing
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from pipelines.training.checkpoint import Facts, write_checkpoint
from pipelines.training.state import TrainingState
from pipelines.training.worker import newest_of_all

FORK = multiprocessing.get_context("fork")


def write(folder: Path, *steps: int) -> Path:
    for step in steps:
        facts = Facts(step, 8 * step, step, seed=0, dataset_version=0, backbone_digest="", config_hash="", git_sha="")
        write_checkpoint(folder, TrainingState({"w.a": torch.ones(1)}, step), facts)
    return folder


def join(rank: int, folders: tuple[Path, Path], meeting: Path, found: "multiprocessing.Queue[str | None]") -> None:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    newest = newest_of_all(folders[rank], torch.device("cpu"))
    found.put(newest and newest.name)
    dist.destroy_process_group()


@pytest.mark.parametrize(("seen_by_0", "seen_by_1"), [((4, 8), (4,)), ((4,), (4, 8)), ((), (4,)), ((), ())])
def test_all_workers_go_on_from_the_checkpoint_that_worker_0_finds(
    tmp_path: Path, seen_by_0: tuple[int, ...], seen_by_1: tuple[int, ...]
) -> None:
    """A network file system may list a folder late: two workers then see two newest checkpoints."""
    folders = write(tmp_path / "0", *seen_by_0), write(tmp_path / "1", *seen_by_1)
    found = FORK.Queue()
    workers = [FORK.Process(target=join, args=(rank, folders, tmp_path / "meeting", found)) for rank in range(2)]
    for worker in workers:
        worker.start()
    names = [found.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join(60)
    assert names == [f"step_{seen_by_0[-1]:08d}" if seen_by_0 else None] * 2
