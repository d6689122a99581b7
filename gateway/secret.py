"""A text that does not print, and the files that hold one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECRETS = (("app_secret",), ("signing_key",), ("store",), ("events", "token"), ("events", "aes_key"))
"""The place of each secret that ``…_file`` can give."""

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
    """Replace ``app_secret_file`` and the like in *table* by what the files hold; one sentence per mistake."""
    problems = []
    for *above, name in SECRETS:
        prefix, target = "".join(f"{each}." for each in above), table
        for each in above:
            target = target.get(each, {})
        if isinstance(target, dict):
            named = [] if name == "store" else _names_of_files(target, name, prefix)  # a path alone is no store in any case
            problems += named + _read_file(target, name, prefix)
    return problems


def _read_file(table: dict[str, Any], name: str, prefix: str) -> list[str]:
    path = table.pop(f"{name}_file", None)
    if path is None:
        return []
    if name in table:
        return [f"{prefix}{name}_file: give either {name} or {name}_file, not both"]
    if not str(path).startswith("/"):  # a secret put here by mistake is not printed
        table[name] = UNREAD
        return [f"{prefix}{name}_file: a whole path is needed, from / on: a service starts in another folder than you do"]
    try:
        table[name] = Path(str(path)).read_text("utf-8-sig").strip()
        why = "" if table[name] else "is empty"
    except (OSError, ValueError) as error:
        why = f"cannot be read: {getattr(error, 'strerror', None) or 'it is no UTF-8 text'}"
    if not why:
        return []
    table[name] = UNREAD
    return [f"{prefix}{name}_file: {path} {why}"]


def _names_of_files(table: dict[str, Any], secret: str, prefix: str) -> list[str]:
    """A secret that is the name of a file: anybody can guess it, and what the file holds was meant."""
    return [
        f"{prefix}{name}: this is the name of a file; write {secret}_file = … for what it holds"
        for name in (secret, f"{secret}s")
        for value in (table[name] if isinstance(table.get(name), list) else [table.get(name)])
        if isinstance(value, str) and value.startswith("/") and os.path.isfile(value)  # noqa: PTH113 - Path.is_file can raise
    ]
