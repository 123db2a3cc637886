"""Clips to measure with: a folder of the user's own, and ones that are encoded here."""

import tempfile
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

SUFFIXES = (".mp4", ".webm", ".mkv", ".mov")
SIZES = ((360, 640), (720, 1280))
RATES = (24, 30, 60)
SECONDS = 6
NOISE_LEVELS = 5.0


class Sources(NamedTuple):
    """Clips that are measured together, under one name."""

    name: str
    clips: list[bytes]


def generated() -> Iterator[Sources]:
    """One clip of each size and rate."""
    for height, width in SIZES:
        for fps in RATES:
            clip = generate(height, width, fps)
            bits = 8 * len(clip) / (SECONDS * fps * height * width)
            yield Sources(f"generated {height}p {fps} fps ({bits:.2f} bit/px)", [clip])


def of_folder(folder: Path) -> Sources:
    """All clips of a folder."""
    files = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)
    return Sources(f"{len(files)} clips of {folder.name}/", [path.read_bytes() for path in files])


def generate(height: int, width: int, fps: int) -> bytes:
    """A drifting texture with a sensor's noise, H.264 with B-frames, about as many bits a pixel as real clips have."""
    rng = np.random.default_rng(0)
    shape = (height + 2 * fps * SECONDS, width + 2 * fps * SECONDS, 3)
    coarse = rng.integers(0, 255, (-(-shape[0] // 8), -(-shape[1] // 8), 3), dtype=np.uint8)
    texture = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    noises = [rng.normal(0, NOISE_LEVELS, (height, width, 1)).astype(np.int16) for _ in range(8)]
    draw = partial(_draw, texture, noises, height, width)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": "23", "preset": "fast"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for index in range(fps * SECONDS):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(draw(index), format="rgb24")))
            container.mux(stream.encode(None))
        return path.read_bytes()


def _draw(
    texture: NDArray[np.uint8], noises: list[NDArray[np.int16]], height: int, width: int, index: int
) -> NDArray[np.uint8]:
    view = texture[index : index + height, 2 * index : 2 * index + width].astype(np.int16)
    return np.clip(view + noises[index % len(noises)], 0, 255).astype(np.uint8)
