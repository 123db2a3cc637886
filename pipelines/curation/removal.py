"""How clips leave: they stay in the catalog as `removed`, without fingerprints or places.

Of clips that are taken down no file that the new version names holds the pictures which their rows named. What
rows of earlier versions named in the same slices goes with the vacuum, see `pipelines.curation.erasure`.
"""

import hashlib

import duckdb
import pyarrow as pa

from pipelines.curation.catalog import PLACE, SCHEMA, sql_columns
from pipelines.curation.layout import slices_path
from pipelines.curation.selection import TAKEN_DOWN
from pipelines.storage import joined, read_bytes, write_whole

GONE = "not in the manifest"

_PICTURES = ("fingerprint", "near_keys", "near_rank")
_NOWHERE = (*_PICTURES, "duplicate_of", "slice", "slice_offset", "slice_bytes", *PLACE)
_FROM_MANIFEST = ("row_id", "uri", "etag", "caption", "start_s", "end_s", "manifest_json", "mark")
_LEAVING = """
create table leaving as
select {old} from catalog_rows old
where row_id in (from gone) or row_id in (select row_id from fates where fate = 'taken_down')
union all
select {new} from manifest join fates using (row_id)
where fate = 'taken_down' and row_id not in (select row_id from known)
"""
_TAKEN_DOWN = """
select slice, slice_offset, slice_bytes from catalog_rows
where slice is not null and row_id in (from listed)
union all
select slice, slice_offset, slice_bytes from judged where slice is not null and verdict = 'removed'
"""
_FORGET = ", ".join(f"{name} = null" for name in (*_PICTURES, "slice", "slice_offset", "slice_bytes"))
_RENAME = f"""
create table moved as
select old.* replace (scrubbed.new_name as slice)
from catalog_rows old join scrubbed on old.slice = scrubbed.slice
where row_id not in (from touched_before) and row_id not in (select row_id from judged);
update judged set slice = scrubbed.new_name from scrubbed where judged.slice = scrubbed.slice;
update judged set {_FORGET} where verdict = 'removed';
"""


def collect_leaving(database: duckdb.DuckDBPyConnection, refresh_id: str) -> None:
    """Make the table `leaving`: the catalog's rows of clips that are gone or taken down, as they will be."""
    constants = {"verdict": "'removed'", "is_transient": "false", "refresh_id": "$refresh_id"}
    reason = f"if(row_id in (from listed), '{TAKEN_DOWN}', '{GONE}')"
    old = {name: f'old."{name}"' for name in SCHEMA.names if name not in _NOWHERE} | constants | {"reason": reason}
    new = {name: name for name in _FROM_MANIFEST} | constants | {"attempts": "0", "reason": f"'{TAKEN_DOWN}'"}
    query = _LEAVING.format(old=sql_columns(old), new=sql_columns(new))
    database.execute(query, {"refresh_id": refresh_id})


def scrub_slices(database: duckdb.DuckDBPyConnection, dataset_root: str) -> None:
    """Make the table `moved`, and have no row name a slice that holds a clip which is taken down.

    Such a slice is copied with zeros in the clip's place; all other clips keep their offsets. The old slice is for
    older versions, until a vacuum removes it with them.
    """
    ranges: dict[str, list[tuple[int, int]]] = {}
    for name, offset, num_bytes in database.sql(_TAKEN_DOWN).fetchall():
        ranges.setdefault(name, []).append((offset, num_bytes))
    names = list(ranges)
    scrubbed = [_scrubbed(dataset_root, name, ranges[name]) for name in names]
    table = pa.table({"slice": pa.array(names, pa.string()), "new_name": pa.array(scrubbed, pa.string())})
    database.register("chunk", table)
    database.execute("create table scrubbed as from chunk")
    database.unregister("chunk")
    database.execute(_RENAME)


def _scrubbed(dataset_root: str, name: str, ranges: list[tuple[int, int]]) -> str:
    data = bytearray(read_bytes(joined(slices_path(dataset_root), name)))
    for offset, num_bytes in ranges:
        data[offset : offset + num_bytes] = bytes(num_bytes)
    new_name = (
        f"{name.removesuffix('.mp4s').split('-scrubbed-')[0]}-scrubbed-{hashlib.sha256(data).hexdigest()[:16]}.mp4s"
    )
    write_whole(joined(slices_path(dataset_root), new_name), data)
    return new_name
