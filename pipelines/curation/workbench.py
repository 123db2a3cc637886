"""The workbench: the DuckDB database in which one refresh plans, judges and prepares its commit."""

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

_MEMORY_LIMIT = "1GiB"


@contextmanager
def workbench(memory_limit: str = _MEMORY_LIMIT) -> Generator[duckdb.DuckDBPyConnection]:
    """A DuckDB database of one refresh's tables in a temporary folder; what exceeds `memory_limit` lies on the disk."""
    with tempfile.TemporaryDirectory(prefix="refresh-") as folder:
        settings: dict[str, Any] = {"memory_limit": memory_limit, "temp_directory": f"{folder}/spilled"}
        with duckdb.connect(str(Path(folder) / "tables.duckdb"), config=settings) as database:
            database.execute("set enable_progress_bar = false")
            yield database


def count(database: duckdb.DuckDBPyConnection, relation: str) -> int:
    """Rows of a relation: what may follow `from`."""
    return database.sql(f"select count(*) from {relation}").fetchall()[0][0]
