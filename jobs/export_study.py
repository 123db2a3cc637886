r"""Make a blind pairwise study of our videos against those of one or more baselines.

    python jobs/export_study.py --config jobs/configs/study.yaml ours=out/demo/videos/trained \
        baselines.untrained=out/demo/videos/untrained prompts=out/demo/clips/prompts.csv out=out/study

Raters open site/index.html, by a double click or from any file server; platforms/mturk holds what a crowd platform
imports. key.csv and secret.key say which side is whose: never upload them. Without `seed` the secret is drawn anew.
"""

import secrets
import sys

from jobs.command import run_job
from pipelines.evaluation.config import ExportStudyConfig


def main(config: ExportStudyConfig) -> None:
    """Export, and say where the rater page is."""
    from pipelines.evaluation.clips import ClipError
    from pipelines.evaluation.pairs import PairError
    from pipelines.evaluation.prompts import PromptError
    from pipelines.evaluation.secrecy import KEY_BYTES, Secret, secret_of_seed
    from pipelines.evaluation.study import StudyError, export_study
    from pipelines.tracking import start_run
    from pipelines.video_file import VideoError

    secret = Secret(secrets.token_bytes(KEY_BYTES)) if config.seed is None else secret_of_seed(config.seed)
    tags = {"job": "export_study", "study": config.out}
    try:
        with start_run(config.tracking, "export study", tags, config.model_dump(mode="json", exclude={"seed"})) as run:
            study = export_study(config, secret)
            run.set_tags({"study_id": study.study_id})
            counts = {"pairs": study.num_pairs, "blocks": study.num_blocks, "trials": study.num_trials}
            run.log_metrics(counts)
            run.log_file(study.folder / "study.yaml")
    except (ClipError, PairError, PromptError, StudyError, VideoError) as error:
        sys.exit(str(error))
    told = ", ".join(f"{name} {count}" for name, count in counts.items())
    sys.stdout.write(f"study {study.study_id}{'' if study.is_new else ' (unchanged)'}: {told}\n")
    sys.stdout.write(f"rater page {study.folder}/site/index.html\n")


if __name__ == "__main__":
    run_job(main, ExportStudyConfig, __doc__)
