"""The design of a study: which pair is shown when, and on which side.

Each of the R judgements of a pair stands in a block of its own; a block is for one rater. It holds 10 main trials, 1
catch and 1 repeat with the sides swapped, at least 5 trials after its original; the last block may be shorter. Over the
R judgements of a pair, and over all of a baseline, ours is on the left as often as on the right, to within one.

Smaller studies: with fewer than 10 prompts a block holds as many main trials as there are prompts, so that no prompt
comes twice; with fewer than 4 there is no room for a repeat 5 trials later and it is left out. The catch takes a prompt
that the block does not hold where there is one, else any. A single prompt has no unrelated one: no text catch then.
"""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple

from pipelines.evaluation.config import Question
from pipelines.evaluation.pairs import OURS, Pair
from pipelines.evaluation.prompts import Prompt
from pipelines.evaluation.secrecy import Secret

MAIN_PER_BLOCK = 10
MIN_REPEAT_DISTANCE = 5
"""A repeat stands at least so many trials after its original."""
UNRELATED, DEGRADED = "unrelated", "degraded"
"""The wrong side of a catch in key.csv."""

Kind = Literal["main", "catch", "repeat"]


class Media(NamedTuple):
    """A media file to be made: a clip, cut to the shorter of it and its partner."""

    key: str
    """Says what it is; its public name is an HMAC of this."""
    path: Path
    partner: Path
    is_degraded: bool = False


class Side(NamedTuple):
    """What stands on one side of a trial."""

    model: str
    media: Media


@dataclass(frozen=True)
class Trial:
    """One question page of a rater. Only what `trials.csv` shows is public."""

    block_id: str
    slot: int
    """1 .. number of trials of the block."""
    trial_id: str
    kind: Kind
    prompt: Prompt
    pair_id: str
    """Empty for a catch."""
    baseline: str
    """Empty for a catch."""
    left: Side
    right: Side
    expected: Mapping[str, str]
    """Question to the right answer, L or R; empty but for a catch."""
    repeat_of: str = ""
    """trial_id of the original."""


def design_trials(
    pairs: Sequence[Pair], questions: Sequence[Question], raters_per_pair: int, secret: Secret
) -> list[Trial]:
    """All trials of a study, block after block, slots in order.

    Args:
        pairs: Every prompt with every baseline.
        questions: Asked on every page; decides which catches there are.
        raters_per_pair: Judgements of each pair.
        secret: Decides order and sides; the same secret gives the same study.
    """
    catches = _Catches(pairs, questions, secret)
    oriented = _orientations(pairs, secret)
    judged = Counter[str]()
    trials: list[Trial] = []
    for number, block in enumerate(_blocks(pairs, raters_per_pair, secret.order("blocks")), start=1):
        main: list[Trial] = []
        for pair in block:
            main.append(_main(pair, is_left=(oriented[pair.pair_id] + judged[pair.pair_id]) % 2 == 0))
            judged[pair.pair_id] += 1
        trials += _arrange(f"b{number:03d}", main, catches, secret)
    return trials


def _orientations(pairs: Sequence[Pair], secret: Secret) -> dict[str, int]:
    """Alternating 0 and 1 within each baseline, in a secret order."""
    oriented: dict[str, int] = {}
    for baseline in dict.fromkeys(pair.baseline for pair in pairs):
        own = [pair.pair_id for pair in pairs if pair.baseline == baseline]
        secret.order("sides", baseline).shuffle(own)
        oriented.update((pair_id, position % 2) for position, pair_id in enumerate(own))
    return oriented


def _blocks(pairs: Sequence[Pair], raters_per_pair: int, order: random.Random) -> Iterator[Sequence[Pair]]:
    """Every pair `raters_per_pair` times, in blocks without a prompt twice, the baselines mixed; the last may be short.

    A line of laps, each with every prompt once and, prompt by prompt, another baseline than the lap before.
    """
    baselines = list(dict.fromkeys(pair.baseline for pair in pairs))
    by_place = {(pair.prompt.prompt_id, pair.baseline): pair for pair in pairs}
    prompt_ids = list(dict.fromkeys(pair.prompt.prompt_id for pair in pairs))
    order.shuffle(prompt_ids)
    offsets = {prompt_id: place for place, prompt_id in enumerate(prompt_ids)}
    size = min(MAIN_PER_BLOCK, len(prompt_ids))
    line: list[Pair] = []
    for lap in range(len(baselines) * raters_per_pair):
        line += [by_place[p, baselines[(lap + offsets[p]) % len(baselines)]] for p in prompt_ids]
        prompt_ids = _next_lap(prompt_ids, size, order)
    for start in range(0, len(line), size):
        yield line[start : start + size]


