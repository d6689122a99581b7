"""What is still in force is carried on when its record grows old; everything else goes."""

from __future__ import annotations

import pytest

from gateway.ledger import Record
from gateway.ledger.retention import survivors

NOW = 1_800_000_000.0
OLD = NOW - 200 * 86400

BLOCKED = Record("blocked", OLD, member="ZhangSan")
UNBLOCKED = Record("unblocked", OLD + 1, member="zhangsan")
TOKEN = Record("token-issued", OLD, details={"token": "ci", "id": "t-1", "ends": NOW + 1, "member": ""})
ACTING = Record("token-issued", OLD, details={"token": "bot", "id": "t-2", "ends": NOW + 1, "member": "ZhangSan"})
TOKEN_REVOKED = Record("token-revoked", OLD + 1, details={"token": "ci", "id": "t-1"})
NAMED = Record("named", OLD, details={"kind": "department", "name": "财务部", "id": 3})
REVOKED = Record("revoked", OLD, member="zhangsan")
EVERYWHERE = Record("signed-out", OLD, member="ZhangSan", session="s-1", details={"until": OLD + 1, "everywhere": True})
HERE = Record("signed-out", OLD, member="zhangsan", session="s-1", details={"until": OLD + 1, "everywhere": False})


def ended(token: Record) -> Record:
    return token._replace(details={**token.details, "ends": NOW - 1})


def kept(old: list[Record], later: list[Record]) -> list[Record]:
    return [
        record._replace(details={name: value for name, value in record.details.items() if name != "carried"})
        for record in survivors(old, later, NOW)
    ]


@pytest.mark.parametrize(
    "old, later, expected",
    [
        ([BLOCKED], [], [BLOCKED]),
        ([BLOCKED, UNBLOCKED], [], []),
        ([UNBLOCKED, BLOCKED], [], [BLOCKED]),
        ([BLOCKED], [UNBLOCKED], []),
        ([BLOCKED], [BLOCKED], []),
        ([BLOCKED], [UNBLOCKED._replace(member="lisi")], [BLOCKED]),
        ([TOKEN], [], [TOKEN]),
        ([ended(TOKEN)], [], []),
        ([TOKEN, TOKEN_REVOKED], [], [TOKEN, TOKEN_REVOKED]),
        ([ended(TOKEN), TOKEN_REVOKED], [], []),
        ([TOKEN_REVOKED], [TOKEN], [TOKEN_REVOKED]),
        ([TOKEN_REVOKED], [ended(TOKEN)], []),
        ([TOKEN_REVOKED], [], [TOKEN_REVOKED]),
        ([NAMED], [], [NAMED]),
        ([NAMED], [NAMED._replace(details={**NAMED.details, "id": 4})], []),
        ([REVOKED], [], []),
        ([REVOKED], [ACTING], [REVOKED]),
        ([REVOKED, ACTING], [], [REVOKED, ACTING]),
        ([REVOKED], [ended(ACTING)], []),
        ([EVERYWHERE, HERE], [ACTING], [EVERYWHERE]),
        ([EVERYWHERE], [], []),
        ([Record("signed-out", OLD, session="s-1"), Record("stale", OLD, member="lisi")], [], []),
        ([Record("revoked", OLD, site="erp"), Record("revoked", OLD, member="lisi", session="s-1")], [ACTING], []),
    ],
    ids=[
        "blocked", "unblocked", "blocked-again", "unblocked-later", "blocked-later", "another-unblocked",
        "token", "token-over", "token-revoked", "token-revoked-and-over", "token-revoked-issued-later",
        "token-revoked-over-later", "token-revoked-end-unknown", "named", "named-anew", "revoked", "revoked-with-token",
        "revoked-with-old-token", "revoked-token-over", "everywhere", "everywhere-no-token", "sessions", "site-and-session",
    ],
)  # fmt: skip
def test_what_survives(old: list[Record], later: list[Record], expected: list[Record]) -> None:
    """A record outlives its age exactly as long as something depends on it."""
    assert kept(old, later) == expected


def test_what_is_carried_says_so() -> None:
    """A record appended again keeps its time and says that it was carried on."""
    assert survivors([BLOCKED], [], NOW) == [BLOCKED._replace(details={"carried": True})]
