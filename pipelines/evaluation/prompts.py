"""Prompt sets: read as their owners ship them, written so that a spreadsheet cannot run them."""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_TEXT_KEYS = ("text", "prompt", "prompt_en")
_ID_KEYS = ("prompt_id", "id")


class Prompt(NamedTuple):
    """One prompt of a set."""

    prompt_id: str
    text: str
    split: str = ""
    category: str = ""


class PromptError(ValueError):
    """A prompt file that cannot be used; the message names file and line."""


def read_prompts(path: str | Path) -> list[Prompt]:
    """Read plain text (one prompt a line), CSV, JSONL or a JSON list, told by the file's ending.

    CSV and JSON rows hold the prompt as `text`, `prompt` or `prompt_en`, and optional `prompt_id`, `split`, `category`.
    Rows without an id are numbered p001, p002, ...

    Raises:
        PromptError: No such file, no prompt in it, a row without text, or an id that occurs twice.
    """
    file = Path(path)
    if not file.is_file():
        raise PromptError(f"prompts {file}: no such file")
    try:
        rows = list(_rows(file))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise PromptError(f"prompts {file}: {error}") from error
    prompts = [_prompt(row, number, f"{file}:{line}") for number, (line, row) in enumerate(rows, start=1)]
    if not prompts:
        raise PromptError(f"prompts {file}: no prompt in it")
    twice = [prompt_id for prompt_id, count in Counter(prompt.prompt_id for prompt in prompts).items() if count > 1]
    if twice:
        raise PromptError(f"prompts {file}: prompt_id given twice: {', '.join(twice[:5])}")
    return prompts


def prompt_set_id(prompts: Sequence[Prompt]) -> str:
    """sha256 over the set's canonical CSV: the same prompts in the same order have the same id."""
    return hashlib.sha256(to_csv(Prompt._fields, (prompt._asdict() for prompt in prompts))).hexdigest()


def to_csv(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> bytes:
    """CSV bytes; texts that a spreadsheet would take for a formula begin with an apostrophe."""
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _harmless(row[key]) for key in columns} for row in rows)
    return table.getvalue().encode()


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value


def _rows(file: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    text = file.read_text(encoding="utf-8-sig")
    kind = file.suffix.lower()
    if kind == ".csv":
        reader = csv.DictReader(io.StringIO(text))
        yield from ((reader.line_num, row) for row in reader)
    elif kind == ".json":
        entries = json.loads(text)
        if not isinstance(entries, list):
            raise PromptError(f"prompts {file}: a list of objects is expected")
        yield from ((number, _mapping(entry, file)) for number, entry in enumerate(entries, start=1))
    elif kind in (".jsonl", ".ndjson"):
        lines = ((number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip())
        yield from ((number, _mapping(json.loads(line), file)) for number, line in lines)
    else:
        yield from ((n, {"text": line}) for n, line in enumerate(text.splitlines(), start=1) if line.strip())


def _mapping(entry: object, file: Path) -> Mapping[str, object]:
    if not isinstance(entry, dict):
        raise PromptError(f"prompts {file}: an object a row is expected, given {entry!r}")
    return {str(key): value for key, value in entry.items()}


def _prompt(row: Mapping[str, object], number: int, place: str) -> Prompt:
    text = next((str(row[key]).strip() for key in _TEXT_KEYS if row.get(key)), "")
    if not text:
        raise PromptError(f"prompts {place}: no text; one of the columns {', '.join(_TEXT_KEYS)} is expected")
    prompt_id = next((str(row[key]).strip() for key in _ID_KEYS if row.get(key) not in (None, "")), f"p{number:03d}")
    return Prompt(prompt_id, text, str(row.get("split") or ""), str(row.get("category") or ""))
