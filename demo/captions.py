"""Captions of scenes in several wordings. Colour, shape and motion are always named; the rest sometimes."""

import random
import re

from demo.scene import BACKGROUNDS, COLORS, MOTIONS, SHAPES, SIZES, Scene

_TEMPLATES = (
    "a {size}{color} {shape} moving {speed}{to}",
    "{size}{color} {shape} moves {speed}{to}",
    "{size}{color} {shape} drifts {speed}{to} on a {background} background",
    "a {size}{color} {shape} slides {speed}{to} across a {background} background",
    "on a {background} background, a {size}{color} {shape} travels {speed}{to}",
    "a {shape}, {size}{color}, moving {speed}{to}",
    "the {color} {shape} goes {speed}{to}",
    "{background} background, {size}{color} {shape} gliding {speed}{to}",
)
_STRAIGHT = ("{0}", "{0}", "to the {0}", "towards the {0}")
_VERTICAL = ("{0}", "{0}wards", "straight {0}")
_DIAGONAL = ("{0}-{1}", "{0} and to the {1}", "diagonally {0} and {1}")
_SPEED_WORDS = {"slow": ("slowly ",), "fast": ("quickly ", "fast ")}
_WORD = re.compile(r"[a-z]+|-|,")


def caption(scene: Scene, rng: random.Random) -> str:
    """One true caption of the scene. Size and speed are named in about half of those whose wording has a place."""
    template = rng.choice(_TEMPLATES)
    text = template.format(
        shape=scene.shape,
        color=scene.color,
        background=scene.background,
        size=f"{scene.size} " if rng.random() < 0.5 else "",
        speed=rng.choice(_SPEED_WORDS[scene.speed]) if rng.random() < 0.5 else "",
        to=_direction(scene.motion, rng),
    )
    return text


def vocabulary() -> list[str]:
    """Every word that a caption can hold, sorted."""
    texts = [*_TEMPLATES, *_STRAIGHT, *_DIAGONAL, "upwards downwards straight", *MOTIONS, *SHAPES, *COLORS, *SIZES]
    texts += [*BACKGROUNDS, *(word for words in _SPEED_WORDS.values() for word in words)]
    plain = (re.sub(r"\{\w+\}", " ", text) for text in texts)
    return sorted({word for text in plain for word in _WORD.findall(text)})


def words(text: str) -> list[str]:
    """Words, hyphens and commas of a text in lower case."""
    return _WORD.findall(text.lower())


def _direction(motion: str, rng: random.Random) -> str:
    parts = motion.split("-")
    if len(parts) == 2:
        return rng.choice(_DIAGONAL).format(*parts)
    return rng.choice(_VERTICAL if motion in ("up", "down") else _STRAIGHT).format(*parts)
