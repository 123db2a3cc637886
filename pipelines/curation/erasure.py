"""Erasure: what no version names inside a slice that some version names is overwritten with zeros.

A slice outlives clips of it: they were taken down, left the manifest, got another source, or were scored by a run that
was cut off. Named clips keep their places, so that nobody who reads them notices. `versions/erased.parquet` says how
many bytes were named when a slice was last erased; fewer of them can only mean that there is more to erase.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.curation.layout import erased_path, slices_path
from pipelines.storage import exists, joined, read_bytes, remove_files, write_whole

_THREADS, _AT_ONCE = 4, 16
_SLICES = pa.schema([("slice", pa.string()), ("num_bytes", pa.int64())])
_HOLED = """
create table holed as
with named as (
    select slice, sum(slice_bytes)::bigint as num_bytes
    from (select distinct slice, slice_offset, slice_bytes from places where slice is not null) group by slice
)
select named.slice, named.num_bytes from named join stored_slices stored using (slice)
where named.num_bytes < stored.num_bytes
"""
_DUE = """
select slice, list(slice_offset), list(slice_bytes)
from (select distinct slice, slice_offset, slice_bytes from places
      semi join (from holed anti join erased using (slice, num_bytes)) using (slice))
group by slice order by slice
"""


def erase_unnamed(database: duckdb.DuckDBPyConnection, dataset_root: str, sizes: Mapping[str, int]) -> int:
    """Overwrite what no row of the table `places` names; returns how many slices were looked into.

    The scores of such a slice go with it: they describe what was erased, and no refresh reads them any more.

    Args:
        database: With `places`: the columns slice, slice_offset and slice_bytes of all versions that stay.
        dataset_root: The data set.
        sizes: Bytes of each slice that is stored, by its name.
    """
    stored = {"slice": list(sizes), "num_bytes": list(sizes.values())}
    _load(database, "stored_slices", pa.table(stored, schema=_SLICES))
    _load(database, "erased", _erased_before(dataset_root))
    database.execute(_HOLED)
    due, num_erased = database.cursor().execute(_DUE), 0
    with ThreadPoolExecutor(_THREADS) as pool:
        while slices := due.fetchmany(_AT_ONCE):
            num_erased += len(list(pool.map(lambda named: _erase(dataset_root, *named), slices)))
    if num_erased:
        _remember(dataset_root, database.sql("from holed order by slice").to_arrow_table())
    return num_erased


def _erase(dataset_root: str, name: str, offsets: Sequence[int], sizes: Sequence[int]) -> None:
    path = joined(slices_path(dataset_root), name)
    data = read_bytes(path)
    clean = bytearray(len(data))
    for offset, num_bytes in zip(offsets, sizes, strict=True):
        clean[offset : offset + num_bytes] = data[offset : offset + num_bytes]
    if bytes(clean) != data:
        write_whole(path, clean)
    remove_files([f"{path.removesuffix('.mp4s')}.parquet"])


def _erased_before(dataset_root: str) -> pa.Table:
    path = erased_path(dataset_root)
    if not exists(path):
        return _SLICES.empty_table()
    return pq.read_table(pa.BufferReader(read_bytes(path)), schema=_SLICES)


def _remember(dataset_root: str, erased: pa.Table) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(erased, sink)
    write_whole(erased_path(dataset_root), sink.getvalue().to_pybytes())


def _load(database: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    database.register("chunk", rows)
    database.execute(f"create table {name} as from chunk")
    database.unregister("chunk")
