"""What is counted and logged: each answer by its reason, each warning once."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Protocol

import pytest
from prometheus_client import generate_latest

from gateway.telemetry import Telemetry


class Ticking(Protocol):
    def __call__(self) -> float: ...

    advance: Callable[[float], None]


def counted(telemetry: Telemetry) -> dict[str, float]:
    """What ``/metrics`` shows, without the moments of creation."""
    lines = generate_latest(telemetry.registry).decode().splitlines()
    found = (re.fullmatch(r"(wecom_gateway_\w+_total\{.*\}) (\S+)", line) for line in lines)
    return {match[1]: float(match[2]) for match in found if match}


def test_checks_are_counted_by_status_and_reason(clock: Ticking) -> None:
    """Each answer to the subrequest counts under its status and reason."""
    telemetry = Telemetry(clock)
    for status, reason in [(204, ""), (204, ""), (401, "no-session"), (403, "rule"), (401, "no-session"), (401, "expired")]:
        telemetry.checked(status, reason)

    assert counted(telemetry) == {
        'wecom_gateway_checks_total{reason="",status="204"}': 2,
        'wecom_gateway_checks_total{reason="no-session",status="401"}': 2,
        'wecom_gateway_checks_total{reason="rule",status="403"}': 1,
        'wecom_gateway_checks_total{reason="expired",status="401"}': 1,
    }


def test_sign_ins_and_renewals_are_counted(clock: Ticking) -> None:
    """A sign-in and a renewal count under how they ended."""
    telemetry = Telemetry(clock)
    telemetry.signed_in("ok")
    telemetry.signed_in("code-spent")
    telemetry.renewed("ok")
    telemetry.renewed("put-off")
    telemetry.renewed("put-off")

    assert counted(telemetry) == {
        'wecom_gateway_sign_ins_total{result="ok"}': 1,
        'wecom_gateway_sign_ins_total{result="code-spent"}': 1,
        'wecom_gateway_renewals_total{result="ok"}': 1,
        'wecom_gateway_renewals_total{result="put-off"}': 2,
    }


def test_two_do_not_share_counters(clock: Ticking) -> None:
    """Two gateways in one process count apart."""
    one, other = Telemetry(clock), Telemetry(clock)
    one.checked(204)

    assert counted(other) == {}


def test_a_warning_is_not_repeated(clock: Ticking, caplog: pytest.LogCaptureFixture) -> None:
    """The same warning comes once in ten minutes, another key on its own."""
    telemetry = Telemetry(clock)
    for _ in range(100):
        telemetry.warn_once("a", "a 100% warning")
    telemetry.warn_once("b", "another")
    clock.advance(599)
    telemetry.warn_once("a", "too early")
    assert [record.getMessage() for record in caplog.records] == ["a 100% warning", "another"]

    clock.advance(1)
    telemetry.warn_once("a", "again")
    assert caplog.records[-1].getMessage() == "again"


def test_its_pause_can_be_set(clock: Ticking, caplog: pytest.LogCaptureFixture) -> None:
    """A warning may come every so many seconds."""
    telemetry = Telemetry(clock)
    for _ in range(3):
        telemetry.warn_once("a", "minutely", every_s=60)
        clock.advance(60)

    assert len(caplog.records) == 3


def test_a_clock_set_back_keeps_no_warning_waiting(clock: Ticking, caplog: pytest.LogCaptureFixture) -> None:
    """What was told by a clock a day ahead is told again: refusals are recorded with it."""
    telemetry = Telemetry(clock)
    clock.advance(86400)
    telemetry.warn_once("a", "before")
    clock.advance(-86400)

    assert telemetry.warn_once("a", "after")
    assert not telemetry.warn_once("a", "too early")


def test_the_memory_of_warnings_is_bounded(clock: Ticking) -> None:
    """Any number of different warnings takes bounded room."""
    telemetry = Telemetry(clock)
    for number in range(3000):
        telemetry.warn_once(f"key {number}", "x")

    assert len(telemetry._warned) <= 1000
