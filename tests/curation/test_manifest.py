"""Manifests of every kind give the same rows, and a bad one names its file, row and column."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.curation.manifest import RejectedRow, read_manifest
from pipelines.curation.manifest_files import ManifestError

ROWS = [
    {"video": "a.mp4", "caption": "A red circle", "start_s": 1.5, "end_s": 4.0, "license": "CC0", "rank": "1"},
    {"video": "sub/b.webm", "caption": "", "start_s": None, "end_s": None, "license": "", "rank": "2"},
]


def table_of(path: Path) -> pa.Table:
    return pa.Table.from_batches(list(read_manifest(str(path))))


def _csv(folder: Path) -> Path:
    lines = ["video,caption,start_s,end_s,license,rank", "a.mp4,A red circle,1.5,4,CC0,1", "sub/b.webm,,,,,2"]
    path = folder / "m.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    return path


def _jsonl(folder: Path) -> Path:
    path = folder / "m.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def _parquet(folder: Path) -> Path:
    path = folder / "m.parquet"
    pq.write_table(pa.Table.from_pylist(ROWS), path)
    return path


@pytest.mark.parametrize("write", [_csv, _jsonl, _parquet])
def test_csv_jsonl_and_parquet_give_the_same_rows(tmp_path: Path, write) -> None:
    table = table_of(write(tmp_path))
    assert table["uri"].to_pylist() == [f"{tmp_path}/a.mp4", f"{tmp_path}/sub/b.webm"]
    assert table["caption"].to_pylist() == ["A red circle", ""]
    assert table["start_s"].to_pylist() == [1.5, None]
    assert table["end_s"].to_pylist() == [4.0, None]
    assert [json.loads(text) for text in table["manifest_json"].to_pylist()] == [
        {"license": "CC0", "rank": "1"},
        {"license": "", "rank": "2"},
    ]
    assert table["row_id"].to_pylist() == table_of(_csv(tmp_path))["row_id"].to_pylist()


def test_a_folder_is_a_manifest_with_captions_beside_the_videos(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.mp4", "a.webm", "sub/c.mov", "notes.md"):
        (tmp_path / name).touch()
    (tmp_path / "a.txt").write_text("A green star\n", encoding="utf-8")
    table = table_of(tmp_path)
    assert [Path(uri).name for uri in table["uri"].to_pylist()] == ["a.webm", "b.mp4", "c.mov"]
    assert table["caption"].to_pylist() == ["A green star", "", ""]


def test_addresses_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("video,caption\ns3://bucket/a.mp4,x\n/data/b.mp4,y\n")
    assert table_of(path)["uri"].to_pylist() == ["s3://bucket/a.mp4", "/data/b.mp4"]


def test_the_manifest_may_say_what_changes_with_a_source(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    rows = [{"video": "a.mp4", "caption": "", "etag": "x", "size": 7}, {"video": "b.mp4", "caption": "", "size": 7}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = table_of(path)
    assert table["etag"].to_pylist() == ["7-x", None]
    assert table["manifest_json"].to_pylist() == ['{"etag": "x", "size": 7}', '{"size": 7}']


def test_rows_that_cannot_be_understood_may_be_listed_instead(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes(b"video,caption,start_s\na.mp4,x,\n ,y,\nb.mp4,caf\xe9,\nc.mp4,z\nd.mp4,z,soon\ne.mp4,z,1\n")
    rejected: list[RejectedRow] = []
    table = pa.Table.from_batches(list(read_manifest(str(path), rejected.append)))
    assert [Path(uri).name for uri in table["uri"].to_pylist()] == ["a.mp4", "e.mp4"]
    assert table["position"].to_pylist() == [0, 1]
    assert [row.place for row in rejected] == ["line 3", "line 4", "line 5", "line 6"]
    assert "column video: a path or address expected" in rejected[0].reason
    assert r"not UTF-8: '\udce9'" in rejected[1].reason


def rejected_in(path: Path) -> tuple[list[str], dict[str, str]]:
    """Names of the clips of a manifest, and the reasons of its other rows by their place."""
    rejected: list[RejectedRow] = []
    table = pa.Table.from_batches(list(read_manifest(str(path), rejected.append)))
    return [Path(uri).name for uri in table["uri"].to_pylist()], {row.place: row.reason for row in rejected}


def test_a_csv_row_with_stray_quotes_or_an_endless_field_costs_no_other_row(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    lines = ["a.mp4,x", 'b.mp4,"He said "hi""', 'c.mp4,"two', 'lines"', f"d.mp4,{'long' * 40_000}", "e.mp4,y"]
    path.write_text("video,caption\n" + "\n".join(lines) + "\n")
    names, reasons = rejected_in(path)
    assert names == ["a.mp4", "c.mp4", "e.mp4"]
    assert list(reasons) == ["line 3", "line 6"]
    assert "',' expected after '\"'" in reasons["line 3"]
    assert "field larger than field limit" in reasons["line 6"]


def test_a_quote_that_is_never_closed_costs_its_own_line(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text('video,caption\na.mp4,x\n\nb.mp4,"open\nc.mp4,y\nd.mp4,z\n')
    names, reasons = rejected_in(path)
    assert names == ["a.mp4", "c.mp4", "d.mp4"]
    assert list(reasons) == ["line 4"]
    with pytest.raises(ManifestError, match=r"m\.csv: line 4: not CSV: unexpected end of data"):
        table_of(path)


@pytest.mark.parametrize("column", ["video", "caption", "license", "etag"])
def test_half_a_character_in_json_is_a_bad_row(tmp_path: Path, column: str) -> None:
    rows = [{"video": "a.mp4", "caption": "x"}, {"video": "b.mp4", "caption": "x", column: "\ud83d"}]
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "[" * 100_000 + "\n")
    names, reasons = rejected_in(path)
    assert names == ["a.mp4"]
    assert list(reasons) == ["line 2", "line 3"]
    assert r"whole characters expected, given '\ud83d'" in reasons["line 2"]


@pytest.mark.parametrize(
    ("video", "message"),
    [
        ("htps://x/a.mp4", "Protocol not known: htps"),
        ("gs://bucket/a.mp4", "install gcsfs"),
        ("a\0.mp4", "no file's name has a NUL"),
        ("simplecache::htps://x/a.mp4", "Protocol not known: htps"),
    ],
)
def test_what_no_store_here_can_have_is_a_bad_row(tmp_path: Path, video: str, message: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text("".join(json.dumps({"video": name, "caption": "x"}) + "\n" for name in ("b.mp4", video)))
    names, reasons = rejected_in(path)
    assert names == ["b.mp4"]
    assert "column video: a path or address expected, given " in reasons["line 2"]
    assert message in reasons["line 2"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.csv", "file,caption\na,b\n", r"m\.csv: columns `video` and `caption` expected, missing \['video'\]"),
        ("m.csv", "video,caption\na,b\n ,b\n", "m.csv: line 3: column video: a path or address expected, given ' '"),
        ("m.csv", "video,caption\na,b,c\n", "m.csv: line 2: 2 fields expected"),
        ("m.csv", "video,caption\na\n", "m.csv: line 2: 2 fields expected"),
        (
            "m.csv",
            "video,caption,start_s\na,b,soon\n",
            "line 2: column start_s: seconds from 0 on expected, given 'soon'",
        ),
        ("m.csv", "video,caption,start_s\na,b,-1\n", "column start_s: seconds from 0 on expected"),
        (
            "m.csv",
            "video,caption,start_s,end_s\na,b,3,2\n",
            "column end_s: more than start_s expected, given 3.0 to 2.0",
        ),
        ("m.csv", "video,caption\n", "at least one clip expected"),
        ("m.jsonl", '{"video": "a", "caption": 3}\n', "m.jsonl: line 1: column caption: a text expected, given 3"),
        ("m.jsonl", '{"video": "a", "caption": ""}\n{oh\n', "m.jsonl: line 2: not JSON"),
        ("m.jsonl", "[1]\n", "m.jsonl: line 1: a JSON object expected, given list"),
        ("m.parquet", "no parquet", "m.parquet: not Parquet"),
        ("m.xlsx", "x", r"m\.xlsx: \.csv, \.jsonl, \.ndjson, \.parquet or a folder expected"),
    ],
)
def test_a_bad_manifest_names_file_row_and_column(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ManifestError, match=message):
        table_of(tmp_path / name)


def test_bytes_that_are_no_utf8_are_told(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_bytes(b"video,caption\na.mp4,caf\xe9\n")
    with pytest.raises(ManifestError, match=r"m\.csv: line 2: not UTF-8"):
        table_of(tmp_path / "m.csv")


def test_a_manifest_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="no such file or folder"):
        table_of(tmp_path / "m.csv")
