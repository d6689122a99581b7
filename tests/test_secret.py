"""A secret prints as asterisks, however it is printed."""

from __future__ import annotations

import dataclasses
import logging
import traceback
from collections.abc import Callable

import pytest

from gateway.secret import Secret

TEXT = "open-sesame"


@pytest.mark.parametrize(
    "show",
    [str, repr, "{}".format, "{!r}".format, "{!s}".format, "{!a}".format, lambda secret: "%s %r" % (secret, secret), ascii],  # noqa: UP031
    ids=["str", "repr", "format", "format-repr", "format-str", "format-ascii", "percent", "ascii"],
)
def test_no_way_of_printing_shows_it(show: Callable[[Secret], str]) -> None:
    """Every way of printing a secret gives asterisks."""
    shown = show(Secret(TEXT))

    assert TEXT not in shown
    assert "***" in shown


def test_containers_do_not_show_it() -> None:
    """A list, a dictionary and a dataclass that hold a secret print no more of it than it does."""

    @dataclasses.dataclass
    class Holder:
        secret: Secret

    secret = Secret(TEXT)

    assert TEXT not in f"{[secret]} { ({'a': secret}) } {Holder(secret)}"


def test_logs_and_tracebacks_do_not_show_it(caplog: pytest.LogCaptureFixture) -> None:
    """Neither a log line nor the traceback of an error about a secret shows it."""
    secret = Secret(TEXT)
    try:
        raise ValueError(secret)
    except ValueError as error:
        logging.getLogger("test").exception("failed with %s", secret)
        shown = "".join(traceback.format_exception(error))

    assert TEXT not in shown + caplog.text


def test_reveal_gives_the_text() -> None:
    """Only ``reveal`` gives the text."""
    assert Secret(TEXT).reveal() == TEXT


@pytest.mark.parametrize("text, truth", [("", False), ("x", True)], ids=["empty", "full"])
def test_an_empty_secret_is_false(text: str, truth: bool) -> None:
    """A secret is true where it holds something."""
    assert bool(Secret(text)) is truth


def test_secrets_compare_by_what_they_hold() -> None:
    """Two secrets with one text are equal, others are not: a reload can tell whether a key has changed."""
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
