"""What the tests' own loop takes for time."""

from __future__ import annotations

import asyncio
import time

from tests.unhurried import LOOK_S, MOST_S, Unhurried


async def test_a_stall_makes_nothing_late() -> None:
    """Whoever has waited through a stop of the whole process still has the time that was left."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(5 * MOST_S):  # looked at four times at most
        before = loop.time()
        time.sleep(10 * MOST_S)
        await asyncio.sleep(0)

        assert loop.time() - before < 5 * MOST_S


async def test_time_passes_all_the_same() -> None:
    """What does not come is given up after its time, and not before."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(3 * LOOK_S):
            await asyncio.Event().wait()
    except TimeoutError:
        assert time.monotonic() - began >= 3 * LOOK_S
    else:
        raise AssertionError("has not ended")


async def test_it_is_every_tests_loop() -> None:
    """Also that of the fixtures."""
    assert isinstance(asyncio.get_running_loop(), Unhurried)
