"""Measure the videos of a folder: one row a video, also for one that cannot be decoded.

    python jobs/score.py --config jobs/configs/score.yaml videos=out/demo/videos/trained out=out/scores

Always measured, without weights: black and frozen frames, flicker, PSNR and SSIM of adjacent frames, optical flow,
sharpness, colourfulness. Metrics of your own: entry points of the group `lumiere.metrics`, named by `metrics=[NAME]`.
"""

import sys

from jobs.command import run_job
from pipelines.evaluation.config import ScoreConfig


def main(config: ScoreConfig) -> None:
    """Score, and print the means."""
    from pipelines.evaluation.clips import ClipError
    from pipelines.evaluation.metrics import NOT_RUN, MetricError
    from pipelines.evaluation.prompts import PromptError
    from pipelines.evaluation.scoring import score

    try:
        scores = score(config)
    except (ClipError, MetricError, PromptError) as error:
        sys.exit(str(error))
    sys.stdout.write(f"videos {len(scores.rows)}, failed {scores.num_failed}\n")
    for name, value in scores.means.items():
        sys.stdout.write(f"{name:<20} {value:.4g}\n")
    sys.stdout.write(f"not run: {', '.join(NOT_RUN)}\n{config.out}/scores.csv\n")


if __name__ == "__main__":
    run_job(main, ScoreConfig, __doc__)
