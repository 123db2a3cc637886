"""What is asked for: a file of prompts, or one prompt, becomes a list of requests."""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, TypedDict

from pipelines.generation.boxes import parse_box
from pipelines.generation.config import GenerateConfig
from pipelines.generation.refusal import InputError

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Request(TypedDict):
    """One video to make; what its task does not take is None."""

    prompt_id: str
    task: str
    prompt: str
    seed: int
    image: str | None
    """File, absolute."""
    video: str | None
    """File, absolute."""
    mask: str | None
    """File, absolute, or a box `x,y,w,h`."""
    style: str | None
    """Folder or file, absolute."""
    alpha: float | None
    """Of the style, 0 to 1."""
    strength: float | None
    """Of a stylisation, 0 to 1."""


class TaskInputs(NamedTuple):
    """What a task takes besides its prompt, seed and style."""

    needs: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    is_conditioned: bool = False
    """It needs a model whose first convolution takes C and M."""
    is_styled: bool = True
    """A style can be worn: the first model makes its videos."""


TASKS = {
    "text_to_video": TaskInputs(),
    "image_to_video": TaskInputs(needs=("image",), is_conditioned=True),
    "inpainting": TaskInputs(needs=("video", "mask"), is_conditioned=True),
    "object_replacement": TaskInputs(needs=("video", "mask"), is_conditioned=True),
    "outpainting": TaskInputs(needs=("video",), may=("mask",), is_conditioned=True),
    "cinemagraph": TaskInputs(needs=("image", "mask"), is_conditioned=True),
    "stylisation": TaskInputs(needs=("video",), may=("strength",)),
    "super_resolution": TaskInputs(needs=("video",), is_styled=False),
}
_INPUTS = ("image", "video", "mask", "strength")
_STRENGTH = 0.6
_ALPHA = 0.7


class RequestError(ValueError):
    """A request that cannot be used; the message names the file and the row."""


def read_requests(config: GenerateConfig) -> list[Request]:
    """The requests of a configuration, in the order of its file.

    A CSV or JSONL file has a column `prompt` and may have `prompt_id` (letters, digits and ._-; the row's number
    otherwise), `seed` (otherwise `config.seed` plus the row's number, from 0), and what the configuration has for one
    request: `task`, `image`, `video`, `mask`, `style`, `alpha`, `strength`; an empty one is the configuration's. Others
    are not looked at. Files are looked for beside the requests' file, those of the configuration where the job runs.

    Raises:
        RequestError: No such file, not CSV or JSONL, no row, no prompt, an id, seed, task or number that cannot be
            used, or inputs that the task does not take or lacks.
    """
    default = {name: getattr(config, name) for name in ("task", *_INPUTS, "style", "alpha")}
    default = {name: value for name, value in default.items() if value is not None}
    for name in ("image", "video", "mask", "style"):
        if name in default:
            default[name] = _place(str(default[name]), Path())
    if config.requests is None:
        assert config.prompt is not None
        return [_request({"prompt": config.prompt} | default, 0, config.seed, "prompt", Path())]
    path = Path(config.requests)
    if not path.is_file():
        raise RequestError(f"requests {path}: no such file")
    requests, rows_by_id = list[Request](), dict[str, int]()
    for row, (line, values) in enumerate(_rows(path)):
        given = {name: value for name, value in values.items() if value not in (None, "")}
        request = _request(default | given, row, config.seed, f"{path}:{line}", path.parent)
        first = rows_by_id.setdefault(request["prompt_id"].lower(), line)
        if first != line:
            raise RequestError(f"{path}:{line}: prompt_id {request['prompt_id']!r} was given in row {first} already")
        requests.append(request)
    if not requests:
        raise RequestError(f"{path}: at least one row is expected, there is none")
    return requests


def kind(request: Request) -> tuple[str, str, float, float, str]:
    """Requests of one kind can be denoised together; videos to enlarge are as long as they are, each of its own."""
    task = request["task"] if request["task"] in ("stylisation", "super_resolution") else ""
    alone = request["prompt_id"] if task == "super_resolution" else ""
    return task, request["style"] or "", request["alpha"] or 0.0, request["strength"] or 0.0, alone


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


def _request(values: Mapping[str, object], row: int, first_seed: int, where: str, folder: Path) -> Request:
    prompt = values.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise RequestError(f"{where}: a `prompt` is expected, given {prompt!r}")
    prompt_id = str(values.get("prompt_id", f"{row:04d}"))
    if not _ID.fullmatch(prompt_id) or prompt_id.lower().endswith(".error"):
        raise RequestError(
            f"{where}: prompt_id: letters, digits and ._- expected, and no `.error` at its end, given {prompt_id!r}"
        )
    seed = str(values.get("seed", first_seed + row))
    if not seed.isascii() or not seed.isdigit() or int(seed) >= 2**63:
        raise RequestError(f"{where}: seed: a whole number from 0 to 2^63 - 1 expected, given {seed!r}")
    task = str(values.get("task", "text_to_video"))
    if task not in TASKS:
        raise RequestError(f"{where}: task: one of {', '.join(TASKS)} expected, given {task!r}")
    files = {name: _file(values, name, where, folder) for name in ("image", "video", "mask", "style")}
    strength, alpha = _share(values, "strength", where), _share(values, "alpha", where)
    _check_inputs(task, files | {"strength": strength}, where)
    if files["style"] is not None and not TASKS[task].is_styled:
        raise RequestError(f"{where}: {task} takes no `style`, which is of the first model, given {files['style']!r}")
    if alpha is not None and files["style"] is None:
        raise RequestError(f"{where}: alpha: a `style` is expected with it, none is given")
    return Request(
        prompt_id=prompt_id,
        task=task,
        prompt=prompt.strip(),
        seed=int(seed),
        **files,
        alpha=_ALPHA if files["style"] is not None and alpha is None else alpha,
        strength=_STRENGTH if task == "stylisation" and strength is None else strength,
    )


def _check_inputs(task: str, given: Mapping[str, object], where: str) -> None:
    """Refuse what a task lacks, and what it would not look at."""
    takes = TASKS[task]
    for name in takes.needs:
        if given[name] is None:
            raise RequestError(f"{where}: {task} expects `{name}`, none is given")
    for name in _INPUTS:
        if given[name] is not None and name not in takes.needs + takes.may:
            raise RequestError(f"{where}: {task} takes no `{name}`, given {given[name]!r}")


def _file(values: Mapping[str, object], name: str, where: str, folder: Path) -> str | None:
    if values.get(name) is None:
        return None
    try:
        path = _place(str(values[name]), folder)
    except InputError as error:
        raise RequestError(f"{where}: {error}") from error
    if path != str(values[name]) or "," not in path:
        _check_exists(path, name, where)
    return path


def _check_exists(path: str, name: str, where: str) -> None:
    if not Path(path).exists():
        raise RequestError(f"{where}: {name} {path}: no such file")


def _place(path: str, folder: Path) -> str:
    """Absolute; a box stays as it is."""
    return path if parse_box(path) is not None else str((folder / path).resolve())


def _share(values: Mapping[str, object], name: str, where: str) -> float | None:
    if values.get(name) is None:
        return None
    try:
        share = float(str(values[name]))
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise RequestError(f"{where}: {name}: a number from 0 to 1 expected, given {values[name]!r}")
    return share
