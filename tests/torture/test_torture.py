"""A short torture run in every test run; ``python -m tests.torture`` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.torture.run import REVOCATIONS, SIGN_INS, torture
from tests.torture.truth import Known, Truth


@pytest.mark.parametrize("store", ["sqlite", "redis"])
async def test_what_was_confirmed_holds(tmp_path: Path, store: str) -> None:
    """Under load, with gateways and Redis killed at random: every confirmed revocation is in force, every sign-in on record.

    Four gateways on a busy machine are given more than the second that they promise.
    """
    found = await torture(tmp_path, seconds=10, seed=20, store=store, within_s=4)

    assert found["violations"] == []
    assert found["counts"]["signed in"] >= SIGN_INS
    assert found["counts"]["revoked"] >= REVOCATIONS
    assert found["counts"]["entries"] >= found["counts"]["signed in"]


@pytest.mark.parametrize(
    "status, asked, started, doubtful, violated",
    [
        (204, 101.2, 50, True, True),
        (204, 100.9, 50, True, False),
        (204, 100.1, 100.05, True, True),
        (401, 101.2, 50, True, False),
        (401, 99, 50, False, True),
        (401, 99, 50, True, False),
        (503, 99, 50, False, True),
    ],
    ids=["late", "in time", "restarted since", "refused", "nobody ended it", "somebody tried", "no answer of the check"],
)
def test_answers_are_judged(status: int, asked: float, started: float, doubtful: bool, violated: bool) -> None:
    """A session whose end was confirmed at 100: let in a second later, or by a process started since, is a violation."""
    truth = Truth()
    known = Known("cookie", "id", "m1", 90, doubtful, 100)
    truth.answered(known, status, "revoked", asked=asked, started=started, where="process 1")

    assert bool(truth.violations) is violated
