"""Which pair is shown when, and on which side."""

from collections import Counter
from pathlib import Path

import pytest

from pipelines.evaluation.pairs import Pair
from pipelines.evaluation.prompts import Prompt
from pipelines.evaluation.secrecy import secret_of_seed
from pipelines.evaluation.trials import Trial, design_trials


def pairs_of(num_prompts: int, baselines: tuple[str, ...]) -> list[Pair]:
    prompts = [Prompt(f"p{n}", f"words of prompt {n}") for n in range(num_prompts)]
    return [Pair(p, b, Path(f"ours/{p.prompt_id}"), Path(f"{b}/{p.prompt_id}")) for b in baselines for p in prompts]


def design(
    num_prompts: int, baselines: tuple[str, ...] = ("a", "b", "c"), raters: int = 5, seed: int = 0
) -> list[Trial]:
    return design_trials(pairs_of(num_prompts, baselines), ("align", "quality"), raters, secret_of_seed(seed))


def blocks_of(trials: list[Trial]) -> list[list[Trial]]:
    return [[t for t in trials if t.block_id == block] for block in dict.fromkeys(t.block_id for t in trials)]


SIZES = [(113, 1, 5), (113, 6, 10), (25, 3, 4), (12, 2, 3), (7, 2, 5), (3, 1, 2), (1, 1, 1)]


@pytest.mark.parametrize(("num_prompts", "num_baselines", "raters"), SIZES)
def test_orientations_differ_by_at_most_one_per_pair_and_per_baseline(
    num_prompts: int, num_baselines: int, raters: int
) -> None:
    main = [t for t in design(num_prompts, tuple("abcdef"[:num_baselines]), raters) if t.kind == "main"]
    for group in ("pair_id", "baseline"):
        surplus = Counter[str]()
        for trial in main:
            surplus[getattr(trial, group)] += 1 if trial.left.model == "ours" else -1
        assert set(map(abs, surplus.values())) <= {0, 1}
    assert set(Counter(trial.pair_id for trial in main).values()) == {raters}
    assert len(main) == num_prompts * num_baselines * raters


@pytest.mark.parametrize(("num_prompts", "num_baselines", "raters"), SIZES)
def test_no_prompt_comes_twice_in_a_block_but_as_repeat_or_where_a_catch_has_no_other(
    num_prompts: int, num_baselines: int, raters: int
) -> None:
    for block in blocks_of(design(num_prompts, tuple("abcdef"[:num_baselines]), raters)):
        main = [trial.prompt for trial in block if trial.kind == "main"]
        assert len(set(main)) == len(main)
        [catch] = [trial for trial in block if trial.kind == "catch"]
        assert catch.prompt not in main or len(main) == num_prompts
        assert catch.slot > 1


def test_a_block_has_ten_main_trials_a_catch_and_a_repeat_with_sides_swapped_five_trials_later() -> None:
    *whole, last = blocks_of(design(113, ("a",), 5))
    for block in whole:
        assert Counter(trial.kind for trial in block) == {"main": 10, "catch": 1, "repeat": 1}
        assert [trial.slot for trial in block] == list(range(1, 13))
        [repeat] = [trial for trial in block if trial.kind == "repeat"]
        [original] = [trial for trial in block if trial.trial_id == repeat.repeat_of]
        assert repeat.slot - original.slot >= 5
        assert (repeat.left, repeat.right) == (original.right, original.left)
        assert original.kind == "main"
    assert Counter(trial.kind for trial in last) == {"main": 5, "catch": 1, "repeat": 1}


def test_with_fewer_than_four_prompts_there_is_no_repeat() -> None:
    assert {trial.kind for trial in design(3, ("a",))} == {"main", "catch"}


def test_catches_are_of_both_kinds_and_right_on_either_side() -> None:
    catches = [trial for trial in design(113) if trial.kind == "catch"]
    questions = Counter(question for catch in catches for question in catch.expected)
    assert abs(questions["align"] - questions["quality"]) <= 1
    sides = Counter(side for catch in catches for side in catch.expected.values())
    assert min(sides.values()) > len(catches) / 4
    for catch in catches:
        right = catch.left if "L" in catch.expected.values() else catch.right
        assert right.model == "ours"


def test_the_same_secret_gives_the_same_study_and_another_one_another() -> None:
    assert design(20, seed=1) == design(20, seed=1)
    assert design(20, seed=1) != design(20, seed=2)
