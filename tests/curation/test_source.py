"""A source that cannot be seen or read is a value with its reason; it never ends a refresh."""

import contextlib
import itertools
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

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


def test_a_pipe_and_a_folder_are_told_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    for path in (tmp_path / "pipe.mp4", tmp_path, Path("/dev/zero")):
        told = read_source(str(path), 1000)
        assert told == Rejection("unreadable", "not a file: a folder, a pipe or a device")


class _EndlessPage(BaseHTTPRequestHandler):
    """A page that does not tell its length: 64 KiB where its path says so, else no end."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            for _ in itertools.count() if self.path == "/endless.mp4" else range(64):
                self.wfile.write(bytes(1024))

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def test_a_source_that_does_not_tell_its_size_is_read_no_further_than_the_limit() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _EndlessPage) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        short, endless = (read_source(f"{address}/{name}.mp4", 100_000) for name in ("short", "endless"))
        server.shutdown()
    assert short == bytes(64 * 1024)
    assert endless == Rejection("too_large", "100000 bytes expected at most, more came")
