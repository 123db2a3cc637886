"""Decoding: the default reader against decord, on clips that this benchmark encodes. `make bench-decode`."""

import sys
import tempfile
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from pairs import in_pairs

from pipelines.curation.config import Recipe
from pipelines.curation.decode import Span, decode
from pipelines.curation.records import Rejection

SIZES = ((360, 640), (720, 1280))
RATES = (24, 30, 60)


def clip(height: int, width: int, fps: int, seconds: int = 6) -> bytes:
    """A drifting texture with noise, H.264 with B-frames, as cameras and libraries write it."""
    rng = np.random.default_rng(0)
    texture = rng.integers(0, 255, (height // 8 + 64, width // 8 + 64, 3), dtype=np.uint8)
    texture = np.kron(texture, np.ones((8, 8, 1), np.uint8))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": "23", "preset": "fast"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for index in range(fps * seconds):
                shift = 2 * index
                frame = np.ascontiguousarray(texture[shift // 2 : shift // 2 + height, shift : shift + width])
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        return path.read_bytes()


def main() -> None:
    """Print one ratio a size and rate."""
    for height, width in SIZES:
        for fps in RATES:
            source = clip(height, width, fps)
            recipes = [Recipe.model_validate({"decoder": name}) for name in ("pyav", "decord")]
            for recipe in recipes:
                assert not isinstance(decode(source, Span(), recipe).result, Rejection)
            ours, theirs = (partial(decode, source, Span(), recipe) for recipe in recipes)
            print(in_pairs(f"decode {height}p {fps} fps to 80 x 128 x 128: pyav / decord", ours, theirs), flush=True)


if __name__ == "__main__":
    main()
