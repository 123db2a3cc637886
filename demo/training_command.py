"""The command line that the demo's training scripts share."""

import argparse
from pathlib import Path

import torch


def training_parser(about: str | None, out: str, steps: int | None) -> argparse.ArgumentParser:
    """`--out`, `--steps`, `--seed` and `--threads`.

    Args:
        about: The script's docstring.
        out: Where its weights go by default.
        steps: How many it makes by default; None: it depends.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--steps", type=int, default=steps, help="of the whole run; the rate falls over them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser


def with_backbone(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """`--backbone` too."""
    parser.add_argument("--backbone", type=Path, default=Path("demo/weights/backbone"))
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments; torch has as many threads as they say."""
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    return arguments
