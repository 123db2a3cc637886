"""The README shows the commands that are tested, and none besides."""

import re
import shlex
from pathlib import Path

RUN_BY_THE_CLUSTER_TEST = {
    "source .venv/bin/activate",
    "ray get-auth-token --generate",
    "export RAY_AUTH_MODE=token",
    "export LUMIERE_OUT=$PWD/out/demo",
    "ray start --head",
    "ray job submit --working-dir . -- python jobs/train.py --config jobs/configs/demo.yaml",
}


def commands(page: Path) -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(), flags=re.DOTALL)
    return [
        shlex.join(shlex.split(line, comments=True)) for block in blocks for line in block.splitlines() if line.strip()
    ]


def test_every_make_command_names_a_target(root: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*## ", (root / "Makefile").read_text(), flags=re.MULTILINE))
    named = [command.split()[1] for command in commands(root / "README.md") if command.startswith("make ")]
    assert {"demo", "test"} <= set(named) <= targets


def test_the_first_screen_has_one_sentence_the_path_and_the_two_commands(root: Path) -> None:
    first_screen = "\n".join((root / "README.md").read_text().splitlines()[:20])
    assert "make demo" in first_screen
    assert "make test" in first_screen
    assert "──►" in first_screen


def test_the_cluster_commands_are_those_that_the_cluster_test_runs(root: Path) -> None:
    others = {command for command in commands(root / "README.md") if not command.startswith("make ")}
    assert others == {shlex.join(shlex.split(command)) for command in RUN_BY_THE_CLUSTER_TEST}
