"""Automatic metrics against what is known of made-up frames, and the scores of a folder."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from pipelines.evaluation.appearance import colourfulness, sharpness, slices_picture, space_time_slice
from pipelines.evaluation.clips import ClipError, find_clips, with_prompts
from pipelines.evaluation.integrity import black_frames, frozen_frames
from pipelines.evaluation.metrics import MEASURED, NOT_RUN, MetricError, load_user_metrics, measure
from pipelines.evaluation.prompts import Prompt
from pipelines.evaluation.scoring import score_clips, write_scores
from pipelines.evaluation.temporal import MAX_PSNR_DB, flicker, flow_px, psnr_db, ssim
from pipelines.tracking import TrackingConfig
from pipelines.video_file import write_mp4
from tests.evaluation.conftest import moving_square


def texture(height: int = 64, width: int = 96) -> np.ndarray:
    """A smooth random picture, (H, W, 3) uint8: something for the flow to hold on to."""
    rng = np.random.default_rng(0)
    rough = rng.integers(0, 256, (height // 8, width // 8, 3)).astype(np.uint8)
    return np.kron(rough, np.ones((8, 8, 1), np.uint8))


def test_flicker_is_one_minus_the_mean_absolute_error_over_255() -> None:
    frames_THWC = np.zeros((3, 8, 8, 3), np.uint8)
    frames_THWC[1] = 51
    assert flicker(frames_THWC) == pytest.approx(0.8)


def test_psnr_is_scikit_images_and_identical_frames_have_a_limit() -> None:
    a, b = texture(), np.roll(texture(), 3, axis=1)
    assert psnr_db(np.stack([a, b])) == pytest.approx(peak_signal_noise_ratio(a, b))
    assert psnr_db(np.stack([a, a])) == MAX_PSNR_DB
    assert ssim(np.stack([a, a])) == pytest.approx(1.0)
    assert ssim(np.stack([a, 255 - a])) < 0.1


def test_the_flow_of_a_shifted_picture_is_the_shift_and_of_a_still_one_nothing() -> None:
    picture = texture()
    shifted = np.stack([np.roll(picture, 2 * t, axis=1) for t in range(4)])
    assert flow_px(shifted) == pytest.approx(2.0, rel=0.25)
    assert flow_px(np.stack([picture, picture])) == pytest.approx(0.0, abs=0.01)


def test_black_and_frozen_frames_are_counted() -> None:
    frames_THWC = np.stack([np.roll(texture(), t, axis=1) for t in range(6)])
    frames_THWC[2] = 10
    frames_THWC[5] = frames_THWC[4]
    assert black_frames(frames_THWC) == 1
    assert frozen_frames(frames_THWC) == 1


def test_sharpness_falls_when_blurred_and_grey_has_no_colour() -> None:
    from cv2 import GaussianBlur

    sharp = np.stack([texture()])
    blurred = np.stack([GaussianBlur(sharp[0], (0, 0), 3)])
    assert sharpness(blurred) < sharpness(sharp) / 10
    assert colourfulness(np.full((2, 8, 8, 3), 77, np.uint8)) == 0.0


def test_colourfulness_is_the_formula_of_hasler_and_suesstrunk() -> None:
    frame = np.zeros((1, 2, 1, 3), np.uint8)
    frame[0, 0, 0] = (200, 0, 0)  # rg = 200, yb = 100; the other pixel 0, 0
    sigma, mu = np.hypot(100, 50), np.hypot(100, 50)
    assert colourfulness(frame) == pytest.approx(sigma + 0.3 * mu)


def test_the_space_time_slice_is_the_middle_row_of_every_frame() -> None:
    frames_THWC = moving_square(0)
    assert (space_time_slice(frames_THWC)[2] == frames_THWC[2, 24]).all()
    assert slices_picture([frames_THWC, frames_THWC], 64, 32).shape == (32 + 4 + 32, 64, 3)


def test_one_frame_or_a_speck_cannot_be_measured() -> None:
    with pytest.raises(MetricError, match="given 1 of 48 x 48"):
        measure(moving_square(0)[:1])
    with pytest.raises(MetricError, match="given 2 of 4 x 4"):
        measure(np.zeros((2, 4, 4, 3), np.uint8))


def test_an_unknown_metric_is_refused_with_those_installed() -> None:
    with pytest.raises(MetricError, match=r"'shpes' is not installed .* installed: .*shapes"):
        load_user_metrics(["shpes"])


def test_an_undecodable_video_is_a_row_with_its_error(tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "out"
    write_mp4(videos / "a.mp4", moving_square(1), 8)
    (videos / "a.json").write_text(json.dumps({"prompt": "=1+1 squares"}))
    (videos / "b.mp4").write_bytes(b"not a video")
    write_mp4(videos / "c.mp4", moving_square(2), 8)
    scores = score_clips(find_clips(videos), own={}, num_shown=2)
    write_scores(scores, out)
    with (out / "scores.csv").open(newline="") as file:
        a, b, c = csv.DictReader(file)
    assert (a["status"], a["num_frames"], a["fps"], a["width_px"]) == ("ok", "4", "8.0", "48")
    assert a["prompt"] == "'=1+1 squares"
    assert b["status"] == "failed"
    assert "not a readable video" in b["error"]
    assert str(tmp_path) not in b["error"]
    assert all(a[name] and c[name] and not b[name] for name in MEASURED)
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["videos"], summary["failed"]) == (3, 1)
    assert summary["means"]["flow_px"] == pytest.approx((float(a["flow_px"]) + float(c["flow_px"])) / 2)
    assert set(summary["not_run"]) == set(NOT_RUN)
    assert not set(NOT_RUN) & set(scores.means), "never a number"


def test_a_folder_of_nothing_but_broken_videos_is_scored_too(tmp_path: Path) -> None:
    (tmp_path / "b.mp4").write_bytes(b"")
    scores = score_clips(find_clips(tmp_path), own={}, num_shown=1)
    assert (scores.num_failed, scores.means, scores.shown) == (1, {}, ())


def test_a_metric_of_ones_own_is_asked_where_there_is_a_prompt(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_mp4(tmp_path / f"{name}.mp4", moving_square(1), 8)
    clips = with_prompts(find_clips(tmp_path), [Prompt("b", "a square")])
    scores = score_clips(clips, own={"own": lambda frames_THWC, prompt: {"words": len(prompt.split())}}, num_shown=0)
    assert "own/words" not in scores.rows[0]
    assert scores.rows[1]["own/words"] == 2.0
    assert scores.means["own/words"] == 2.0


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(ClipError, match="nothing: no such folder"):
        find_clips(tmp_path / "nothing")


@pytest.mark.slow
def test_the_job_scores_and_records(tmp_path: Path, root: Path, tracking: TrackingConfig) -> None:
    from mlflow import MlflowClient

    write_mp4(tmp_path / "videos" / "a.mp4", moving_square(1), 8)
    words = [f"videos={tmp_path}/videos", f"out={tmp_path}/out"]
    words += [f"tracking.uri={tracking.uri}", f"tracking.artifacts={tracking.artifacts}"]
    command = [sys.executable, "jobs/score.py", "--config", "jobs/configs/score.yaml", *words]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr
    assert "not run: fvd" in result.stdout
    client = MlflowClient(tracking_uri=tracking.uri)
    [run] = client.search_runs([client.get_experiment_by_name(tracking.experiment).experiment_id])
    assert run.data.metrics["auto/flow_px"] > 0
    artifacts = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert {"contact_sheet.png", "space_time_slices.png", "scores.csv", "tables"} <= artifacts
