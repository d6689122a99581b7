"""Columns that stand in line although Chinese characters are two wide; nothing a client sent can steer the terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from unicodedata import east_asian_width


def table(heading: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table, its heading first."""
    cells = [list(heading), *([_plain(cell) for cell in row] for row in rows)]
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(_filled(cell, size) for cell, size in zip(row, widths, strict=True)).rstrip() for row in cells]


def width(text: str) -> int:
    """How many columns of a terminal *text* takes."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def _filled(cell: str, size: int) -> str:
    return cell + " " * (size - width(cell))


def printable(text: str) -> str:
    """*text* with a question mark for whatever a terminal might take for a command."""
    return "".join(character if character.isprintable() else "?" for character in text)


def local_time(at: float) -> str:
    """*at* (Unix seconds) as the clock on the wall here has it."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def _plain(cell: object) -> str:
    return printable(str(cell)) or "-"
