"""The table of error codes: every code becomes the error that its meaning asks for."""

from __future__ import annotations

import pytest

from gateway.errors import (
    AppMisconfigured,
    CodeSpent,
    MemberUnknown,
    TicketSpent,
    WeComBusy,
    WeComRefused,
)
from gateway.wecom.codes import CODES, error_for, seen_address

BUSY = {-1, 45009, 45033}
CODE_SPENT = {40029, 40078, 41008, 42003, 42022, 84075}
TICKET_SPENT = {84014, 84015, 84090, 92000, 92001}
MEMBER_UNKNOWN = {40003, 46004, 50002, 60011, 60021, 60111, 60120, 60121}
MISCONFIGURED = {
    *(40001, 40013, 40014, 40056, 40068, 40080, 40082, 40083, 40084, 40085, 40091, 40133, 40134, 40209, 41002, 41004),
    *(42001, 42009, 45031, 48001, 48002, 48003, 48004, 48006, 48009, 50001, 50003, 50006, 60003, 60020, 60030, 60031),
    *(60123, 80001, 81011, 85004, 85005, 85008, 85111, 301002, 301007, 301042, 670001, 701008, 701099, 2000002),
}
REFUSED = {
    *(40031, 40058, 40063, 40066, 40077, 40093, 40125, 41001, 41009, 41011, 41017, 41021, 41022, 41023, 41024, 41025),
    *(42007, 43016, 48005, 60102, 60103, 81013, 84025, 84061, 84074, 90210, 846000),
}
EXPECTED = (
    dict.fromkeys(BUSY, WeComBusy)
    | dict.fromkeys(CODE_SPENT, CodeSpent)
    | dict.fromkeys(TICKET_SPENT, TicketSpent)
    | dict.fromkeys(MEMBER_UNKNOWN, MemberUnknown)
    | dict.fromkeys(MISCONFIGURED, AppMisconfigured)
    | dict.fromkeys(REFUSED, WeComRefused)
)


@pytest.mark.parametrize("errcode", sorted(EXPECTED), ids=str)
def test_every_code_becomes_its_error(errcode: int) -> None:
    """Each listed errcode raises exactly the class that says what to do, and keeps its number."""
    error = error_for(errcode, "text")

    assert type(error) is EXPECTED[errcode]
    assert getattr(error, "errcode", None) == errcode
    assert str(error) == f"{errcode} text"


def test_the_table_holds_the_listed_codes_and_no_others() -> None:
    """A code cannot be added to the table without deciding here what it means."""
    assert set(CODES) == set(EXPECTED)


@pytest.mark.parametrize("errcode", sorted(MISCONFIGURED), ids=str)
def test_what_the_operator_must_change_is_said(errcode: int) -> None:
    """Each error that the operator must cure tells how, in a whole sentence."""
    error = error_for(errcode, "text")

    assert isinstance(error, AppMisconfigured)
    assert error.fix.endswith(".")
    assert "{" not in error.fix


def test_only_busy_codes_are_retried() -> None:
    """Asking again at once is for -1 and 45033; 45009 would only make it worse."""
    assert {errcode for errcode, code in CODES.items() if code.retry} == {-1, 45033}


def test_only_token_codes_renew_the_token() -> None:
    """A new access token can cure 40001, 40014 and 42001 and nothing else."""
    assert {errcode for errcode, code in CODES.items() if code.renew} == {40001, 40014, 42001}


@pytest.mark.parametrize("errcode", [1, 42, 99999999, -2, -40001], ids=str)
def test_a_code_that_is_not_listed_is_a_refusal(errcode: int) -> None:
    """New and negative codes are failures too, and final."""
    assert type(error_for(errcode, "new")) is WeComRefused


@pytest.mark.parametrize(
    "errmsg, address",
    [
        ("not allow, hint: [1], from ip: 203.0.113.9, more info at https://x", "203.0.113.9"),
        ("not allow, hint: [1], from ip: 2001:db8::1, more info", "2001:db8::1"),
        ("not allow", ""),
        ("from ip: {0.__class__}", ""),
    ],
    ids=["ipv4", "ipv6", "old replies", "not an address"],
)
def test_the_address_that_wecom_saw(errmsg: str, address: str) -> None:
    """The egress address is read from the error text."""
    assert seen_address(errmsg) == address


def test_60020_names_the_address_to_trust() -> None:
    """The operator reads which address to enter as 企业可信IP."""
    error = error_for(60020, "not allow to access from your ip, hint: [1], from ip: 203.0.113.9, more info at")

    assert isinstance(error, AppMisconfigured)
    assert "203.0.113.9" in error.fix
    assert "企业可信IP" in error.fix
