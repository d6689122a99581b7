"""A code is exchanged once: whoever comes with it again within a minute gets the first result, in whichever process."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import pytest

from gateway.errors import LoginFailed
from gateway.ledger.memory import Memory
from gateway.once import ELSEWHERE_S, LIMIT, REMEMBERED_S, Once, among_processes


class Ticking(Protocol):
    def __call__(self) -> float: ...

    advance: Callable[[float], None]


class Work:
    """Count how often it is begun; its result is held back until ``go``."""

    def __init__(self, *, held: bool = False, error: Exception | None = None) -> None:
        self.begun = 0
        self.done = 0
        self.started = asyncio.Event()
        self.go = asyncio.Event()
        self._error = error
        if not held:
            self.go.set()

    def __call__(self) -> Coroutine[Any, Any, int]:
        return self._run()

    async def _run(self) -> int:
        self.begun += 1
        number = self.begun
        self.started.set()
        await self.go.wait()
        self.done += 1
        if self._error:
            raise self._error
        return number


async def test_the_same_key_twice_is_one_run(clock: Ticking) -> None:
    """The second caller gets the first result, nothing is begun again."""
    once, work = Once[int](clock), Work()

    assert [await once.run("a", work), await once.run("a", work)] == [1, 1]
    assert work.begun == 1


async def test_callers_at_once_share_one_run(clock: Ticking) -> None:
    """Twenty callers at the same time wait for one run."""
    once, work = Once[int](clock), Work(held=True)
    callers = [asyncio.create_task(once.run("a", work)) for _ in range(20)]
    await work.started.wait()
    work.go.set()

    assert await asyncio.gather(*callers) == [1] * 20
    assert work.begun == 1


async def test_other_keys_run_on_their_own(clock: Ticking) -> None:
    """Another key is another run."""
    once, work = Once[int](clock), Work()

    assert [await once.run("a", work), await once.run("b", work)] == [1, 2]


@pytest.mark.parametrize("passed, begun", [(REMEMBERED_S - 1, 1), (REMEMBERED_S, 2)], ids=["within", "after"])
async def test_results_are_remembered_for_a_minute(clock: Ticking, passed: float, begun: int) -> None:
    """Within 60 s the result is remembered, after that the work is done anew."""
    once, work = Once[int](clock), Work()
    await once.run("a", work)
    clock.advance(passed)

    assert await once.run("a", work) == begun


async def test_an_error_is_remembered_too(clock: Ticking) -> None:
    """A code that was refused is refused to the second caller as well, without asking WeCom again."""
    once, work = Once[int](clock), Work(error=LookupError("spent"))
    for _ in range(2):
        with pytest.raises(LookupError, match="spent"):
            await once.run("a", work)

    assert work.begun == 1


async def test_a_caller_that_leaves_does_not_stop_the_run(clock: Ticking) -> None:
    """A browser gone in the middle cancels its own waiting only: its twin gets the result."""
    once, work = Once[int](clock), Work(held=True)
    gone = asyncio.create_task(once.run("a", work))
    await work.started.wait()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    work.go.set()

    assert await once.run("a", work) == 1
    assert work.begun == 1


async def test_what_is_still_running_is_not_forgotten(clock: Ticking) -> None:
    """A run that takes longer than a minute is still the only one for its key."""
    once, work = Once[int](clock), Work(held=True)
    first = asyncio.create_task(once.run("a", work))
    await work.started.wait()
    clock.advance(REMEMBERED_S * 2)
    await once.run("b", Work())
    second = asyncio.create_task(once.run("a", work))
    await asyncio.sleep(0)
    work.go.set()

    assert await asyncio.gather(first, second) == [1, 1]


async def test_closing_waits_for_what_is_in_flight(clock: Ticking) -> None:
    """A code on its way to WeCom is spent either way: closing waits for it, and passes no error on."""
    once, work, failing = Once[int](clock), Work(held=True), Work(held=True, error=LookupError("spent"))
    callers = [asyncio.create_task(once.run("a", work)), asyncio.create_task(once.run("b", failing))]
    await work.started.wait()
    await failing.started.wait()
    closing = asyncio.create_task(once.close())
    await asyncio.sleep(0)
    assert not closing.done()
    work.go.set()
    failing.go.set()
    await closing

    assert (work.done, failing.done) == (1, 1)
    assert isinstance((await asyncio.gather(*callers, return_exceptions=True))[1], LookupError)


async def test_nothing_in_flight_closes_at_once(clock: Ticking) -> None:
    """Closing without any run is done at once."""
    await Once[int](clock).close()


async def test_its_room_is_bounded(clock: Ticking) -> None:
    """However many keys come within a minute, the oldest go first."""
    once = Once[int](clock)
    for number in range(LIMIT + 10):
        await once.run(str(number), Work())

    assert len(once._runs) == LIMIT
    assert "0" not in once._runs


async def test_forgotten_errors_leave_no_complaint(clock: Ticking) -> None:
    """An error that nobody waited for is forgotten in silence."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    once, work = Once[int](clock), Work(held=True, error=LookupError("spent"))
    gone = asyncio.create_task(once.run("a", work))
    await work.started.wait()
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    work.go.set()
    await asyncio.gather(*(task for _, task in once._runs.values()), return_exceptions=True)
    clock.advance(REMEMBERED_S)
    await once.run("b", Work())
    gc.collect()

    assert list(once._runs) == ["b"]
    assert complaints == []


