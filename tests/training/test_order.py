"""One order of samples, whatever the workers."""

import numpy as np
import pytest

from pipelines.training.order import SampleOrder, Share, epoch_order


def test_an_epoch_visits_every_clip_once() -> None:
    assert sorted(epoch_order(97, seed=3, epoch=5, version=2)) == list(range(97))


def test_the_order_depends_on_seed_epoch_and_version_and_on_nothing_else() -> None:
    first = epoch_order(97, seed=3, epoch=5, version=2)
    np.random.seed(0)
    assert (epoch_order(97, seed=3, epoch=5, version=2) == first).all()
    for seed, epoch, version in [(4, 5, 2), (3, 6, 2), (3, 5, 3), (5, 3, 2)]:
        assert (epoch_order(97, seed, epoch, version) != first).any()


def test_epochs_follow_each_other_without_a_gap() -> None:
    order = SampleOrder(7, seed=1, version=0)
    clips = [order.clip(sample) for sample in range(21)]
    for epoch in range(3):
        assert clips[7 * epoch : 7 * epoch + 7] == list(epoch_order(7, 1, epoch, 0))


def test_an_empty_data_set_is_refused_with_its_version() -> None:
    with pytest.raises(ValueError, match="at least one clip is expected, version 4 has 0"):
        SampleOrder(0, seed=1, version=4)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_a_step_holds_the_same_micro_batches_whatever_the_workers(workers: int) -> None:
    each = [Share(clips_per_step=16, clips_per_micro_batch=2, rank=rank, workers=workers) for rank in range(workers)]
    shares = [share.micro_batches(position=48) for share in each]
    assert (
        [len(share) for share in shares] == [share.micro_batches_per_step for share in each] == [8 // workers] * workers
    )
    together = sorted((samples for share in shares for samples in share), key=lambda samples: samples.start)
    assert together == [range(48 + 2 * i, 50 + 2 * i) for i in range(8)]
