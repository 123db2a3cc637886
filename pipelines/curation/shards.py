"""Shards: plain ustar tars of samples, `<key>.json`, `<key>.mp4`, `<key>.txt`; the same samples give the same bytes.

Any webdataset or video2dataset reader can read them. A shard's name ends with the start of its sha256, so a shard is
never overwritten by another one; it belongs to the data set when a row of the catalog names it.
"""

import hashlib
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from pipelines.curation.records import Sample
from pipelines.storage import exists, joined, write_whole

_BLOCK = 512
_RECORD = 20 * _BLOCK


class Member(NamedTuple):
    """Where a member's payload lies in its tar, in bytes."""

    offset: int
    num_bytes: int


class Placed(NamedTuple):
    """Where a sample lies."""

    key: str
    shard: str
    mp4: Member
    txt: Member
    json: Member


def write_shard(folder: str | Path, index: int, samples: Sequence[Sample]) -> list[Placed]:
    """Write one tar, unless it is there: its name tells its content."""
    data, members = pack(samples)
    name = f"{index:05d}-{hashlib.sha256(data).hexdigest()[:16]}.tar"
    if not exists(joined(folder, name)):
        write_whole(joined(folder, name), data)
    return [Placed(sample.key, name, *members[sample.key]) for sample in samples]


def pack(samples: Iterable[Sample]) -> tuple[bytearray, dict[str, tuple[Member, Member, Member]]]:
    """A tar of samples and, for each key, where its mp4, txt and json lie in it."""
    tar, members = bytearray(), dict[str, tuple[Member, Member, Member]]()
    for sample in samples:
        facts = json.dumps(sample.facts, sort_keys=True, ensure_ascii=False).encode()
        at_json = _append(tar, f"{sample.key}.json", facts)
        at_mp4 = _append(tar, f"{sample.key}.mp4", sample.mp4)
        at_txt = _append(tar, f"{sample.key}.txt", sample.caption.encode())
        members[sample.key] = (at_mp4, at_txt, at_json)
    tar += bytes(2 * _BLOCK)
    tar += bytes(-len(tar) % _RECORD)
    return tar, members


def _append(tar: bytearray, name: str, payload: bytes) -> Member:
    header = tarfile.TarInfo(name)
    header.size, header.mtime, header.mode = len(payload), 0, 0o644
    tar += header.tobuf(tarfile.USTAR_FORMAT)
    offset = len(tar)
    tar += payload
    tar += bytes(-len(payload) % _BLOCK)
    return Member(offset, len(payload))
