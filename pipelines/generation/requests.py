"""What is asked for: a file of prompts, or one prompt, becomes a list of requests."""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypedDict

from pipelines.generation.config import GenerateConfig

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_TASKS = ("text_to_video",)


class Request(TypedDict):
    """One video to make."""

    prompt_id: str
    task: str
    prompt: str
    seed: int


class RequestError(ValueError):
    """A request that cannot be used; the message names the file and the row."""


def read_requests(config: GenerateConfig) -> list[Request]:
    """The requests of a configuration, in the order of its file.

    A CSV or JSONL file has a column `prompt` and may have `prompt_id` (letters, digits and ._-; the row's number
    otherwise), `seed` (otherwise `config.seed` plus the row's number, from 0) and `task`; others are not looked at.

    Raises:
        RequestError: No such file, not CSV or JSONL, no row, no prompt, or an id, seed or task that cannot be used.
    """
    if config.requests is None:
        assert config.prompt is not None
        return [_request({"prompt": config.prompt, "task": config.task}, 0, config.seed, "prompt")]
    path = Path(config.requests)
    if not path.is_file():
        raise RequestError(f"requests {path}: no such file")
    requests, rows_by_id = list[Request](), dict[str, int]()
    for row, (line, values) in enumerate(_rows(path)):
        request = _request(values, row, config.seed, f"{path}:{line}")
        first = rows_by_id.setdefault(request["prompt_id"].lower(), line)
        if first != line:
            raise RequestError(f"{path}:{line}: prompt_id {request['prompt_id']!r} was given in row {first} already")
        requests.append(request)
    if not requests:
        raise RequestError(f"{path}: at least one row is expected, there is none")
    return requests


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    """(line in the file, values) of each row."""
    kind = path.suffix.lower()
    if kind not in (".csv", ".jsonl"):
        raise RequestError(f"requests {path}: a .csv or .jsonl file is expected")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"requests {path}: UTF-8 is expected: {error}") from error
    if kind == ".jsonl":
        yield from _jsonl(path, text)
        return
    reader = csv.DictReader(io.StringIO(text, newline=""))
    for values in reader:
        yield reader.line_num, values


def _jsonl(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, object]]]:
    for line, content in enumerate(text.splitlines(), start=1):
        if not content.strip():
            continue
        try:
            values: object = json.loads(content)
        except ValueError as error:
            raise RequestError(f"{path}:{line}: not JSON: {error}") from error
        if not isinstance(values, dict):
            raise RequestError(f"{path}:{line}: a JSON object is expected, given {content.strip()[:40]!r}")
        yield line, values


def _request(values: Mapping[str, object], row: int, first_seed: int, where: str) -> Request:
    prompt = values.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise RequestError(f"{where}: a `prompt` is expected, given {prompt!r}")
    prompt_id = str(_given(values, "prompt_id", f"{row:04d}"))
    if not _ID.fullmatch(prompt_id):
        raise RequestError(f"{where}: prompt_id: letters, digits and ._- expected, given {prompt_id!r}")
    seed = str(_given(values, "seed", first_seed + row))
    if not seed.isascii() or not seed.isdigit() or int(seed) >= 2**63:
        raise RequestError(f"{where}: seed: a whole number from 0 to 2^63 - 1 expected, given {seed!r}")
    task = str(_given(values, "task", _TASKS[0]))
    if task not in _TASKS:
        raise RequestError(f"{where}: task: one of {', '.join(_TASKS)} expected, given {task!r}")
    return Request(prompt_id=prompt_id, task=task, prompt=prompt.strip(), seed=int(seed))


def _given(values: Mapping[str, object], key: str, default: object) -> object:
    return default if values.get(key) in (None, "") else values[key]
