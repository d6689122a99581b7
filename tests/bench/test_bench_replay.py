"""The measurement of a start counts what it says it does."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.replay import replay


@pytest.mark.parametrize("kind, in_force", [("revoked", 3000), ("signed-out", 3000), ("blocked", 3000), ("signed-in", 0)])
async def test_it_counts_what_is_in_force(tmp_path: Path, kind: str, in_force: int) -> None:
    """After a start on so many records all of those that are in force are known, also on a file that is there already."""
    address = f"sqlite://{tmp_path}/ledger.sqlite3"

    for _ in range(2):
        assert (await replay(address, kind, 3000))["in_force"] == in_force
