"""The secret of a study: what is drawn from it is repeatable for who holds it and tells nothing to who does not."""

import hashlib
import hmac
import random

KEY_BYTES = 32
"""Length of a study's secret."""


class Secret:
    """Names, identifiers and random order, all of one 32-byte key."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"secret: {KEY_BYTES} bytes expected, given {len(key)}")
        self.key = key

    def name(self, *parts: str) -> str:
        """16 hex digits: HMAC-SHA256 of the parts, cut."""
        return self._digest(*parts).hex()[:16]

    def order(self, *parts: str) -> random.Random:
        """A random generator of its own for each purpose."""
        return random.Random(int.from_bytes(self._digest("order", *parts), "big"))

    def _digest(self, *parts: str) -> bytes:
        return hmac.new(self.key, "\x1f".join(parts).encode(), hashlib.sha256).digest()


def secret_of_seed(seed: int) -> Secret:
    """The same secret for the same seed. Who guesses the seed knows the sides: for demos and tests."""
    return Secret(hashlib.sha256(f"study {seed}".encode()).digest())
