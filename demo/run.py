"""The whole path in one command, each step the job that a user would run, and a short table at the end.

    python -m demo.run
    python -m demo.run --clips path/to/captions.csv
    python -m demo.run --clips path/to/captions.csv align.model=ViT-B-32 align.pretrained=path/to/weights.safetensors

Without `--clips` the clips are rendered: moving shapes, a fifth of them flawed in a known way. With it the tiny image
model, which knows nothing but shapes, is trained on yours: that shows the path, not the model. What follows goes to
`jobs/refresh.py` as it stands.
"""

import argparse
import csv
import io
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from demo.steps import Measured, Step, StepFailedError, run_step
from demo.summary import Findings, print_summary
from pipelines.curation.catalog import Catalog
from pipelines.storage import write_whole

ROOT = Path(__file__).resolve().parent.parent
_MIN_CLIPS = 4
_MAX_PROMPTS = 8


@dataclass(frozen=True)
class Places:
    """Where the demo reads and writes; the configurations `jobs/configs/demo*.yaml` know the same places."""

    out: Path

    @property
    def manifest(self) -> Path:
        """Of the rendered clips."""
        return self.out / "clips" / "manifest.csv"

    @property
    def prompts(self) -> Path:
        """What videos are generated for."""
        return self.out / "clips" / "prompts.csv"

    @property
    def dataset(self) -> Path:
        """Shards and catalog."""
        return self.out / "dataset"

    @property
    def study(self) -> Path:
        """The pairwise study."""
        return self.out / "study"

    @property
    def answers(self) -> Path:
        """What the raters of the study answered."""
        return self.out / "answers.csv"


def main(argv: Sequence[str] | None = None) -> None:
    """Run the path and print the table; exits with status 1 where a step fails."""
    arguments = _arguments(argv)
    console = Console(stderr=True)
    places = Places(arguments.out.resolve())
    environment = {**os.environ, "LUMIERE_OUT": str(places.out), "PYTHONWARNINGS": "ignore"}
    measured: list[Measured] = []
    try:
        for step in path(places, arguments):
            measured.append(run_step(step, environment, ROOT, console))
    except StepFailedError as failure:
        console.print(f"\n[bold red]{failure}[/]", highlight=False, soft_wrap=True)
        sys.exit(1)
    print_summary(Findings(places.out, is_rendered=arguments.clips is None, measured=tuple(measured)))


def path(places: Places, arguments: argparse.Namespace) -> Iterator[Step]:
    """The steps, in order. Later ones are decided when the earlier ones have run: no kept clips, no training."""
    yield from _data(places, arguments)
    if len(Catalog.open(str(places.dataset)).kept()) < _MIN_CLIPS:
        return
    if arguments.clips is not None:
        write_prompts(places)
    yield Step("train", ("jobs/train.py", "--config", "jobs/configs/demo.yaml", *arguments.train))
    generate = ("jobs/generate.py", "--config", "jobs/configs/demo-generate.yaml")
    yield Step("generate: trained", generate)
    yield Step("generate: not trained", (*generate, "checkpoint=null", f"out={places.out}/videos/untrained"))
    score = ("jobs/score.py", "--config", "jobs/configs/demo-score.yaml")
    metrics = () if arguments.clips is None else ("metrics=[]",)
    yield Step("score: trained", (*score, *metrics))
    untrained = (f"videos={places.out}/videos/untrained", f"out={places.out}/scores/untrained")
    yield Step("score: not trained", (*score, *untrained, *metrics))
    yield from _study(places, is_rendered=arguments.clips is None)


def write_prompts(places: Places) -> None:
    """Prompts for a user's own clips: the first captions that were kept."""
    captions = Catalog.open(str(places.dataset)).kept().column("caption").to_pylist()[:_MAX_PROMPTS]
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["prompt_id", "prompt"])
    writer.writerows([f"own-{number:02d}", caption] for number, caption in enumerate(captions))
    write_whole(places.prompts, table.getvalue().encode())


def _data(places: Places, arguments: argparse.Namespace) -> Iterator[Step]:
    refresh = ("jobs/refresh.py", "--config", "jobs/configs/demo-refresh.yaml")
    if arguments.clips is None:
        counts = ("--clips", str(arguments.num_clips), "--flawed", str(arguments.num_clips // 5), "--seed", "0")
        yield Step("render", ("-m", "demo.shapes", "--out", str(places.manifest.parent), *counts))
        yield Step("refresh", (*refresh, *arguments.overrides))
    else:
        # The demo's CLIP knows only shapes: on other clips it would measure nothing.
        own = (f"manifest={arguments.clips.resolve()}", "align.model=null", *arguments.overrides)
        yield Step("refresh", (*refresh, *own))


def _study(places: Places, is_rendered: bool) -> Iterator[Step]:
    yield Step("export the study", ("jobs/export_study.py", "--config", "jobs/configs/demo-study.yaml"))
    if is_rendered:
        raters = ("-m", "demo.raters", "--study", str(places.study), "--out", str(places.answers))
        yield Step("simulated raters", raters)
        imported = (
            f"study={places.study}",
            f"answers={places.answers}",
            f"tracking.uri=sqlite:///{places.out}/mlflow.db",
        )
        artifacts = f"tracking.artifacts={places.out}/mlflow-artifacts"
        yield Step("import the answers", ("jobs/import_study.py", *imported, artifacts))


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m demo.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=None, help="folder of all results (out/demo, or out/clips-NAME)")
    parser.add_argument("--clips", type=Path, default=None, help="your own clips: CSV, JSONL, Parquet, or a folder")
    parser.add_argument("--num-clips", type=int, default=100, help="clips to render, a fifth of them flawed")
    parser.add_argument("--train", action="append", default=[], metavar="KEY=VALUE", help="goes to jobs/train.py")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="goes to jobs/refresh.py")
    arguments = parser.parse_args(argv)
    if arguments.clips is not None and not arguments.clips.exists():
        parser.error(f"--clips {arguments.clips}: no such file or folder")
    if arguments.out is None:
        arguments.out = Path("out/demo" if arguments.clips is None else f"out/clips-{arguments.clips.stem}")
    return arguments


if __name__ == "__main__":
    main()
