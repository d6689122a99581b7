"""The texts of the pages: one TOML file per language, tables flattened to keys like ``reason.expired.title``."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from types import MappingProxyType
from typing import Any

BUILT_IN = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of one language; ``lang`` is the tag for HTML."""

    lang: str
    entries: Mapping[str, str]

    def __contains__(self, key: str) -> bool:
        return key in self.entries

    def __call__(self, key: str, **values: object) -> str:
        """Return the text *key* with its ``{placeholders}`` filled; raises KeyError for a key that is not there."""
        return self.entries[key].format(**values)


def load(name: str, override: Path | None, report: Callable[[str], None]) -> Texts:
    """Read ``NAME.toml``; texts in the *override* folder's ``NAME.toml`` go first, its mistakes to *report*."""
    entries = read(BUILT_IN / f"{name}.toml")
    if override is not None and (path := override / f"{name}.toml").exists():
        entries |= _own(path, entries, report)
    return Texts(entries.pop("lang"), MappingProxyType(entries))


def read(path: Path) -> dict[str, str]:
    """Read one file of texts; raises OSError, UnicodeDecodeError or tomllib.TOMLDecodeError."""
    return dict(_flat(tomllib.loads(path.read_text(encoding="utf-8")), ""))


def _own(path: Path, built_in: Mapping[str, str], report: Callable[[str], None]) -> dict[str, str]:
    try:
        own = read(path)
    except (OSError, ValueError) as error:
        report(f"{path} is not used: {error}")
        return {}
    kept = {key: text for key, text in own.items() if key in built_in and _fits(text, built_in[key])}
    for key in own.keys() - kept.keys():
        report(f"{path}: {key} is not used: no such text, or a placeholder that it does not have")
    return kept


def _fits(text: str, built_in: str) -> bool:
    return placeholders(text) <= placeholders(built_in)


def placeholders(text: str) -> frozenset[str]:
    """Return the names in braces of *text*; one that cannot be read gives the name "?"."""
    try:
        return frozenset(name for _, name, _, _ in Formatter().parse(text) if name is not None)
    except ValueError:
        return frozenset({"?"})


def _flat(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)
