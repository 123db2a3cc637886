"""A source that cannot be seen or read is a value with its reason; it never ends a refresh."""

from pathlib import Path

import pytest

from pipelines.curation.records import Rejection
from pipelines.curation.source import Unseen, etag, read_source


def test_an_etag_changes_with_the_source(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    first = etag(str(tmp_path / "a"))
    (tmp_path / "a").write_text("three")
    assert isinstance(first, str)
    assert etag(str(tmp_path / "a")) != first


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("{folder}/none.mp4", "no such file"),
        ("{folder}/text.mp4/a.mp4", "no such file"),
        ("{folder}/loop.mp4", "Too many levels of symbolic links"),
        ("{folder}/" + "long" * 64 + ".mp4", "File name too long"),
        ("htps://x/a.mp4", "Protocol not known: htps"),
        ("gs://bucket/a.mp4", "Please install gcsfs to access Google Storage"),
        ("s3://no_bucket!/a.mp4", "Invalid bucket name"),
    ],
)
def test_what_cannot_be_seen_or_read_is_told(tmp_path: Path, uri: str, reason: str) -> None:
    (tmp_path / "text.mp4").touch()
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    named = uri.format(folder=tmp_path)
    seen, read = etag(named), read_source(named, None)
    assert isinstance(seen, Unseen)
    assert isinstance(read, Rejection)
    assert not seen.is_transient
    assert read.verdict == "unreadable"
    assert reason in seen.reason
    assert reason in read.reason
