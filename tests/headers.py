"""The header names of ours, found where they are used: by the gateway and in the snippets."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

from gateway.member import IDENTITY

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [path for path in (ROOT / "gateway").rglob("*.py") if "sandbox" not in path.parts]


def _names() -> set[str]:
    code = "".join(path.read_text("utf-8") for path in SOURCES)
    snippets = "".join(path.read_text("utf-8") for path in (ROOT / "nginx").rglob("*.conf"))
    found = re.findall(r"\b(X-WeCom-[A-Za-z][A-Za-z-]*[A-Za-z])", code)
    found += re.findall(r"^\s*proxy_set_header (X-WeCom-[A-Za-z-]+) ", snippets, re.MULTILINE)
    found += [name.replace("_", "-") for name in re.findall(r"\$(?:upstream_)?http_(x_wecom_\w+)", snippets)]
    return {name.lower() for name in (*found, *IDENTITY)}


NAMES = frozenset(_names())
"""All of them, in lower case."""


def spellings(name: str) -> list[str]:
    """Every spelling that CGI and WSGI read as *name*: a dash or an underscore at each joint."""
    first, *rest = name.split("-")
    joints = itertools.product("-_", repeat=len(rest))
    return ["".join((first, *itertools.chain(*zip(each, rest, strict=True)))) for each in joints]
