"""A study as it was exported, read back with its key, and refused where it is no longer what it was."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipelines.evaluation.config import PolicyConfig
from pipelines.evaluation.pairs import OURS
from pipelines.evaluation.secrecy import Secret
from pipelines.evaluation.study import SECRET_KEY, SUMS, StudyError
from pipelines.storage import sha256_file

_FROZEN = ("study.yaml", "trials.csv", "key.csv")


@dataclass(frozen=True)
class KeyedTrial:
    """A trial and what is behind its sides."""

    trial_id: str
    block_id: str
    slot: int
    kind: str
    """main, catch or repeat."""
    pair_id: str
    prompt_id: str
    baseline: str
    duration_s: float
    ours_side: str
    """L or R."""
    expected: Mapping[str, str]
    """Question to the right side, of a catch."""
    repeat_of: str

    def chosen(self, side: str) -> str:
        """What the choice of a side (L, R or T for a tie) means: ours, baseline or tie."""
        return "tie" if side == "T" else OURS if side == self.ours_side else "baseline"


@dataclass(frozen=True)
class FrozenStudy:
    """What answers are held against."""

    study_id: str
    sha256: str
    """Of study.yaml: questions, policy and analysis as they were before the first answer."""
    questions: Mapping[str, str]
    policy: PolicyConfig
    trials: Mapping[str, KeyedTrial]
    """By trial_id."""
    secret: Secret

    def block(self, block_id: str) -> list[KeyedTrial]:
        """The trials of a block by slot."""
        own = (trial for trial in self.trials.values() if trial.block_id == block_id)
        return sorted(own, key=lambda trial: trial.slot)


def load_study(folder: str | Path) -> FrozenStudy:
    """Read a study and check it against its SHA256SUMS.

    Raises:
        StudyError: A file is missing, or is not the one that was exported.
    """
    root = Path(folder)
    for name in (*_FROZEN, SUMS, SECRET_KEY):
        if not (root / name).is_file():
            raise StudyError(f"study {root}: {name} is missing")
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in _lines(root / SUMS))}
    for name in _FROZEN:
        if sums.get(name) != sha256_file(root / name):
            raise StudyError(f"study {root}: {name} was changed after the export; its sha256 is not that of {SUMS}")
    facts = yaml.safe_load((root / "study.yaml").read_text(encoding="utf-8"))
    key = {row["trial_id"]: row for row in _rows(root / "key.csv")}
    trials = [_trial(row, key[row["trial_id"]]) for row in _rows(root / "trials.csv")]
    return FrozenStudy(
        study_id=str(facts["study_id"]),
        sha256=sums["study.yaml"],
        questions=facts["questions"],
        policy=PolicyConfig.model_validate(facts["policy"]),
        trials={trial.trial_id: trial for trial in trials},
        secret=Secret(bytes.fromhex((root / SECRET_KEY).read_text().strip())),
    )


def _trial(public: Mapping[str, str], key: Mapping[str, str]) -> KeyedTrial:
    return KeyedTrial(
        trial_id=public["trial_id"],
        block_id=public["block_id"],
        slot=int(public["slot"]),
        kind=key["kind"],
        pair_id=key["pair_id"],
        prompt_id=key["prompt_id"],
        baseline=key["baseline"],
        duration_s=float(public["duration_s"]),
        ours_side="L" if key["left_model"] == OURS else "R",
        expected={name: key[f"expected_{name}"] for name in ("align", "quality") if key[f"expected_{name}"]},
        repeat_of=key["repeat_of"],
    )


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
