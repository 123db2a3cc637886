"""The plan of a refresh against a large catalog; run as a program, one plan in a process of its own.

python benchmarks/curation/planning.py MANIFEST DATASET
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import WriterProperties, write_deltalake

sys.path.insert(0, str(Path(__file__).parents[1]))
from curation.rows import Row, Setting
from pipelines.curation.catalog import SCHEMA, Catalog, sql_columns
from pipelines.curation.config import RefreshConfig
from pipelines.curation.layout import catalog_path
from pipelines.curation.plan import make_plan
from pipelines.curation.workbench import workbench

ROOT = Path(__file__).resolve().parents[2]
_NUM_SEEN, _NUM_NEW = 200_000, 100_000


def rows(setting: Setting) -> Iterator[Row]:
    """Time and memory of the plan of a manifest of additions; each run in a process of its own."""
    dataset, manifest = setting.folder / f"planned{setting.num_known}", setting.folder / "seen.parquet"
    if not dataset.exists():
        write_catalog(dataset, manifest, setting.num_known)
    write_manifest(manifest, setting.num_known)
    seconds, peaks = [], []
    for _ in range(setting.pairs):
        told = _in_process(str(manifest), str(dataset))
        assert told["new"] == _NUM_NEW, told
        assert told["changed"] == told["rejudged"] == 0, told
        seconds.append(told["seconds"])
        peaks.append(told["peak_gib"])
    asked = f"plan: {setting.num_known:,} known rows, {_NUM_SEEN:,} seen, {_NUM_NEW:,} of them new"
    yield Row(f"{asked}: seconds", seconds, "<= 5")
    yield Row(f"{asked}: peak GiB", peaks, "<= 2")


def plan_once(manifest: str, dataset: str) -> dict[str, Any]:
    """One plan, in this process."""
    config = _planning(manifest, dataset)
    start = time.perf_counter()
    with workbench() as database:
        plan = make_plan(database, config, Catalog.open(dataset))
        seconds = time.perf_counter() - start
    peak_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    counts = {"new": plan.num_new, "changed": plan.num_changed, "rejudged": plan.num_rejudged}
    return {"seconds": seconds, "peak_gib": peak_gib, **counts}


def write_catalog(dataset: Path, manifest: Path, num_rows: int) -> None:
    """A catalog of clips that were kept, as refreshes write it: captions of about 90 letters, no two rows alike."""
    config = _planning(str(manifest), str(dataset))
    columns = sql_columns(
        {
            **{"row_id": "row_id", "uri": "uri", "etag": "etag", "caption": "caption"},
            "manifest_json": "manifest_json",
            "mark": "(md5_number_lower(concat_ws(chr(31), etag, caption, manifest_json)) >> 1)::bigint",
            "key": "md5('key' || n)",
            "verdict": "if(n % 3 = 0, 'still', 'kept')",
            "reason": "if(n % 3 = 0, 'motion 1.000, at least 2.5', '')",
            **{name: "random()" for name in ("brightness", "motion", "cut", "bars", "sharpness")},
            **{"num_frames": "80", "fps": "16.0", "size_px": "128", "attempts": "1", "is_transient": "false"},
            **{"slice": "'0123456789abcdef/' || n // 512 || '.mp4s'", "slice_offset": "n % 512 * 90000"},
            **{"slice_bytes": "90000", "shard": "if(n % 3 = 0, null, n // 1000 || '-0123456789abcdef.tar')"},
            **{"offset": "n % 1000 * 92000", "bytes": "90000", "refresh_id": "'20260101T000000.000000'"},
            **{"scoring_hash": f"'{config.scoring_hash}'", "config_hash": f"'{config.config_hash}'"},
        }
    )
    with duckdb.connect() as database:
        database.execute("set preserve_insertion_order = false")
        rows = database.sql(f"select {columns} from (select *, {_clip_columns()} from range({num_rows}) t(n))")
        batches = rows.to_arrow_reader(100_000)
        exact = (part for batch in batches for part in pa.Table.from_batches([batch]).cast(SCHEMA).to_batches())
        write_deltalake(
            catalog_path(dataset),
            pa.RecordBatchReader.from_batches(SCHEMA, exact),
            writer_properties=WriterProperties(compression="ZSTD"),
        )


def write_manifest(path: Path, num_known: int) -> None:
    """Clips all over the catalog, and new ones after them."""
    with duckdb.connect() as database:
        step = max(1, num_known // (_NUM_SEEN - _NUM_NEW))
        old = f"select range * {step} as n from range({_NUM_SEEN - _NUM_NEW})"
        new = f"select {num_known} + range as n from range({_NUM_NEW})"
        rows = database.sql(f"select *, {_clip_columns()} from ({old} union all {new})").to_arrow_table()
    etags = [etag.removeprefix("-") for etag in rows["etag"].to_pylist()]
    pq.write_table(pa.table({"video": rows["uri"], "caption": rows["caption"], "etag": pa.array(etags)}), path)


def _clip_columns() -> str:
    """What is known of clip n before it is decoded; `row_id` as `read_manifest` makes it."""
    identity = "'s3://bucket/clips/' || n || '.mp4' || chr(10) || chr(10)"
    return f"""'s3://bucket/clips/' || n || '.mp4' as uri, '-' || md5('etag' || n) as etag,
        'A clip of number ' || n || ' ' || md5('a' || n) || md5('b' || n) as caption,
        left(sha256({identity}), 32) as row_id,
        '{{"etag": "' || md5('etag' || n) || '"}}' as manifest_json"""


def _planning(manifest: str, dataset: str) -> RefreshConfig:
    return RefreshConfig(manifest=manifest, dataset=dataset, missing_rows="keep")


def _in_process(*words: str) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__)), *words]
    return json.loads(subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True).stdout)


if __name__ == "__main__":
    print(json.dumps(plan_once(*sys.argv[1:])))
