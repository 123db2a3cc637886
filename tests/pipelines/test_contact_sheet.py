import numpy as np
import pytest

from pipelines.contact_sheet import contact_sheet


def test_each_video_is_a_row_of_evenly_spaced_frames() -> None:
    ramp = np.zeros((16, 8, 8, 3), np.uint8) + np.arange(16, dtype=np.uint8)[:, None, None, None] * 10
    wide = np.full((3, 9, 16, 3), 200, np.uint8)
    sheet = contact_sheet([ramp, wide], ["ramp", "wide"], frames_per_video=4, cell_px=32)
    row_px = 18 + 32 + 4
    assert sheet.shape == (2 * row_px + 4, 4 * 36 + 4, 3)
    centres = [sheet[18 + 16, 4 + column * 36 + 16, 0] for column in range(4)]
    assert centres == [0, 50, 100, 150], "frames 0, 5, 10 and 15"
    assert sheet[row_px + 18 + 16, 4 + 16, 0] == 200
    assert sheet[row_px + 18 + 1, 4 + 16, 0] == 255, "a wide frame keeps its aspect ratio"


def test_labels_must_match_the_videos() -> None:
    with pytest.raises(ValueError, match="given 1 and 2"):
        contact_sheet([np.zeros((1, 8, 8, 3), np.uint8)], ["a", "b"])
