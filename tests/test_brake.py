"""Too many bad codes within a minute stop the exchange, for as long as they are that many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import pytest

from gateway.brake import WINDOW_S, Brake


class Ticking(Protocol):
    def __call__(self) -> float: ...

    advance: Callable[[float], None]


def test_it_is_off_at_first(clock: Ticking) -> None:
    """A gateway that has just started exchanges codes."""
    assert not Brake(3, clock).on


@pytest.mark.parametrize("limit", [1, 3, 60])
def test_it_is_on_from_the_limit(clock: Ticking, limit: int) -> None:
    """One bad code fewer than the limit does nothing; the limit stops."""
    brake = Brake(limit, clock)
    for _ in range(limit - 1):
        brake.bad_code()
    assert not brake.on

    brake.bad_code()
    assert brake.on


def test_it_is_off_when_the_minute_is_over(clock: Ticking) -> None:
    """A minute after the oldest of them codes are exchanged again."""
    brake = Brake(3, clock)
    for _ in range(3):
        brake.bad_code()
        clock.advance(10)
    clock.advance(WINDOW_S - 30 - 0.001)
    assert brake.on

    clock.advance(0.001)
    assert not brake.on


def test_a_clock_set_back_stops_nobody(clock: Ticking) -> None:
    """Bad codes of a clock that was a day ahead are not of the last minute, for a day."""
    brake = Brake(4, clock)
    clock.advance(86400)
    for _ in range(4):
        brake.bad_code("10.0.0.9")
    clock.advance(-86400)

    assert not brake.stops("10.0.0.9")


def test_a_steady_trickle_does_not_stop(clock: Ticking) -> None:
    """Bad codes spread over more than a minute never reach the limit."""
    brake = Brake(3, clock)
    for _ in range(20):
        brake.bad_code()
        clock.advance(WINDOW_S / 2)

        assert not brake.on


def test_a_flood_takes_no_room(clock: Ticking) -> None:
    """However many bad codes come, no more than the limit is kept, and it ends a minute after the last."""
    brake = Brake(3, clock)
    for _ in range(1000):
        brake.bad_code()

    assert len(brake._bad) == 3
    clock.advance(WINDOW_S)
    assert not brake.on


def test_a_limit_of_nothing_is_one(clock: Ticking) -> None:
    """With a limit of 0 the first bad code stops; codes are exchanged before it."""
    brake = Brake(0, clock)
    assert not brake.on

    brake.bad_code()
    assert brake.on


def test_one_address_stops_itself_first(clock: Ticking) -> None:
    """A quarter of the limit from one address stops that address and nobody else."""
    brake = Brake(60, clock)
    for _ in range(14):
        brake.bad_code("10.0.0.66")
    assert not brake.stops("10.0.0.66")

    brake.bad_code("10.0.0.66")

    assert brake.stops("10.0.0.66")
    assert not brake.stops("10.0.0.9")
    clock.advance(WINDOW_S)
    assert not brake.stops("10.0.0.66")


def test_many_addresses_stop_everybody(clock: Ticking) -> None:
    """The limit as a whole holds for everybody, whoever caused it."""
    brake = Brake(60, clock)
    for number in range(60):
        assert not brake.stops("10.0.0.9")
        brake.bad_code(f"10.1.0.{number}")

    assert brake.stops("10.0.0.9")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::1", "2001:db8::1", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.9", False),  # IPv4, where nginx listens with `ipv6only=off`
        ("::ffff:192.0.2.1", "::ffff:192.0.2.1", True),
        ("unix:", "unix:", True),
    ],
)
def test_an_address_of_ipv6_is_its_network(clock: Ticking, one: str, other: str, same: bool) -> None:
    """Whoever has one IPv6 address has the 2^64 beside it: they count together."""
    brake = Brake(4, clock)
    brake.bad_code(one)

    assert brake.stops(other) is same
