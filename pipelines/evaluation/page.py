"""The rater page: one HTML file put together from its parts in `rater_page/`, asking nothing of any other server."""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

MAX_PAGE_BYTES = 60_000
"""Of the page with all that is written into it."""

_PARTS = Path(__file__).parent / "rater_page"
_SCRIPTS = ("player.js", "session.js", "page.js")

Settings = Mapping[str, object]
"""The page's configuration: `mode` (local or mturk), `study_id`, `page_version`, `media_base`, `questions` ..."""


class PageError(ValueError):
    """A page over its limit; the message says by how much."""


@cache
def template() -> str:
    """The page with its style and scripts in it and a place for its configuration."""
    page = (_PARTS / "index.html").read_text(encoding="utf-8")
    scripts = "\n".join((_PARTS / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    return page.replace("/*STYLE*/", (_PARTS / "style.css").read_text(encoding="utf-8")).replace("/*SCRIPT*/", scripts)


def page_version() -> str:
    """12 hex digits of the template's sha256: answers say which page they were given on."""
    return hashlib.sha256(template().encode()).hexdigest()[:12]


def render_page(settings: Settings) -> bytes:
    """The page with its configuration written in.

    Raises:
        PageError: The page would be larger than `MAX_PAGE_BYTES`.
    """
    page = _filled(settings)
    if len(page) >= MAX_PAGE_BYTES:
        raise PageError(f"rater page: under {MAX_PAGE_BYTES} bytes expected, it has {len(page)}")
    return page


def fits(settings: Settings) -> bool:
    """Whether the page with this configuration keeps below its limit."""
    return len(_filled(settings)) < MAX_PAGE_BYTES


def _filled(settings: Settings) -> bytes:
    # "<" cannot end the script element, nor begin anything else, when it is written as an escape.
    text = json.dumps(settings, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return template().replace("/*CONFIG*/", text).encode()
