"""Held-out loss: clips that training never sees, at nine fixed timesteps, with noise that never changes.

The loss of a training step swings with its timesteps by a factor of ten. These curves do not: two runs can be compared,
or one run at two times.
"""

from collections.abc import Iterator

import pyarrow as pa
import torch

from pipelines.training.batches import Batch, read_batch
from pipelines.training.learner import Learner
from pipelines.training.reader import ClipReader, DatasetError
from stunet.objective import QUANTILES


def split(rows: pa.Table, number: int) -> tuple[pa.Table, pa.Table]:
    """Rows to train on, and `number` rows to hold out: the first by key.

    Keys are digests, so the first ones are as good as drawn by lot, and a refresh of the data set changes few of them.

    Args:
        rows: `Catalog.kept()`, sorted by key.
        number: Rows to hold out.

    Raises:
        DatasetError: Nothing would be left to train on.
    """
    if number and number >= len(rows):
        raise DatasetError(f"validation.held_out_clips: fewer than the {len(rows)} kept clips expected, given {number}")
    return rows.slice(number), rows.slice(0, number)


def held_out_losses(learner: Learner, reader: ClipReader, clips_at_once: int) -> dict[str, float]:
    """The tracker's metrics: `held_out_loss`, the mean, and `held_out_loss_q10` ... `_q90`, by timestep quantile.

    Args:
        learner: Of the averaged weights.
        reader: Of the held-out clips.
        clips_at_once: That pass the model together.
    """
    losses_QN = torch.cat([learner.fixed_losses(batch) for batch in _batches(reader, clips_at_once)], dim=1).double()
    by_quantile = zip(QUANTILES, losses_QN.mean(dim=1).tolist(), strict=True)
    return {
        "held_out_loss": float(losses_QN.mean()),
        **{f"held_out_loss_q{round(100 * quantile)}": value for quantile, value in by_quantile},
    }


def _batches(reader: ClipReader, clips_at_once: int) -> Iterator[Batch]:
    for start in range(0, len(reader), clips_at_once):
        samples = range(start, min(start + clips_at_once, len(reader)))
        yield read_batch(reader, samples, samples)
