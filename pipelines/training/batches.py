"""Micro batches in the run's order, read ahead by threads; the time that the loop waits for them is measured.

Shape letters: B clips, C channels, T frames, H height, W width.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, Self

import numpy as np
from torch import Tensor

from pipelines.pixels import to_unit
from pipelines.training.order import SampleOrder, Share
from pipelines.training.reader import ClipReader


class Batch(NamedTuple):
    """A micro batch."""

    video_BCTHW: Tensor
    """float32 in [-1, 1]."""
    captions: list[str]
    samples: range
    """The samples' numbers."""


class BatchSource:
    """The micro batches of one worker, from any step on. Use it as a context: leaving it stops the threads.

    Args:
        reader: Clips by index.
        order: Clip indices by sample number.
        share: This worker's part.
        threads: That read and decode.
        ahead: Micro batches read ahead.
        clock: Seconds, for measuring how long the loop waits.
    """

    def __init__(
        self,
        reader: ClipReader,
        order: SampleOrder,
        share: Share,
        threads: int,
        ahead: int,
        clock: Callable[[], float],
    ) -> None:
        self._reader, self._order, self._share = reader, order, share
        self._threads, self._ahead, self._clock = threads, ahead, clock
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="reader")
        self.waited_s = 0.0
        """Seconds that `steps` has waited for batches so far."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    def steps(self, position: int, num_steps: int) -> Iterator[list[Batch]]:
        """The micro batches of `num_steps` steps, a list a step, when `position` samples are consumed before."""
        share = self._share
        positions = range(position, position + num_steps * share.clips_per_step, share.clips_per_step)
        planned = (samples for start in positions for samples in share.micro_batches(start))
        pending: deque[Future[Batch]] = deque()
        for _ in range(num_steps):
            batches: list[Batch] = []
            for _ in range(share.micro_batches_per_step):
                self._fill(pending, planned)
                batches.append(self._wait(pending.popleft()))
            self._fill(pending, planned)
            yield batches

    def _fill(self, pending: deque[Future[Batch]], planned: Iterator[range]) -> None:
        while len(pending) < self._ahead and (samples := next(planned, None)) is not None:
            pending.append(self._pool.submit(self._load, samples))

    def _wait(self, future: Future[Batch]) -> Batch:
        started = self._clock()
        batch = future.result()
        self.waited_s += self._clock() - started
        return batch

    def _load(self, samples: range) -> Batch:
        return read_batch(self._reader, [self._order.clip(sample) for sample in samples], samples)


def read_batch(reader: ClipReader, indices: Sequence[int], samples: range) -> Batch:
    """Clips of a data set, by their indices, as these samples."""
    clips = [reader.read(index) for index in indices]
    video_BCTHW = to_unit(np.stack([clip.frames_THWC for clip in clips])).permute(0, 4, 1, 2, 3)
    return Batch(video_BCTHW, [clip.caption for clip in clips], samples)
