"""Shards are plain tars that depend on nothing but their samples."""

import hashlib
import subprocess
import tarfile
from pathlib import Path

import pytest

from pipelines.curation.records import Sample
from pipelines.curation.shards import pack, write_shard


@pytest.fixture
def samples() -> list[Sample]:
    keys = sorted(hashlib.blake2b(bytes([index]), digest_size=16).hexdigest() for index in range(7))
    return [
        Sample(key, bytes([index]) * (100 + 300 * index), f"Bär {index}", {"b": index, "a": "ß"})
        for index, key in enumerate(keys)
    ]


def test_a_shard_is_named_by_its_number_and_its_content(tmp_path: Path, samples: list[Sample]) -> None:
    (name,) = {place.shard for place in write_shard(tmp_path, 7, samples)}
    assert name == f"00007-{hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()[:16]}.tar"


def test_equal_samples_give_equal_bytes(samples: list[Sample]) -> None:
    assert (
        pack(samples)[0] == pack([sample._replace(facts={"a": "ß", "b": sample.facts["b"]}) for sample in samples])[0]
    )


def test_offsets_name_the_payloads(tmp_path: Path, samples: list[Sample]) -> None:
    for sample, place in zip(samples, write_shard(tmp_path, 0, samples), strict=True):
        data = (tmp_path / place.shard).read_bytes()
        assert place.key == sample.key
        assert data[place.mp4.offset :][: place.mp4.num_bytes] == sample.mp4
        assert data[place.txt.offset :][: place.txt.num_bytes] == sample.caption.encode()
        assert data[place.json.offset :][: place.json.num_bytes].startswith(b'{"a": "\xc3\x9f"')


def test_members_are_sorted_and_without_time_or_owner(tmp_path: Path, samples: list[Sample]) -> None:
    shard = tmp_path / write_shard(tmp_path, 0, samples)[0].shard
    with tarfile.open(shard) as tar:
        members = tar.getmembers()
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert {(member.mtime, member.uid, member.gid, member.uname, member.mode) for member in members} == {
        (0, 0, 0, "", 0o644)
    }


def test_plain_webdataset_reads_them(tmp_path: Path, samples: list[Sample], python: str) -> None:
    for index, first in enumerate(range(0, len(samples), 3)):
        write_shard(tmp_path, index, samples[first : first + 3])
    # In a process of its own: webdataset leaves its tars open, which would be a warning here.
    program = (
        "import sys, webdataset as wds\n"
        "for row in wds.WebDataset(sorted(sys.argv[1:]), shardshuffle=False).decode():\n"
        "    print(row['__key__'], len(row['mp4']), row['txt'], row['json']['b'])\n"
    )
    shards = [str(path) for path in tmp_path.glob("*.tar")]
    ended = subprocess.run([python, "-c", program, *shards], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines() == [
        f"{sample.key} {len(sample.mp4)} {sample.caption} {sample.facts['b']}" for sample in samples
    ]
