import errno
import hashlib
from pathlib import Path

import pytest

from pipelines.storage import create_whole, list_files, list_names, patiently, sha256_file, write_whole


def test_a_file_is_replaced_whole_and_nothing_is_left_aside(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.bin"
    write_whole(target, b"old")
    write_whole(target, b"new")
    assert target.read_bytes() == b"new"
    assert [path.name for path in target.parent.iterdir()] == ["file.bin"]
    assert sha256_file(target) == hashlib.sha256(b"new").hexdigest()


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    write_whole(target, b"old")
    with pytest.raises(TypeError):
        write_whole(target, "text, not bytes")  # type: ignore[arg-type]
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


class Store:
    """Fails so many times before it answers; counts its calls."""

    def __init__(self, error: Exception, failures: int) -> None:
        self._error, self._left, self.num_calls = error, failures, 0

    def __call__(self) -> str:
        self.num_calls += 1
        if self.num_calls <= self._left:
            raise self._error
        return "answer"


@pytest.mark.parametrize("error", [OSError(errno.EBUSY, "503 SlowDown"), TimeoutError(), ConnectionResetError()])
def test_a_store_that_is_away_is_asked_again_for_as_long_as_is_said(error: Exception) -> None:
    store = Store(error, failures=3)
    assert patiently(store, pauses_s=(0, 0, 0)) == "answer"
    with pytest.raises(type(error)):
        patiently(Store(error, failures=3), pauses_s=(0, 0))


@pytest.mark.parametrize("error", [FileNotFoundError("none"), PermissionError("denied"), OSError(errno.EINVAL, "bad")])
def test_an_answer_that_will_not_change_is_not_asked_for_again(error: Exception) -> None:
    store = Store(error, failures=1)
    with pytest.raises(type(error)):
        patiently(store, pauses_s=(0, 0, 0))
    assert store.num_calls == 1


def test_of_two_who_create_a_file_the_first_does(tmp_path: Path) -> None:
    assert create_whole(tmp_path / "folder" / "file", b"first")
    assert not create_whole(tmp_path / "folder" / "file", b"second")
    assert (tmp_path / "folder" / "file").read_bytes() == b"first"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["file"]


def test_listed_files_are_named_below_their_folder(tmp_path: Path) -> None:
    write_whole(tmp_path / "a" / "b" / "c.txt", b"123")
    (found,) = list_files(tmp_path / "a")
    assert (found.name, found.num_bytes, found.path) == ("b/c.txt", 3, f"{tmp_path}/a/b/c.txt")
    assert list_names(tmp_path / "a") == ["b"]
    assert list_names(tmp_path / "none") == list_files(tmp_path / "none") == []
