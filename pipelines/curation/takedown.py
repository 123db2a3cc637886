"""The takedown list: clips that must leave the data set, by the address of their source or by their key."""

from pipelines.storage import exists, read_bytes


class TakedownError(ValueError):
    """A takedown list that cannot be used; the message names the file."""


def read_takedown(path: str | None) -> tuple[str, ...]:
    """Addresses and keys of a list, one a line; empty lines and lines that begin with # say nothing.

    A clip that was taken down stays out as long as the list names it.

    Raises:
        TakedownError: No such file, or it is not UTF-8.
    """
    if path is None:
        return ()
    if not exists(path):
        raise TakedownError(f"takedown {path}: no such file")
    try:
        lines = read_bytes(path).decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise TakedownError(f"takedown {path}: not UTF-8: {error}") from error
    names = (line.strip() for line in lines)
    return tuple(name for name in names if name and not name.startswith("#"))
