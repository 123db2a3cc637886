"""What is wrong with one request alone: it costs that request its video, and no other."""

from typing import NamedTuple


class InputError(ValueError):
    """An image, video or mask that cannot be used; the message names the file or the box."""


class Refusal(NamedTuple):
    """Why a request has no video."""

    prompt_id: str
    error: str
    """The error's type."""
    reason: str
    """Its message: what was given, and what is expected."""
