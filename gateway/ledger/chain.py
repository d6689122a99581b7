"""The chain of digests: each entry carries a SHA-256 over the digest before it and its own record."""

from __future__ import annotations

import json
from hashlib import sha256

from gateway.records import Record

BEGINNING = ""
"""The digest before the very first entry."""


def canonical(record: Record) -> str:
    """The one JSON text of *record*, the same in every store: sorted, without blanks and empty fields, ASCII."""
    return json.dumps(record.mapping(), sort_keys=True, separators=(",", ":"), allow_nan=False, default=dict)


def digest(previous: str, record: Record) -> str:
    """The digest, in hex, of *record* after the entry with digest *previous*."""
    return sha256(f"{previous}\n{canonical(record)}".encode("ascii")).hexdigest()
