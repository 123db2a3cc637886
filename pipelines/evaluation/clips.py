"""Folders of generated videos: `NAME.mp4`, with what made it in `NAME.json`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from pipelines.evaluation.prompts import Prompt

_SUFFIXES = frozenset({".mp4", ".webm", ".mov", ".mkv"})


class Clip(NamedTuple):
    """A video file and what is known of it."""

    path: Path
    prompt_id: str | None
    prompt: str | None


class ClipError(ValueError):
    """A folder or a sidecar that cannot be used; the message names it."""


def find_clips(folder: str | Path) -> list[Clip]:
    """The videos of a folder by name; sub-folders are not entered.

    Raises:
        ClipError: No such folder, no video in it, or a sidecar that is no JSON object.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ClipError(f"{root}: no such folder")
    paths = sorted(path for path in root.iterdir() if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not paths:
        raise ClipError(f"{root}: no video in it; {', '.join(sorted(_SUFFIXES))} are looked for")
    return [_clip(path) for path in paths]


def with_prompts(clips: Sequence[Clip], prompts: Sequence[Prompt]) -> list[Clip]:
    """Fill in the prompts of clips without one, whose `prompt_id` or file name is the id of a prompt."""
    texts = {prompt.prompt_id: prompt.text for prompt in prompts}
    return [
        clip if clip.prompt else clip._replace(prompt=texts.get(clip.prompt_id or clip.path.stem)) for clip in clips
    ]


def clip_of(prompt: Prompt, clips: Sequence[Clip]) -> Clip | None:
    """The clip made for a prompt: by the sidecar's `prompt_id`, by file name, or by the sidecar's text; the first."""
    for is_it in (
        lambda clip: clip.prompt_id == prompt.prompt_id,
        lambda clip: clip.path.stem == prompt.prompt_id,
        lambda clip: clip.prompt == prompt.text,
    ):
        for clip in clips:
            if is_it(clip):
                return clip
    return None


def _clip(path: Path) -> Clip:
    sidecar = path.with_suffix(".json")
    if not sidecar.is_file():
        return Clip(path, None, None)
    try:
        facts: object = json.loads(sidecar.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ClipError(f"{sidecar}: not JSON: {error}") from error
    if not isinstance(facts, dict):
        raise ClipError(f"{sidecar}: a JSON object is expected")
    return Clip(path, _text(facts, "prompt_id"), _text(facts, "prompt"))


def _text(facts: Mapping[str, object], key: str) -> str | None:
    value = facts.get(key)
    return None if value is None else str(value)
