"""What makes a caption unusable, told from its text alone."""

import re

from pipelines.curation.config import FilterConfig
from pipelines.curation.records import Rejection

_MARKUP = re.compile(r"</?[a-zA-Z][^<>]*>|<!--|&(?:[a-zA-Z]{2,8}|#\d{1,6}|#x[0-9a-fA-F]{1,5});")
_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.-]*://|www\.)\S+", re.IGNORECASE)
_FILE_NAME = re.compile(r"[\w.-]+\.(?:mp4|webm|mkv|mov|avi|jpe?g|png|gif)", re.IGNORECASE)


def judge_caption(caption: str, filters: FilterConfig) -> Rejection | None:
    """`caption_missing` or `caption_invalid` with what was found, or None for a usable caption.

    Invalid are: HTML markup or entities, nothing but addresses or a file name, no letter at all, characters that a
    wrong decoding left, and more than `max_caption_chars`.
    """
    text = caption.strip()
    if not text:
        return Rejection("caption_missing", "no text")
    reasons = (_markup(text), _no_sentence(text), _garbled(text), _too_long(text, filters.max_caption_chars))
    reason = next(filter(None, reasons), None)
    return None if reason is None else Rejection("caption_invalid", reason)


def _markup(text: str) -> str | None:
    markup = _MARKUP.search(text)
    return f"markup: {markup.group()[:40]}" if markup else None


def _no_sentence(text: str) -> str | None:
    if not _ADDRESS.sub("", text).strip() or _FILE_NAME.fullmatch(text):
        return f"nothing but an address or a file name: {text[:60]}"
    return None if any(character.isalpha() for character in text) else f"no letter: {text[:40]}"


def _garbled(text: str) -> str | None:
    is_garbled = "\ufffd" in text or any(ord(character) < 32 and character not in "\t\n\r" for character in text)
    return "characters of a wrong decoding" if is_garbled else None


def _too_long(text: str, max_chars: int | None) -> str | None:
    is_too_long = max_chars is not None and len(text) > max_chars
    return f"{len(text)} characters, at most {max_chars}" if is_too_long else None
