"""Make videos from a checkpoint, for a file of requests or for one.

A video that is there already, made by the same request and model, is not made again. Beside each PROMPT_ID.mp4 stands a
PROMPT_ID.json with all that made it. A request that cannot be used costs itself only: PROMPT_ID.error.json says why,
all others are made, and the job ends with status 1; run again, it tries those that have no video yet.

    python jobs/generate.py --config jobs/configs/generate.yaml checkpoint=out/demo/runs/demo \
        requests=out/demo/clips/prompts.csv out=out/videos

    python jobs/generate.py --config jobs/configs/generate.yaml prompt="a red circle moves left" out=out/videos

    python jobs/generate.py --config jobs/configs/generate.yaml task=image_to_video image=red.png \
        prompt="a red circle moves left" out=out/videos

Tasks: text_to_video, image_to_video, inpainting, object_replacement, outpainting, cinemagraph, stylisation,
super_resolution; all but the last with a style. docs/generation.md shows each.
"""

import os
import sys
import time
from functools import partial

from jobs.command import run_job
from pipelines.cluster import ray_cluster
from pipelines.generation.config import GenerateConfig


def main(config: GenerateConfig) -> None:
    """Generate, and print what came of it."""
    from pipelines.generation.refusal import InputError
    from pipelines.generation.requests import RequestError
    from pipelines.generation.run import generate
    from pipelines.generation.sizes import RecipeError
    from stunet.backbone import BackboneError
    from stunet.style import StyleError
    from stunet.text import TextError
    from stunet.weights import WeightsError

    try:
        done = generate(config, partial(ray_cluster, config.ray, os.environ), time.perf_counter)
    except (RequestError, InputError, RecipeError, BackboneError, TextError, WeightsError, StyleError) as error:
        sys.exit(str(error))
    before = f", {done.finished_before} were there already" if done.finished_before else ""
    sys.stdout.write(f"made {done.made} videos{before}: {done.out}\n")
    if done.refused:
        for refusal in done.refused:
            sys.stderr.write(f"{refusal.prompt_id}: {refusal.error}: {refusal.reason}\n")
        sys.exit(f"{len(done.refused)} requests have no video; each one's reason is in {done.out}/PROMPT_ID.error.json")


if __name__ == "__main__":
    run_job(main, GenerateConfig, __doc__)
