"""A short torture run in every test run; ``python -m tests.torture`` is the long one."""

from __future__ import annotations

from pathlib import Path

from tests.torture.run import torture


async def test_what_was_confirmed_holds(tmp_path: Path) -> None:
    """Under load, with gateways killed at random: every confirmed revocation is in force, every confirmed sign-in on record."""
    found = await torture(tmp_path, seconds=15, seed=20)

    assert found["violations"] == []
    assert found["counts"]["signed in"] > 10
    assert found["counts"]["revoked"] > 5
    assert found["counts"]["SIGKILL"] > 0
