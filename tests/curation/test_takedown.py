"""After a takedown and a vacuum nothing under the data set shows the clip, whatever happened to it before."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.curation.catalog import Catalog
from pipelines.curation.summary import RefreshSummary, describe
from pipelines.curation.takedown import TakedownError
from pipelines.storage import read_bytes

Refresh = Callable[..., RefreshSummary]
Write = Callable[[Path, Sequence[Mapping[str, object]]], Path]


@pytest.fixture
def write(clips: Path, library: Path, manifest_writer: Write) -> Callable[[Sequence[str]], Path]:
    """Writes a manifest of clips by their names, beside the first four clips of the library."""
    for seed in range(4):
        shutil.copy2(library / f"clip{seed}.mp4", clips)

    def write(names: Sequence[str]) -> Path:
        rows = [{"video": f"{name}.mp4", "caption": f"About {name}"} for name in names]
        return manifest_writer(clips / "m.csv", rows)

    return write


ALL = [f"clip{seed}" for seed in range(4)]
OTHERS = ["clip0", "clip1", "clip3"]


def stored(dataset: Path) -> dict[str, bytes]:
    """The stored frames of clips that have some, by the clip's name."""
    rows = [row for row in Catalog.open(dataset).rows().to_pylist() if row["slice"]]
    places = {Path(row["uri"]).stem: (row["slice"], row["slice_offset"], row["slice_bytes"]) for row in rows}
    return {name: read_bytes(dataset / "slices" / slice_, at, at + n) for name, (slice_, at, n) in places.items()}


