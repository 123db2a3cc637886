"""docs/generation.md: its commands run as they are written, in a folder of their own."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from pipelines.config import load_config
from pipelines.generation.config import GenerateConfig
from pipelines.generation.requests import TASKS
from pipelines.video_file import read_video


def blocks(root: Path) -> list[str]:
    return re.findall(r"```sh\n(.*?)```", (root / "docs" / "generation.md").read_text(), flags=re.DOTALL)


def jobs(root: Path) -> list[list[str]]:
    """Words of each command that runs the job, without `python jobs/generate.py --config FILE`."""
    found = [shlex.split(block.replace("\\\n", " ")) for block in blocks(root)]
    return [words[4:] for words in found if words[:3] == ["python", "jobs/generate.py", "--config"]]


def test_every_task_has_a_command_that_the_configuration_takes_and_its_files_are_there(root: Path) -> None:
    configs = [load_config(GenerateConfig, root / "jobs" / "configs" / "tasks.yaml", words) for words in jobs(root)]
    shown = {config.task for config in configs if config.requests is None}
    assert shown == set(TASKS)
    for config in configs:
        for file in (config.image, config.video, config.style, config.requests, config.ssr.backbone):
            assert file is None or (root / file).exists(), file
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", (root / "docs" / "generation.md").read_text())
    assert [name for name in pictures if not (root / "docs" / name).is_file()] == []


@pytest.mark.slow
def test_the_python_example_runs_as_it_is_written(root: Path, python: str, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    shutil.copytree(root / "demo" / "weights", tmp_path / "demo" / "weights")
    (tmp_path / "out").mkdir()
    example = next(block for block in blocks(root) if block.startswith("python -c"))
    words = shlex.split(example)
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    subprocess.run([python, *words[1:]], cwd=tmp_path, check=True, env=environment, timeout=300)
    video = read_video(tmp_path / "out" / "star.mp4")
    assert (video.frames_THWC.shape, video.fps) == ((16, 32, 32, 3), 8)


@pytest.mark.slow
def test_a_command_of_the_page_makes_its_video(root: Path, python: str, tmp_path: Path) -> None:
    words = next(words for words in jobs(root) if "task=image_to_video" in words)
    places = [
        f"out={tmp_path}/videos",
        f"tracking.uri=sqlite:///{tmp_path}/mlflow.db",
        f"tracking.artifacts={tmp_path}/a",
    ]
    command = [python, "jobs/generate.py", "--config", "jobs/configs/tasks.yaml", *words, *places, "sampler.steps=2"]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    subprocess.run(command, cwd=root, check=True, env=environment, timeout=500)
    assert read_video(tmp_path / "videos" / "0000.mp4").frames_THWC.shape == (16, 32, 32, 3)
    assert '"known_psnr_db"' in (tmp_path / "videos" / "0000.json").read_text()
