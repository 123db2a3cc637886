"""Every job, started as a user starts it."""

import ast
import importlib.metadata
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
JOBS = sorted(path for path in (ROOT / "jobs").glob("*.py") if path.stem not in ("__init__", "command"))
CONFIGS = {
    "base-80f-128px": "train",
    "ssr-512px": "train",
    "demo": "train",
    "demo-generate": "generate",
    "demo-refresh": "refresh",
    "demo-score": "score",
    "demo-study": "export_study",
    "generate": "generate",
    "refresh": "refresh",
    "score": "score",
    "study": "export_study",
    "tasks": "generate",
}


def run(python: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, *words], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def docstring(job: Path) -> str:
    return ast.get_docstring(ast.parse(job.read_text())) or ""


def test_the_six_jobs_are_there() -> None:
    assert [job.stem for job in JOBS] == ["export_study", "generate", "import_study", "refresh", "score", "train"]


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_help_shows_the_docstring_a_command_to_copy_and_every_key(python: str, job: Path) -> None:
    result = run(python, f"jobs/{job.name}", "--help")
    assert result.returncode == 0, result.stderr
    assert docstring(job) in result.stdout
    assert f"python jobs/{job.name} " in docstring(job)
    assert "tracking.uri = " in result.stdout


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_an_unknown_key_is_refused_by_name_before_anything_starts(python: str, job: Path) -> None:
    result = run(python, f"jobs/{job.name}", "no_such_key=1")
    assert result.returncode == 2
    assert "no_such_key: unknown key" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.stem)
def test_importing_a_job_does_nothing(python: str, job: Path) -> None:
    code = f"import sys, jobs.{job.stem}; print(sorted(m for m in ('ray', 'torch', 'mlflow') if m in sys.modules))"
    result = run(python, "-c", code)
    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.parametrize(("config", "job"), CONFIGS.items())
def test_each_config_is_one_that_its_job_takes(python: str, config: str, job: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("video,caption\na.mp4,A clip\n")
    required = {
        "refresh": [f"manifest={tmp_path}/a.csv", f"dataset={tmp_path}/d"],
        "train": ["dataset=d", "run.name=r", "run.storage=s"],
        "generate": ["out=o", "requests=r.csv"],
        "score": ["videos=v", "out=o"],
        "export_study": ["ours=a", "baselines.base=b", "out=o", "prompts=p.csv"],
    }[job]
    result = run(python, f"jobs/{job}.py", "--config", f"jobs/configs/{config}.yaml", *required, "--dry-run")
    assert result.returncode == 0, result.stderr
    assert isinstance(yaml.safe_load(result.stdout), dict)


def test_a_dry_run_of_a_refresh_tells_its_plan_and_changes_nothing(python: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("video,caption\na.mp4,A clip\nb.mp4,Another\n")
    words = ("--dry-run", f"manifest={tmp_path}/a.csv", f"dataset={tmp_path}/d")
    result = run(python, "jobs/refresh.py", *words)
    assert result.returncode == 0, result.stderr
    assert yaml.safe_load(result.stdout)["manifest"] == f"{tmp_path}/a.csv"
    assert "# plan: 2 clips, makes the data set\n#   new                      2\n" in result.stdout
    assert "#   to decode                2  no earlier refresh tells how long that takes\n" in result.stdout
    assert not (tmp_path / "d").exists()
    missing = run(python, "jobs/refresh.py", "--dry-run", f"manifest={tmp_path}/none.csv", f"dataset={tmp_path}/d")
    assert (missing.returncode, missing.stderr) == (1, f"manifest {tmp_path}/none.csv: no such file or folder\n")


def test_every_config_file_is_tested() -> None:
    assert sorted(path.stem for path in (ROOT / "jobs" / "configs").glob("*.yaml")) == sorted(CONFIGS)


def test_no_job_shadows_an_installed_library() -> None:
    installed = set(importlib.metadata.packages_distributions())
    assert {path.stem for path in (ROOT / "jobs").glob("*.py")} & installed == set()


def test_the_commands_of_the_docstrings_name_files_that_exist() -> None:
    for job in JOBS:
        commands = [line.strip() for line in docstring(job).splitlines() if "python jobs/" in line]
        for word in (word for command in commands for word in shlex.split(command.removesuffix("\\"))):
            if word.startswith("jobs/"):
                assert (ROOT / word).is_file(), f"{job.name}: {word}"
