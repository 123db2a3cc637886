"""The DeepSpeed engine: the same losses whatever the workers and the ZeRO stage, and no step lost without a word."""

import json
import math
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

KINDS = [("fp32", 0), ("fp32", 1), ("fp32", 2), ("fp32", 3), ("bf16", 1), ("bf16", 2), ("bf16", 3)]
PROCESS = Path(__file__).with_name("engine_process.py")

Results = dict[str, dict[tuple[str, int], Any]]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def run_group(folder: Path, name: str, workers: int, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file, out = folder / f"{name}.json", folder / f"{name}.out.json"
    file.write_text(json.dumps({"workers": workers, "port": port, "runs": runs, "out": str(out)}))
    logs = [(folder / f"{name}.{rank}.log").open("w") for rank in range(workers)]
    processes = [
        subprocess.Popen([sys.executable, str(PROCESS), str(file), str(rank)], stdout=log, stderr=log)
        for rank, log in enumerate(logs)
    ]
    statuses = [process.wait() for process in processes]
    for log in logs:
        log.close()
    assert statuses == [0] * workers, Path(logs[0].name).read_text()[-3000:] + Path(logs[-1].name).read_text()[-3000:]
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """By name: `whole`, `compiled` 4 steps on 1 worker; `half` the first 2 on 2; `one`, `two` the last 2 on 1 and 2."""
    folder = tmp_path_factory.mktemp("engine")

    def runs(name: str, first: int, last: int, start: str | None, inf_at: tuple[int, ...] = ()) -> list[dict[str, Any]]:
        return [
            {
                "precision": precision,
                "zero_stage": stage,
                "first_step": first,
                "last_step": last,
                "start": start and str(folder / f"{start}-{precision}-{stage}.safetensors"),
                "end": str(folder / f"{name}-{precision}-{stage}.safetensors"),
                "inf_at": inf_at,
                "is_compiled": name == "compiled",
            }
            for precision, stage in KINDS
        ]

    whole = runs("whole", 0, 4, None)
    infinite = runs("infinite", 0, 4, None, inf_at=(1, 2))
    alone = run_group(folder, "alone", 1, whole + infinite + runs("compiled", 0, 4, None))
    half = run_group(folder, "half", 2, runs("half", 0, 2, None))
    one = run_group(folder, "one", 1, runs("one", 2, 4, "half"))
    two = run_group(folder, "two", 2, runs("two", 2, 4, "half"))
    names, size = ("whole", "infinite", "compiled"), len(KINDS)
    named = {name: alone[index * size : (index + 1) * size] for index, name in enumerate(names)}
    named |= {"half": half, "one": one, "two": two}
    for name, each in named.items():
        for kind, result in zip(KINDS, each, strict=True):
            result["state"] = load_file(folder / f"{name}-{kind[0]}-{kind[1]}.safetensors")
    return {name: dict(zip(KINDS, each, strict=True)) for name, each in named.items()}


def losses(result: dict[str, Any]) -> list[str]:
    return [step["loss"] for step in result["steps"]]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind[0]}-zero{kind[1]}")
def test_two_workers_have_the_losses_of_one(results: Results, kind: tuple[str, int]) -> None:
    assert losses(results["half"][kind]) == losses(results["whole"][kind])[:2]


@pytest.mark.parametrize("rest", ["one", "two"])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind[0]}-zero{kind[1]}")
def test_what_two_workers_saved_goes_on_with_one_or_two_in_every_printed_digit(
    results: Results, kind: tuple[str, int], rest: str
) -> None:
    assert losses(results[rest][kind]) == losses(results["whole"][kind])[2:]
    assert results[rest][kind]["applied_steps"] == 4
    for name, tensor in results["whole"][kind]["state"].items():
        assert (results[rest][kind]["state"][name] - tensor).abs().max() < 1e-5, name


def test_all_zero_stages_have_the_same_losses(results: Results) -> None:
    for precision in ("fp32", "bf16"):
        found = {tuple(losses(results["whole"][kind])) for kind in KINDS if kind[0] == precision}
        assert len(found) == 1, found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind[0]}-zero{kind[1]}")
def test_a_step_with_non_finite_gradients_is_told_and_not_applied(results: Results, kind: tuple[str, int]) -> None:
    result = results["infinite"][kind]
    assert [step["is_applied"] for step in result["steps"]] == [True, False, False, True]
    assert [math.isfinite(step["norm"]) for step in result["steps"]] == [True, False, False, True]
    assert result["applied_steps"] == 2
    assert all(bool(tensor.isfinite().all()) for tensor in result["state"].values())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind[0]}-zero{kind[1]}")
def test_a_compiled_model_has_the_losses_of_the_plain_one(results: Results, kind: tuple[str, int]) -> None:
    compiled, plain = results["compiled"][kind], results["whole"][kind]
    assert compiled["num_graphs"] > 0
    assert plain["num_graphs"] == 0
    digits = 1e-5 if kind[0] == "fp32" else 2e-2
    for one, other in zip(losses(compiled), losses(plain), strict=True):
        assert float(one) == pytest.approx(float(other), rel=digits)
    assert compiled["applied_steps"] == 4
