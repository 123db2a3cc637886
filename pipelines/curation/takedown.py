"""The takedown list: clips that must leave the data set, by the address of their source or by their key.

An address takes down the clips of that source and their exact copies at other addresses: the same bytes and span have
the same key, and whoever wants a clip gone does not want its copy in its place.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import duckdb
import pyarrow as pa

from pipelines.curation.manifest import resolve
from pipelines.curation.manifest_files import base_folder
from pipelines.storage import exists, read_bytes

_KEY = re.compile(r"[0-9a-f]{32}", re.IGNORECASE)
_LINES = pa.schema([("number", pa.int64()), ("line", pa.string()), ("name", pa.string())])
# A key on the list names what is decoded later, too; so an address stands for the keys that are known of it.
_LISTED = """
create table named as
select row_id, key from catalog_rows where uri in (from takedown) or key in (from takedown);
insert into takedown select distinct key from named where key is not null and key not in (from takedown);
create table listed as
select row_id from named
union select row_id from catalog_rows where key in (from takedown)
union select row_id from manifest where uri in (from takedown);
"""
_NONE_LISTED = "create table listed (row_id varchar)"
_MATCHED = """
create or replace temp table matched as
select uri as name from manifest where uri in (select name from takedown_lines)
union select uri from catalog_rows where uri in (select name from takedown_lines)
union select key from catalog_rows where key in (select name from takedown_lines)
"""
_MATCHED_NOW = "insert into matched select key from judged where key in (select name from takedown_lines)"
_UNMATCHED = (
    "select 'line ' || number || ': ' || line from takedown_lines anti join matched using (name) order by number"
)


class TakedownError(ValueError):
    """A takedown list that cannot be used; the message names the file."""


class Listed(NamedTuple):
    """A line of the list."""

    number: int
    line: str
    name: str
    """The key, or the address as the manifest's rows have it."""


def read_takedown(path: str | None, manifest: str) -> tuple[Listed, ...]:
    """Addresses and keys of a list, one a line; empty lines and lines that begin with # say nothing.

    A clip that was taken down stays out as long as the list names it. A relative path counts from the manifest's
    folder, as it does in the manifest.

    Raises:
        TakedownError: No such file, or it is not UTF-8.
    """
    if path is None:
        return ()
    if not exists(path):
        raise TakedownError(f"takedown {path}: no such file")
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TakedownError(f"takedown {path}: not UTF-8: {error}") from error
    folder = base_folder(manifest)
    lines = ((number, line.strip()) for number, line in enumerate(text.split("\n"), 1))
    return tuple(Listed(number, line, _named(folder, line)) for number, line in lines if line and line[0] != "#")


def load_takedown(database: duckdb.DuckDBPyConnection, lines: Sequence[Listed]) -> None:
    """Make the tables `takedown`, of names, and `listed`, of the row ids that they name.

    Args:
        database: With `manifest` and `catalog_rows`.
        lines: Of the list.
    """
    rows = pa.Table.from_pylist([line._asdict() for line in lines], schema=_LINES)
    database.register("chunk", rows)
    database.execute(
        "create table takedown_lines as from chunk; create table takedown as select distinct name from chunk"
    )
    database.unregister("chunk")
    database.execute(_LISTED if lines else _NONE_LISTED)


def unmatched_lines(database: duckdb.DuckDBPyConnection, *, is_judged: bool = False) -> list[str]:
    """Lines of the list that name nothing that is or was in the data set or the manifest, as `line 3: a.mp4`.

    Args:
        database: As `load_takedown` left it.
        is_judged: Whether there is the table `judged`: it knows the keys of clips that were just decoded.
    """
    database.execute(_MATCHED)
    if is_judged:
        database.execute(_MATCHED_NOW)
    return [line for (line,) in database.sql(_UNMATCHED).fetchall()]


def _named(folder: str, line: str) -> str:
    return line.lower() if _KEY.fullmatch(line) else resolve(folder, line)
