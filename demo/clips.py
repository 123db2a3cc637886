"""Clips of the demo world as tensors, drawn anew for every sample: what its STUNet is trained on and measured with.

Shape letters: B clips, C channels (RGB), T frames, H height, W width.
"""

import random
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from demo.captions import caption
from demo.render import render
from demo.scene import COLORS, MOTIONS, SHAPES, Scene, draw_scene
from demo.train_clip import FRAME_PX
from pipelines.pixels import to_unit
from pipelines.training.batches import Batch

NUM_FRAMES, FPS = 16, 8
NUM_HELD_OUT = 200
_HELD_OUT_SEED = 3_000_017


class Held(NamedTuple):
    """A scene to measure with, and a caption that training never sees."""

    scene: Scene
    caption: str


@lru_cache
def held_out() -> tuple[Held, ...]:
    """`NUM_HELD_OUT` scenes with captions of their own; shapes, colours and motions in turn, so that all are there."""
    rng, found = random.Random(_HELD_OUT_SEED), dict[str, Held]()
    names = [(shape, color, motion) for motion in MOTIONS for color in COLORS for shape in SHAPES]
    while len(found) < NUM_HELD_OUT:
        scene = draw_scene(rng, *names[len(found) % len(names)])
        words = caption(scene, rng)
        found.setdefault(words, Held(scene, words))
    return tuple(found.values())


def some_held_out(count: int) -> list[Held]:
    """`count` of them, evenly spaced."""
    every = held_out()
    return [every[index] for index in np.linspace(0, len(every) - 1, count).round().astype(int)]


def clip_of(scene: Scene, size_px: int = FRAME_PX) -> Tensor:
    """The scene's first two seconds, (C, T, H, W) in [-1, 1]."""
    frames_THWC = render(scene, [index / FPS for index in range(NUM_FRAMES)], size_px, size_px)
    return to_unit(frames_THWC).permute(3, 0, 1, 2)


class RenderedClips:
    """Micro batches of clips that are rendered when they are asked for; `pipelines.training.loop.Source`.

    A sample is a function of (seed, its number): going on from a position gives what an uninterrupted run has there.
    """

    def __init__(self, seed: int, clips_per_step: int, size_px: int = FRAME_PX) -> None:
        self._seed, self._clips_per_step, self._size_px = seed, clips_per_step, size_px
        self._held_out = {held.caption for held in held_out()}
        self.waited_s = 0.0

    def steps(self, position: int, num_steps: int) -> Iterator[list[Batch]]:
        """One micro batch a step."""
        for start in range(position, position + num_steps * self._clips_per_step, self._clips_per_step):
            samples = range(start, start + self._clips_per_step)
            scenes, captions = zip(*(self._draw(sample) for sample in samples), strict=True)
            yield [Batch(torch.stack([clip_of(scene, self._size_px) for scene in scenes]), list(captions), samples)]

    def _draw(self, sample: int) -> tuple[Scene, str]:
        rng = random.Random(f"{self._seed}:{sample}")
        while True:
            scene = draw_scene(rng)
            words = caption(scene, rng)
            if words not in self._held_out:
                return scene, words