def showing(dataset: Path, pictures: bytes, name: str = "clip2") -> list[str]:
    """Files below a data set that hold a part of a clip's frames, or what near duplicates are found by."""
    part = pictures[len(pictures) // 2 :][:100]
    files = [path for path in dataset.rglob("*") if path.is_file()]
    tables = [path for path in files if path.suffix == ".parquet" and "fingerprint" in pq.read_schema(path).names]
    rows = {path: pq.read_table(path, columns=["uri", "fingerprint"]).to_pylist() for path in tables}
    found = [path for path in files if part in path.read_bytes()]
    found += [path for path in tables if any(r["fingerprint"] and Path(r["uri"]).stem == name for r in rows[path])]
    return sorted({path.name for path in found})


def refreshed(refresh_here: Refresh, write: Callable[[Sequence[str]], Path], dataset: Path) -> bytes:
    """A first refresh of all four clips, which share a slice; the frames of clip2."""
    refresh_here(write(ALL), dataset)
    assert len(list(dataset.rglob("*.mp4s"))) == 1
    return stored(dataset)["clip2"]


def listed(clips: Path, *lines: str) -> str:
    (clips / "down.txt").write_text("".join(f"{line}\n" for line in lines))
    return str(clips / "down.txt")


def check_gone(refresh_here: Refresh, manifest: Path, dataset: Path, pictures: bytes, takedown: str) -> RefreshSummary:
    """Take down and vacuum; the neighbours' frames stay, and another vacuum writes nothing."""
    before = {name: frames for name, frames in stored(dataset).items() if name in OTHERS}
    summary = refresh_here(manifest, dataset, takedown=takedown, vacuum_older_than_days=0)
    assert showing(dataset, pictures) == []
    assert {name: frames for name, frames in stored(dataset).items() if name in before} == before
    slices = {path: path.stat().st_mtime_ns for path in (dataset / "slices").rglob("*")}
    again = refresh_here(manifest, dataset, takedown=takedown, vacuum_older_than_days=0)
    assert again.run_id is None
    assert {path: path.stat().st_mtime_ns for path in (dataset / "slices").rglob("*")} == slices
    assert refresh_here(manifest, dataset, takedown=takedown, shuffle_seed=7).decoded == 0
    return summary


def test_a_clip_that_leaves_the_manifest_as_it_is_listed_is_taken_down(
    write: Callable[[Sequence[str]], Path], tmp_path: Path, refresh_here: Refresh, clips: Path
) -> None:
    pictures = refreshed(refresh_here, write, tmp_path / "data")
    takedown = listed(clips, str(clips / "clip2.mp4"))
    summary = refresh_here(write(OTHERS), tmp_path / "data", takedown=takedown)
    assert (summary.taken_down, summary.removed, summary.by_verdict) == (1, 0, {"kept": 3, "removed": 1})
    # Before any vacuum no file that the version names shows it.
    catalog = Catalog.open(tmp_path / "data")
    slices = {row["slice"] for row in catalog.kept().to_pylist()}
    assert not [name for name in slices if pictures in (tmp_path / "data" / "slices" / name).read_bytes()]
    check_gone(refresh_here, clips / "m.csv", tmp_path / "data", pictures, takedown)


def test_a_clip_that_had_left_the_manifest_before_is_erased(
    write: Callable[[Sequence[str]], Path], tmp_path: Path, refresh_here: Refresh, clips: Path
) -> None:
    pictures = refreshed(refresh_here, write, tmp_path / "data")
    refresh_here(write(OTHERS), tmp_path / "data")
    assert showing(tmp_path / "data", pictures)
    takedown = listed(clips, str(clips / "clip2.mp4"))
    summary = check_gone(refresh_here, clips / "m.csv", tmp_path / "data", pictures, takedown)
    assert summary.unmatched_takedowns == []


@pytest.mark.parametrize("missing_rows", ["remove", "keep"])
def test_what_a_source_held_before_it_was_replaced_is_erased(
    write: Callable[[Sequence[str]], Path],
    tmp_path: Path,
    refresh_here: Refresh,
    clips: Path,
    library: Path,
    missing_rows: str,
) -> None:
    pictures = refreshed(refresh_here, write, tmp_path / "data")
    shutil.copy(library / "clip4.mp4", clips / "clip2.mp4")
    refresh_here(write(ALL), tmp_path / "data")
    later = stored(tmp_path / "data")["clip2"]
    assert later != pictures
    if missing_rows == "keep":
        write(OTHERS)
    takedown = listed(clips, str(clips / "clip2.mp4"))
    refresh_here(clips / "m.csv", tmp_path / "data", takedown=takedown, missing_rows=missing_rows)
    check_gone(refresh_here, clips / "m.csv", tmp_path / "data", pictures, takedown)
    assert showing(tmp_path / "data", later) == []


def test_what_a_run_that_was_cut_off_had_scored_is_erased(
    write: Callable[[Sequence[str]], Path], tmp_path: Path, refresh_here: Refresh, clips: Path
) -> None:
    pictures = refreshed(refresh_here, write, tmp_path / "other")
    dataset = tmp_path / "data"
    dataset.mkdir()
    (dataset / "shards").touch()
    with pytest.raises(OSError, match="shards"):
        refresh_here(write(ALL), dataset)
    (dataset / "shards").unlink()
    takedown = listed(clips, str(clips / "clip2.mp4"))
    summary = refresh_here(write(ALL), dataset, takedown=takedown)
    assert (summary.decoded, summary.by_verdict) == (0, {"kept": 3, "removed": 1})
    assert showing(dataset, pictures)
    check_gone(refresh_here, clips / "m.csv", dataset, pictures, takedown)


def test_an_older_version_still_shows_it_until_it_is_vacuumed(
    write: Callable[[Sequence[str]], Path], tmp_path: Path, refresh_here: Refresh, clips: Path
) -> None:
    pictures = refreshed(refresh_here, write, tmp_path / "data")
    shutil.copy(clips / "clip3.mp4", clips / "clip2.mp4")
    refresh_here(write(ALL), tmp_path / "data", vacuum_older_than_days=1000)
    old = next(r for r in Catalog.open(tmp_path / "data", 0).kept().to_pylist() if r["uri"].endswith("clip2.mp4"))
    place = tmp_path / "data" / "slices" / old["slice"]
    assert read_bytes(place, old["slice_offset"], old["slice_offset"] + old["slice_bytes"]) == pictures


def test_an_address_takes_its_exact_copies_down_those_that_come_later_too(
    write: Callable[[Sequence[str]], Path], tmp_path: Path, refresh_here: Refresh, clips: Path
) -> None:
    shutil.copy(clips / "clip2.mp4", clips / "copy.mp4")
    refresh_here(write([*ALL, "copy"]), tmp_path / "data")
    takedown = listed(clips, str(clips / "clip2.mp4"))
    summary = refresh_here(clips / "m.csv", tmp_path / "data", takedown=takedown)
    assert (summary.taken_down, summary.by_verdict) == (2, {"kept": 3, "removed": 2})
    shutil.copy(clips / "clip2.mp4", clips / "late.mp4")
    later = refresh_here(write([*ALL, "copy", "late"]), tmp_path / "data", takedown=takedown)
    assert (later.decoded, later.by_verdict) == (1, {"kept": 3, "removed": 3})
    assert refresh_here(clips / "m.csv", tmp_path / "data", takedown=takedown).run_id is None
    back = refresh_here(clips / "m.csv", tmp_path / "data")
    assert back.by_verdict == {"kept": 4, "duplicate": 2}


def test_a_line_is_resolved_as_the_manifest_does_and_one_that_matches_nothing_is_told(
    write: Callable[[Sequence[str]], Path], tmp_path: Path, refresh_here: Refresh, clips: Path
) -> None:
    refresh_here(write(ALL), tmp_path / "data")
    rows = {Path(row["uri"]).stem: row for row in Catalog.open(tmp_path / "data").rows().to_pylist()}
    lines = ["clip0.mp4", "# by request", "./sub/../clip1.mp4", rows["clip2"]["key"].upper(), "clip9.mp4", "f" * 32]
    takedown = clips / "down.txt"
    takedown.write_text("\n".join(lines) + "\n", encoding="utf-8-sig", newline="\r\n")
    summary = refresh_here(clips / "m.csv", tmp_path / "data", takedown=str(takedown))
    assert summary.by_verdict == {"kept": 1, "removed": 3}
    assert summary.unmatched_takedowns == ["line 5: clip9.mp4", f"line 6: {'f' * 32}"]
    assert "takedown list: no clip for line 5: clip9.mp4; line 6: ffff" in describe(summary)
    assert refresh_here(clips / "m.csv", tmp_path / "data", takedown=str(takedown)).unmatched_takedowns[0] == (
        "line 5: clip9.mp4"
    )


def test_a_key_that_matches_what_was_just_decoded_is_no_line_without_a_match(
    write: Callable[[Sequence[str]], Path], tmp_path: Path, refresh_here: Refresh, clips: Path
) -> None:
    refresh_here(write(ALL), tmp_path / "other")
    key = next(r["key"] for r in Catalog.open(tmp_path / "other").kept().to_pylist() if "clip2" in r["uri"])
    summary = refresh_here(clips / "m.csv", tmp_path / "data", takedown=listed(clips, key))
    assert (summary.by_verdict, summary.unmatched_takedowns) == ({"kept": 3, "removed": 1}, [])


def test_a_list_that_is_not_there_or_no_text_is_told(
    write: Callable[[Sequence[str]], Path], tmp_path: Path, refresh_here: Refresh, clips: Path
) -> None:
    (clips / "down.txt").write_bytes(b"caf\xe9.mp4\n")
    for name, message in (("down.txt", "down.txt: not UTF-8"), ("none.txt", "none.txt: no such file")):
        with pytest.raises(TakedownError, match=message):
            refresh_here(write(ALL), tmp_path / "data", takedown=str(clips / name))
