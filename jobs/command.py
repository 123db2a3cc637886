"""The command line that every job shares: `--config FILE key=value ...`, `--help`, `--dry-run`."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, TypeVar

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from pipelines.config import Config, ConfigError, load_config, to_yaml

C = TypeVar("C", bound=Config)

_USAGE = """
arguments:
  --config FILE    YAML file of the keys below
  key=value        one key, laid over the file: steps=100 a.b=[1,2] name=null
  --dry-run        print the resolved configuration as YAML, then the plan where the job has one, and stop
  --help           this text
"""


@dataclass(frozen=True)
class Arguments:
    """A command line, taken apart."""

    config: Path | None
    overrides: tuple[str, ...]
    is_help: bool
    is_dry_run: bool


def run_job(
    main: Callable[[C], None],
    model: type[C],
    doc: str | None,
    argv: Sequence[str] | None = None,
    preview: Callable[[C], str] | None = None,
) -> None:
    """Parse the command line, validate the configuration and call `main` with it.

    Args:
        main: The job.
        model: The class of its configuration.
        doc: What `--help` begins with.
        argv: The command line; None: this process's.
        preview: What the job would do, as text, for `--dry-run`; it stands in YAML comments after the configuration.

    Exits with status 0 after `--help` and `--dry-run`, and with status 2 and a message on standard error where the
    command line or the configuration is wrong.
    """
    try:
        arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
        if arguments.is_help:
            sys.stdout.write(f"{(doc or '').strip()}\n{_USAGE}\nkeys:\n{describe_keys(model)}")
            return
        config = load_config(model, arguments.config, arguments.overrides)
    except ConfigError as error:
        _refuse(str(error))
    if arguments.is_dry_run:
        sys.stdout.write(to_yaml(config))
        if preview is not None:
            sys.stdout.write("".join(f"# {line}\n" for line in preview(config).splitlines()))
        return
    # Read when MLflow is imported: "creating database tables" is no news to who reads progress bars.
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    main(config)


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """Take a command line apart.

    Raises:
        ConfigError: An option that is not known, or `--config` without its file.
    """
    config, overrides, flags = None, list[str](), set[str]()
    words = iter(argv)
    for word in words:
        if word == "--config":
            config = Path(next(words, ""))
        elif word.startswith("--config="):
            config = Path(word.partition("=")[2])
        elif word in ("--help", "-h", "--dry-run"):
            flags.add(word)
        elif word.startswith("-"):
            raise ConfigError(f"{word}: unknown option; known are --config FILE, --dry-run, --help and key=value")
        else:
            overrides.append(word)
    if config is not None and config == Path():
        raise ConfigError("--config: a file is expected after it")
    return Arguments(config, tuple(overrides), bool(flags & {"--help", "-h"}), "--dry-run" in flags)


def describe_keys(model: type[BaseModel], prefix: str = "") -> str:
    """One line a key: its full name, its default and what it means."""
    lines: list[str] = []
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            lines.append(describe_keys(nested, f"{prefix}{name}."))
        else:
            lines.append(
                f"  {prefix}{name} = {_default(field)}\n      {field.description or ''}\n".replace("      \n", "")
            )
    return "".join(lines)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "(required)"
    default = field.get_default(call_default_factory=True, validated_data={})
    return "null" if default is None else str(default)


def _refuse(message: str) -> NoReturn:
    sys.stderr.write(f"{message}\n")
    sys.exit(2)
