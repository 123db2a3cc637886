import shlex
from pathlib import Path

import pytest
import yaml

MANIFESTS = ["rayjob-refresh.yaml", "rayjob-train.yaml"]


def rayjob(root: Path, name: str) -> dict:
    return yaml.safe_load((root / "infra" / name).read_text())


@pytest.mark.parametrize("name", MANIFESTS)
def test_an_entry_point_names_a_job_and_a_config_that_exist(root: Path, name: str) -> None:
    words = shlex.split(rayjob(root, name)["spec"]["entrypoint"])
    assert words[0] == "python"
    assert (root / words[1]).is_file(), words[1]
    assert words[2] == "--config"
    assert (root / words[3]).is_file(), words[3]


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_cluster_runs_the_locked_ray_with_token_authentication(root: Path, name: str) -> None:
    cluster = rayjob(root, name)["spec"]["rayClusterSpec"]
    assert f"ray=={cluster['rayVersion']}" in (root / "requirements.lock").read_text().splitlines()
    assert cluster["authOptions"]["mode"] == "token"


def test_every_pod_runs_the_image_that_the_dockerfile_builds(root: Path) -> None:
    dockerfile = (root / "infra" / "Dockerfile").read_text()
    for name in MANIFESTS:
        cluster = rayjob(root, name)["spec"]["rayClusterSpec"]
        for group in [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]:
            for container in group["template"]["spec"]["containers"]:
                assert f"-t {container['image']} " in dockerfile
                assert f"WORKDIR {container['workingDir']}" in dockerfile
