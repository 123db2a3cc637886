"""Clips out of shards, in the run's order, read ahead."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.curation.catalog import Catalog
from pipelines.training.batches import BatchSource
from pipelines.training.order import SampleOrder, Share
from pipelines.training.reader import ClipReader, DatasetError


@pytest.fixture
def reader(dataset: Path) -> ClipReader:
    return ClipReader(str(dataset), Catalog.open(dataset).kept())


def source(reader: ClipReader, rank: int = 0, workers: int = 1) -> BatchSource:
    share = Share(clips_per_step=4, clips_per_micro_batch=2, rank=rank, workers=workers)
    return BatchSource(reader, SampleOrder(len(reader), 0, 0), share, threads=2, ahead=3, clock=time.perf_counter)


def test_only_kept_clips_are_read_in_the_order_of_their_keys(reader: ClipReader) -> None:
    assert len(reader) == 11
    assert [reader.caption(i) for i in range(11)] == [f"square number {i}" for i in range(11)]


def test_a_clip_is_what_was_put_into_the_shard(reader: ClipReader) -> None:
    clip = reader.read(5)
    red, green, blue = (clip.frames_THWC[2, 6, :, c].astype(int) for c in range(3))
    assert clip.frames_THWC.shape == (4, 16, 16, 3)
    assert clip.caption == "square number 5"
    assert (blue[8:12] > 150).all(), "clip 5 has a blue square that is at pixel 7 in frame 2"
    assert (red[8:12] < 90).all()
    assert (green[8:12] < 90).all()
    assert blue[0] < 60


def test_pixels_go_from_minus_one_to_one(reader: ClipReader) -> None:
    with source(reader) as batches:
        video_BCTHW = next(batches.steps(0, 1))[0].video_BCTHW
    assert video_BCTHW.shape == (2, 3, 4, 16, 16)
    assert video_BCTHW.dtype == torch.float32
    assert -1.0 <= float(video_BCTHW.min()) < -0.9
    assert 0.6 < float(video_BCTHW.max()) <= 1.0


def test_going_on_at_a_step_gives_what_an_uninterrupted_run_has_there(reader: ClipReader) -> None:
    with source(reader) as batches:
        whole = list(batches.steps(0, 6))
    with source(reader) as batches:
        rest = list(batches.steps(16, 2))
    for expected, found in zip([b for s in whole[4:] for b in s], [b for s in rest for b in s], strict=True):
        assert found.samples == expected.samples
        assert found.captions == expected.captions
        assert torch.equal(found.video_BCTHW, expected.video_BCTHW)


def test_two_workers_together_read_what_one_reads(reader: ClipReader) -> None:
    with source(reader) as one, source(reader, 0, 2) as first, source(reader, 1, 2) as second:
        for alone, left, right in zip(one.steps(0, 3), first.steps(0, 3), second.steps(0, 3), strict=True):
            assert [batch.samples for batch in alone] == [left[0].samples, right[0].samples]
            assert torch.equal(alone[1].video_BCTHW, right[0].video_BCTHW)


def test_the_time_waited_for_batches_is_measured(reader: ClipReader) -> None:
    with source(reader) as batches:
        steps = batches.steps(0, 3)
        next(steps)
        assert batches.waited_s > 0
        time.sleep(0.5)
        before = batches.waited_s
        next(steps)
        assert batches.waited_s - before < 0.2, "it was read ahead while the loop slept"


def test_a_sample_that_is_not_where_the_catalog_says_is_named(dataset: Path) -> None:
    rows = Catalog.open(dataset).kept()
    wrong = rows.set_column(rows.schema.get_field_index("offset"), "offset", [[8] * len(rows)])
    with pytest.raises(DatasetError, match=r"sample clip-03, \d+ bytes from 8 of shards/00000-.*tar: cannot be read"):
        ClipReader(str(dataset), wrong).read(3)


def test_clips_of_several_lengths_are_refused(dataset: Path) -> None:
    rows = Catalog.open(dataset).kept()
    mixed = rows.set_column(
        rows.schema.get_field_index("num_frames"), "num_frames", [np.arange(len(rows), dtype=np.int64)]
    )
    with pytest.raises(DatasetError, match="kept clips of one length, size and rate expected"):
        ClipReader(str(dataset), mixed)
