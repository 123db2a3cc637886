"""Clips of a data set, each read by its place in a shard: one ranged read, one decode.

Shape letters: B clips, C channels, T frames, H height, W width.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.storage import joined, read_bytes
from pipelines.video_file import VideoError, read_video


class DatasetError(RuntimeError):
    """A data set that is not what its catalog says; the message names the sample."""


class Clip(NamedTuple):
    """One training sample."""

    frames_THWC: NDArray[np.uint8]
    caption: str


class ClipGeometry(NamedTuple):
    """What all clips of a data set share."""

    num_frames: int
    size_px: int
    fps: float


class ClipReader:
    """Reads kept clips of one data-set version, by index in the order of their keys. Threads may share it.

    Args:
        dataset: Root of the data set, a folder or an fsspec address.
        rows: `Catalog.kept()`.
    """

    def __init__(self, dataset: str, rows: pa.Table) -> None:
        self._root = dataset
        columns = ("key", "caption", "shard", "offset", "bytes")
        self._keys, self._captions, self._shards, self._offsets, self._bytes = (rows[c].to_pylist() for c in columns)
        self.geometry = _geometry(dataset, rows)

    def __len__(self) -> int:
        return len(self._keys)

    def caption(self, index: int) -> str:
        """The caption of a clip."""
        return self._captions[index]

    def read(self, index: int) -> Clip:
        """Read and decode a clip.

        Raises:
            DatasetError: The shard does not hold it, or holds something else.
        """
        start, shard = self._offsets[index], self._shards[index]
        name = f"{self._keys[index]}, {self._bytes[index]} bytes from {start} of shards/{shard}"
        try:
            data = read_bytes(joined(self._root, "shards", shard), start, start + self._bytes[index])
            frames_THWC = read_video(data).frames_THWC
        except (OSError, VideoError) as error:
            raise DatasetError(f"sample {name}: cannot be read: {error}") from error
        expected = (self.geometry.num_frames, self.geometry.size_px, self.geometry.size_px, 3)
        if frames_THWC.shape != expected:
            raise DatasetError(f"sample {name}: frames {expected} expected, found {frames_THWC.shape}")
        return Clip(frames_THWC, self._captions[index])


def _geometry(dataset: str, rows: pa.Table) -> ClipGeometry:
    found = {
        ClipGeometry(*values)
        for values in zip(*(rows[name].to_pylist() for name in ("num_frames", "size_px", "fps")), strict=True)
    }
    if len(found) != 1:
        raise DatasetError(
            f"dataset {dataset}: kept clips of one length, size and rate expected, found {sorted(found)}"
        )
    return found.pop()
