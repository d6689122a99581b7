"""The chain of digests: each entry carries a SHA-256 over the digest before it and its own record."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable
from dataclasses import dataclass, field
from hashlib import sha256

from gateway.records import Entry, Record

BEGINNING = ""
"""The digest before the very first entry."""


def canonical(record: Record) -> str:
    """The one JSON text of *record*, the same in every store: sorted, without blanks and empty fields, ASCII."""
    return json.dumps(record.mapping(), sort_keys=True, separators=(",", ":"), allow_nan=False, default=dict)


def digest(previous: str, record: Record) -> str:
    """The digest, in hex, of *record* after the entry with digest *previous*."""
    return sha256(f"{previous}\n{canonical(record)}".encode("ascii")).hexdigest()


@dataclass(slots=True)
class Verified:
    """What a walk along the chain found."""

    count: int = 0
    first: Entry | None = None
    head: Entry | None = None
    broken: list[Entry] = field(default_factory=list)  #: entries that do not follow from the one before
    expected: bool = False  #: the digest asked for is in the chain

    @property
    def holds(self) -> bool:
        return not self.broken


async def verify(entries: AsyncIterable[Entry], expected: str = "") -> Verified:
    """Walk all *entries* from the first; *expected* is a digest that must be among them, written down elsewhere before.

    The first kept entry must follow from the very beginning or from what a ``trimmed`` record says was last before it.
    """
    found, ends = Verified(), {BEGINNING}
    async for entry in entries:
        if found.head is None:
            found.first = entry
        elif not _follows(entry, found.head.digest):
            found.broken.append(entry)
        if entry.record.kind == "trimmed":
            ends.add(str(entry.record.details.get("digest")))
        found.expected = found.expected or entry.digest == expected
        found.head = entry
        found.count += 1
    if found.first and not any(_follows(found.first, end) for end in ends):
        found.broken.insert(0, found.first)
    found.expected = found.expected or expected in ends - {BEGINNING}
    return found


def _follows(entry: Entry, previous: str) -> bool:
    try:
        return digest(previous, entry.record) == entry.digest
    except (TypeError, ValueError):  # a value of a type that no record has
        return False
