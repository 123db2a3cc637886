"""Clips to measure with: a folder of the user's own, and ones that are encoded here."""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
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
    pictures = (_draw(texture, noises, height, width, index) for index in range(fps * SECONDS))
    return encoded(pictures, height, width, fps)


def encoded(pictures_HWC: Iterable[NDArray[np.uint8]], height: int, width: int, fps: int) -> bytes:
    """RGB pictures as mp4: H.264 with B-frames."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": "23", "preset": "fast"})
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            for picture_HWC in pictures_HWC:
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture_HWC), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path.read_bytes()


def under_many_names(folder: Path, sources: Sequence[bytes], num_clips: int) -> Path:
    """A manifest of `num_clips` files of few different videos: an mp4 may end with a box that readers skip.

    Other bytes, another key, the same work.
    """
    lines = ["video,caption"]
    for number in range(num_clips):
        name = f"clip{number:06d}.mp4"
        tail = (16).to_bytes(4, "big") + b"free" + number.to_bytes(8, "big")
        (folder / name).write_bytes(sources[number % len(sources)] + tail)
        lines.append(f"{name},A moving texture number {number}")
    manifest = folder / "manifest.csv"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def _draw(
    texture: NDArray[np.uint8], noises: list[NDArray[np.int16]], height: int, width: int, index: int
) -> NDArray[np.uint8]:
    view = texture[index : index + height, 2 * index : 2 * index + width].astype(np.int16)
    return np.clip(view + noises[index % len(noises)], 0, 255).astype(np.uint8)
