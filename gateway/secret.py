"""A text that does not print, and the files that hold one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNREAD = "-"
"""Stands for a secret whose file was reported already."""


@dataclass(frozen=True, slots=True)
class Secret:
    """Hold a secret; every way of printing it gives asterisks, only :meth:`reveal` gives the text."""

    _text: str

    def reveal(self) -> str:
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__


def read_files(table: dict[str, Any]) -> list[str]:
    """Replace ``app_secret_file`` and ``signing_key_file`` in *table* by what the files hold; one sentence per mistake."""
    problems = _names_of_files(table)
    for name in ("app_secret", "signing_key"):
        path = table.pop(f"{name}_file", None)
        if path is None:
            continue
        if name in table:
            problems.append(f"{name}_file: give either {name} or {name}_file, not both")
            continue
        try:
            table[name] = Path(str(path)).read_text("utf-8-sig").strip()
            why = "" if table[name] else "is empty"
        except (OSError, ValueError) as error:
            why = f"cannot be read: {getattr(error, 'strerror', None) or 'it is no UTF-8 text'}"
        if why:
            shown = path if "/" in str(path) else "the file"  # a secret put here by mistake is not printed
            problems.append(f"{name}_file: {shown} {why}")
            table[name] = UNREAD
    return problems


def _names_of_files(table: dict[str, Any]) -> list[str]:
    """A secret that is the name of a file: anybody can guess it, and what the file holds was meant."""
    return [
        f"{name}: this is the name of a file; write {name.removesuffix('s')}_file = … for what it holds"
        for name in ("app_secret", "signing_key", "signing_keys")
        for value in (table[name] if isinstance(table.get(name), list) else [table.get(name)])
        if isinstance(value, str) and value.startswith("/") and os.path.isfile(value)  # noqa: PTH113 - Path.is_file can raise
    ]
