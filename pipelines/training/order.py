"""One order of samples, whatever the workers.

A sample has a number: how many were consumed before it since the run began. The number alone tells its clip, and with
the seed its noise, timestep and dropout. The position of a run is therefore one number, and one worker or eight, killed
or not, train on the same samples in the same steps.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def epoch_order(num_clips: int, seed: int, epoch: int, version: int) -> NDArray[np.int64]:
    """The order in which an epoch visits the clips: a permutation of 0 ... num_clips - 1.

    Args:
        num_clips: Kept clips of the data set, counted in the order of their keys.
        seed: The run's.
        epoch: 0 for the first.
        version: The data set's: a refreshed data set has a fresh order.
    """
    return np.random.default_rng([seed, epoch, version]).permutation(num_clips)


class SampleOrder:
    """Which clip each sample of a run is; epochs follow each other without a gap, so steps may span two."""

    def __init__(self, num_clips: int, seed: int, version: int) -> None:
        if num_clips < 1:
            raise ValueError(f"a data set with at least one clip is expected, version {version} has {num_clips}")
        self.num_clips = num_clips
        self._epoch = lru_cache(maxsize=2)(lambda epoch: epoch_order(num_clips, seed, epoch, version))

    def clip(self, sample: int) -> int:
        """The clip of sample number `sample`."""
        epoch, place = divmod(sample, self.num_clips)
        return int(self._epoch(epoch)[place])


@dataclass(frozen=True)
class Share:
    """Which part of every step one worker takes.

    Micro batches hold the same samples whatever the number of workers: consecutive ones are dealt to the ranks in turn.
    """

    clips_per_step: int
    clips_per_micro_batch: int
    rank: int
    workers: int

    @property
    def micro_batches_per_step(self) -> int:
        """Of this worker."""
        return self.clips_per_step // (self.clips_per_micro_batch * self.workers)

    def micro_batches(self, position: int) -> list[range]:
        """The samples of this worker, by number, in the step that begins when `position` samples are consumed."""
        size = self.clips_per_micro_batch
        starts = range(position + self.rank * size, position + self.clips_per_step, size * self.workers)
        return [range(start, start + size) for start in starts]
