"""Etags of sources whose change the manifest does not tell: their stores are asked, many at once.

A source that cannot be seen, because it or its store is away, has the empty etag. Where enough of them found a store
away for the whole of their patience, the others are asked once: an outage must not take a quarter of a minute a clip.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Self

import pyarrow as pa

from pipelines.curation.source import PATIENCE_S, Unseen, etag

_THREADS = 16
_PATIENT_SOURCES = 4 * _THREADS


class Etags:
    """Asks for etags in threads of its own, to the end of the block."""

    def __init__(self) -> None:
        self._pool, self._lock = ThreadPoolExecutor(_THREADS), threading.Lock()
        self._num_away = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def filled(self, rows: pa.Table) -> pa.Table:
        """Rows of a manifest with no null in their column `etag`."""
        if not rows["etag"].null_count:
            return rows
        given, uris = rows["etag"].to_pylist(), rows["uri"].to_pylist()
        asked = iter(self._pool.map(self._ask, [u for u, known in zip(uris, given, strict=True) if known is None]))
        etags = pa.array([next(asked) if known is None else known for known in given], pa.string())
        return rows.set_column(rows.schema.get_field_index("etag"), "etag", etags)

    def _ask(self, uri: str) -> str:
        found = etag(uri, PATIENCE_S if self._num_away < _PATIENT_SOURCES else ())
        if not isinstance(found, Unseen):
            return found
        with self._lock:
            self._num_away += found.is_transient
        return ""
