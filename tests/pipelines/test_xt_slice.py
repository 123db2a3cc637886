"""X-T slices: what moves is slanted, what stands is vertical."""

import numpy as np
import pytest

from pipelines.xt_slice import xt_sheet, xt_slice


def column_at(places: list[int]) -> np.ndarray:
    frames = np.zeros((len(places), 16, 16, 3), np.uint8)
    for t, place in enumerate(places):
        frames[t, :, place] = 255
    return frames


def test_each_row_of_a_slice_is_the_middle_row_of_a_frame_first_on_top():
    moving = xt_slice(column_at(list(range(16))), side_px=16)
    assert (moving[..., 0] == 255 * np.eye(16, dtype=np.uint8)).all()
    still = xt_slice(column_at([5] * 16), side_px=16)
    assert (still[:, 5] == 255).all()
    assert still.sum() == 16 * 3 * 255
    assert xt_slice(column_at([3] * 4), side_px=96).shape == (96, 96, 3)


def test_a_sheet_has_one_row_a_video():
    one, two = (xt_sheet([column_at([1, 2, 3, 4])] * count, ["a clip"] * count) for count in (1, 2))
    assert one.shape[1] == two.shape[1]
    assert two.shape[0] > 1.8 * one.shape[0]
    with pytest.raises(ValueError, match="one label a video"):
        xt_sheet([column_at([1])], [])
