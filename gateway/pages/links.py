"""What may stand in a page as an address or in a script as a state, whatever was handed in."""

from __future__ import annotations

import re
from urllib.parse import quote

_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_LINK = re.compile(r"https?://[^/\\?#@]+(?:[/?#].*)?|/(?![/\\]).*")
_STATE = re.compile(r"[A-Za-z0-9_-]{1,200}")


def link(value: str) -> str:
    """Return *value* as an address for ``href``: http(s) without user info, or a path of this host; else "/".

    What is not printable ASCII is percent-encoded first: browsers drop tabs, and "/<TAB>/evil" is "//evil" to them.
    """
    try:
        encoded = quote(str(value), safe=_PRINTABLE, errors="surrogateescape")
    except UnicodeEncodeError:
        return "/"
    return encoded if _LINK.fullmatch(encoded) else "/"


def plain_state(value: str) -> str:
    """Return *value* if it can be part of a cookie's path, else the empty text, with which scripts keep nothing."""
    return value if _STATE.fullmatch(value) else ""