def _next_lap(prompt_ids: Sequence[str], size: int, order: random.Random) -> list[str]:
    """A new order in which no window of `size` across the laps' border holds a prompt twice.

    With fewer than two blocks of prompts the order stays: then any window is free of repetition.
    """
    if len(prompt_ids) < 2 * size:
        return list(prompt_ids)
    ended_with = set(prompt_ids[1 - size :])
    others = [prompt_id for prompt_id in prompt_ids if prompt_id not in ended_with]
    order.shuffle(others)
    rest = [*others[size - 1 :], *(prompt_id for prompt_id in prompt_ids if prompt_id in ended_with)]
    order.shuffle(rest)
    return [*others[: size - 1], *rest]


def _main(pair: Pair, is_left: bool) -> Trial:
    ours = Side(OURS, Media(f"{pair.pair_id}/{OURS}", pair.ours, pair.other))
    other = Side(pair.baseline, Media(f"{pair.pair_id}/{pair.baseline}", pair.other, pair.ours))
    left, right = (ours, other) if is_left else (other, ours)
    return Trial("", 0, "", "main", pair.prompt, pair.pair_id, pair.baseline, left, right, {})


def _arrange(block_id: str, main: Sequence[Trial], catches: "_Catches", secret: Secret) -> list[Trial]:
    order = secret.order("slots", block_id)
    waiting = order.sample(main, len(main))
    has_repeat = len(main) + 2 > MIN_REPEAT_DISTANCE
    num_slots = len(main) + 1 + has_repeat
    repeat, original = 0, 0
    if has_repeat:
        repeat = order.randint(MIN_REPEAT_DISTANCE + 1, num_slots)
        original = order.randint(1, repeat - MIN_REPEAT_DISTANCE)
    catch = order.choice([slot for slot in range(2, num_slots + 1) if slot not in (repeat, original)])
    placed: dict[int, Trial] = {}
    for slot in range(1, num_slots + 1):
        if slot == catch:
            trial = catches.next_for(main)
        elif slot == repeat:
            trial = _swapped(placed[original])
        else:
            trial = waiting.pop()
        trial_id = secret.name("trial", block_id, str(slot))
        placed[slot] = replace(trial, block_id=block_id, slot=slot, trial_id=trial_id)
    return list(placed.values())


def _swapped(trial: Trial) -> Trial:
    return replace(trial, kind="repeat", left=trial.right, right=trial.left, repeat_of=trial.trial_id)


class _Catches:
    """Deals catch trials made from our own clips: text and quality in turn, prompts and sides in a secret order."""

    def __init__(self, pairs: Sequence[Pair], questions: Sequence[Question], secret: Secret) -> None:
        self._order = secret.order("catches")
        self._clips = {pair.prompt: pair.ours for pair in pairs}
        self._prompts = self._order.sample(list(self._clips), len(self._clips))
        has_unrelated = len({prompt.text for prompt in self._prompts}) > 1
        self._questions = [q for q in questions if q == "quality" or has_unrelated]
        self._dealt = count()

    def next_for(self, main: Sequence[Trial]) -> Trial:
        """A catch whose prompt the block does not hold, where there is one."""
        dealt = next(self._dealt)
        shown = {trial.prompt for trial in main}
        turned = self._prompts[dealt % len(self._prompts) :] + self._prompts[: dealt % len(self._prompts)]
        prompt = next((prompt for prompt in turned if prompt not in shown), turned[0])
        # Where no text catch can be made, a study that asks for the text alone is caught by quality.
        question = self._questions[dealt % len(self._questions)] if self._questions else "align"
        right, wrong = self._text(prompt) if question == "align" and self._questions else self._quality(prompt)
        is_left = self._order.random() < 0.5
        left, other = (right, wrong) if is_left else (wrong, right)
        return Trial("", 0, "", "catch", prompt, "", "", left, other, {question: "L" if is_left else "R"})

    def _text(self, prompt: Prompt) -> tuple[Side, Side]:
        unrelated = min(self._prompts, key=lambda other: (other.text == prompt.text, _overlap(prompt.text, other.text)))
        key = f"catch/text/{prompt.prompt_id}/{unrelated.prompt_id}"
        own, other = self._clips[prompt], self._clips[unrelated]
        return Side(OURS, Media(f"{key}/right", own, other)), Side(UNRELATED, Media(f"{key}/wrong", other, own))

    def _quality(self, prompt: Prompt) -> tuple[Side, Side]:
        key, own = f"catch/quality/{prompt.prompt_id}", self._clips[prompt]
        wrong = Media(f"{key}/wrong", own, own, is_degraded=True)
        return Side(OURS, Media(f"{key}/right", own, own)), Side(DEGRADED, wrong)


def _overlap(first: str, second: str) -> float:
    """Shared words over all words."""
    a, b = set(first.lower().split()), set(second.lower().split())
    return len(a & b) / len(a | b)
