"""Which of the two languages a person reads."""

from __future__ import annotations

import re
from typing import Literal

Language = Literal["zh", "en"]

_LONGEST = 1000
_RANGE = re.compile(r"\s*(\*|[A-Za-z]{1,8})(?:-[A-Za-z0-9-]{1,60})?\s*(?:;\s*[qQ]\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*)?")


def choose(accept_language: str) -> Language:
    """Return "en" where the header (RFC 9110, 12.5.4) prefers it to Chinese, else "zh"; garbage is passed over."""
    quality: dict[str, float] = {}
    for part in accept_language[:_LONGEST].split(","):
        if match := _RANGE.fullmatch(part):
            name = match[1].lower()
            quality[name] = max(quality.get(name, 0.0), float(match[2] or 1))
    anything = quality.get("*", 0.0)
    return "en" if quality.get("en", anything) > quality.get("zh", anything) else "zh"
