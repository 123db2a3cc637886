"""Pairs: for each prompt and baseline, our clip and the baseline's."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pipelines.evaluation.clips import Clip, clip_of
from pipelines.evaluation.prompts import Prompt

OURS = "ours"
"""Our side in key.csv."""


class Pair(NamedTuple):
    """Two clips of one prompt."""

    prompt: Prompt
    baseline: str
    ours: Path
    other: Path

    @property
    def pair_id(self) -> str:
        """Names the baseline: never public."""
        return f"{self.baseline}/{self.prompt.prompt_id}"


class PairError(ValueError):
    """Videos that do not pair up; the message names the folders and prompts."""


def make_pairs(prompts: Sequence[Prompt], ours: Sequence[Clip], baselines: Mapping[str, Sequence[Clip]]) -> list[Pair]:
    """Every prompt with every baseline, baselines in their order, prompts in theirs.

    A system without a clip for a prompt is refused, not left out: the comparison would be another one.

    Raises:
        PairError: A system has no clip for a prompt.
    """
    systems = {OURS: ours, **baselines}
    found = {name: {prompt.prompt_id: clip_of(prompt, clips) for prompt in prompts} for name, clips in systems.items()}
    missing = [f"{name}: {prompt_id}" for name, clips in found.items() for prompt_id, clip in clips.items() if not clip]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise PairError(
            f"no clip found for {'; '.join(missing[:5])}{more}. A clip is found by the `prompt_id` or `prompt` of its "
            "NAME.json, or as PROMPT_ID.mp4"
        )
    paths = {name: {prompt_id: clip.path for prompt_id, clip in clips.items() if clip} for name, clips in found.items()}
    return [
        Pair(prompt, name, paths[OURS][prompt.prompt_id], paths[name][prompt.prompt_id])
        for name in baselines
        for prompt in prompts
    ]