async def test_a_cancelled_run_is_forgotten(clock: Ticking) -> None:
    """A run cancelled by the end of the process is no obstacle for what comes after."""
    once, work = Once[int](clock), Work(held=True)
    caller = asyncio.create_task(once.run("a", work))
    await work.started.wait()
    once._runs["a"][1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    clock.advance(REMEMBERED_S)

    assert await once.run("b", Work()) == 1
    assert list(once._runs) == ["b"]


# ── among processes ────────────────────────────────────────────────────────────────────────────────────────────────


class Place:
    """What processes share, in memory."""

    def __init__(self, clock: Ticking) -> None:
        self._memory = Memory(clock)
        self.asked = asyncio.Event()

    async def claim(self, key: str, until: float) -> bool:
        return self._memory.claim(key, until)

    async def put(self, key: str, value: str, until: float) -> None:
        self._memory.put(key, value, until)

    async def get(self, key: str) -> str | None:
        self.asked.set()
        return self._memory.get(key)


def pack(outcome: object) -> str:
    return f"<{outcome}>"


async def test_another_process_gets_what_was_left(clock: Ticking) -> None:
    """Who claims does the work; who comes later waits for it, and begins nothing."""
    place, work = Place(clock), Work(held=True)
    until = clock() + REMEMBERED_S
    first = asyncio.create_task(among_processes(place, "a", until, work, pack))
    await work.started.wait()
    second = asyncio.create_task(among_processes(place, "a", until, work, pack))
    await place.asked.wait()
    work.go.set()

    assert await asyncio.gather(first, second) == [1, "<1>"]
    assert work.begun == 1


async def test_an_error_is_left_too(clock: Ticking) -> None:
    """The one who fails raises, and leaves the others what it was."""
    place, work = Place(clock), Work(error=LoginFailed("disabled"))
    until = clock() + REMEMBERED_S
    with pytest.raises(LoginFailed):
        await among_processes(place, "a", until, work, pack)

    assert await among_processes(place, "a", until, work, pack) == "<disabled>"


async def test_a_process_that_was_killed_is_not_waited_for_long(clock: Ticking) -> None:
    """Where whoever claimed leaves nothing, the wait is bounded, and nothing is done a second time."""
    place, work = Place(clock), Work()
    until = clock() + REMEMBERED_S
    assert await place.claim("a", until)

    assert await among_processes(place, "a", until, work, pack, waits_s=0.1) is None
    assert (work.begun, ELSEWHERE_S < REMEMBERED_S) == (0, True)
