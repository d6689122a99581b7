"""A sign-in in progress comes back to the browser that started it, within ten minutes, and to no other."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.errors import LoginFailed
from gateway.sealing import Sealer
from gateway.secret import Secret
from gateway.signin import (
    BEGIN,
    HAND_OVER,
    HAND_OVER_S,
    LIFETIME_S,
    MAX_COOKIE_BYTES,
    SIGN_IN,
    Begin,
    HandOver,
    SignIn,
    begun,
    browser_nonce,
    is_state,
    new_state,
)

NOW = 1_800_000_000
SEALER = Sealer([Secret("k" * 43)])
STATE = "A1" * 16
BROWSER = "0f" * 16
BEGIN_ERP = Begin("erp", "erp.example.com", "B2" * 16, True, NOW + LIFETIME_S, "https://erp.example.com/报表")
STARTED = SignIn(STATE, "erp", "erp.example.com", "https://erp.example.com/report?month=1", BROWSER, NOW, True, BEGIN_ERP)
HANDED = HandOver("h-1", NOW + HAND_OVER_S, "erp.example.com", STATE, {"v": 1, "n": "张三"})
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=8) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)
GARBAGE = st.text(max_size=80) | st.from_regex(r"[A-Za-z0-9_-]{1,80}\.[A-Za-z0-9_-]{43}", fullmatch=True)


def open_sign_in(value: str, *, state: str = STATE, browser: str = BROWSER, now: float = NOW, sealer: Sealer = SEALER) -> SignIn:
    return SignIn.open(sealer, value, state=state, browser=browser, now=now)


def open_begin(text: str, *, now: float = NOW) -> Begin:
    return Begin.open(SEALER, text, now=now)


def open_hand_over(text: str, *, host: str = "erp.example.com", state: str = STATE, now: float = NOW) -> HandOver:
    return HandOver.open(SEALER, text, host=host, state=state, now=now)


def failure(opening: Callable[..., Any], *args: Any, **how: Any) -> LoginFailed:
    with pytest.raises(LoginFailed) as caught:
        opening(*args, **how)
    return caught.value


class TestSignIn:
    """The cookie of a sign-in holds what is needed to come back."""

    @pytest.mark.parametrize("sign_in", [STARTED, replace(STARTED, again=False, onward=None)], ids=["full", "bare"])
    def test_it_comes_back(self, sign_in: SignIn) -> None:
        """Every field comes back to the browser that started it."""
        assert open_sign_in(sign_in.seal(SEALER)) == sign_in

    def test_its_path_is_its_own(self) -> None:
        """The cookie travels to its own callback only: forty sign-ins never travel together."""
        assert STARTED.path == f"/_wecom/callback/{STATE}"

    def test_it_survives_a_new_key(self) -> None:
        """A sign-in started before a key was added comes back after."""
        rotated = Sealer([Secret("n" * 43), Secret("k" * 43)])

        assert open_sign_in(STARTED.seal(SEALER), sealer=rotated) == STARTED

    @pytest.mark.parametrize(
        "changes",
        [{"state": "C3" * 16}, {"browser": "1f" * 16}, {"browser": ""}, {"state": ""}, {"state": STATE.lower()}],
        ids=["state", "browser", "no-browser", "no-state", "state-case"],
    )
    def test_another_browser_or_state_is_refused(self, changes: dict[str, str]) -> None:
        """A callback opened by another browser, or with the cookie of another sign-in, is ``other-browser``, with a way back."""
        error = failure(open_sign_in, STARTED.seal(SEALER), **changes)

        assert error.reason == "other-browser"
        assert error.return_to == STARTED.return_to

    @pytest.mark.parametrize("passed", [LIFETIME_S - 1, LIFETIME_S - 0.001])
    def test_within_ten_minutes_it_opens(self, passed: float) -> None:
        """A QR code may take its time: just short of ten minutes is fine."""
        assert open_sign_in(STARTED.seal(SEALER), now=NOW + passed) == STARTED

    @pytest.mark.parametrize("passed", [LIFETIME_S, LIFETIME_S + 1, 86400])
    def test_after_ten_minutes_it_is_expired(self, passed: float) -> None:
        """From ten minutes on it is ``sign-in-expired``, with a way back."""
        error = failure(open_sign_in, STARTED.seal(SEALER), now=NOW + passed)

        assert (error.reason, error.return_to) == ("sign-in-expired", STARTED.return_to)

    def test_a_key_of_another_process_is_named(self) -> None:
        """Where processes have different keys, one makes the cookie and another refuses it: the message names the setting."""
        error = failure(open_sign_in, STARTED.seal(Sealer([Secret("o" * 43)])))

        assert error.reason == "other-browser"
        assert str(error) == "the cookie of this sign-in was signed by none of our signing_keys: do all processes have the same?"

    @given(GARBAGE)
    @example("")
    @example("\udcff")
    def test_garbage_is_refused(self, value: str) -> None:
        """Any cookie that we did not sign is ``other-browser``, and leads nowhere."""
        error = failure(open_sign_in, value)

        assert (error.reason, error.return_to) == ("other-browser", "/")

    @given(JSON | st.lists(JSON, min_size=8, max_size=8))
    @example([STATE, "erp", "h", "/", BROWSER, "soon", 0, None])
    @example([STATE, "erp", "h", "/", BROWSER, float("inf"), 0, None])
    @example([STATE, "erp", "h", "/", BROWSER, NOW, 0, ["erp"]])
    @example([STATE, "erp", "h", "/", BROWSER, NOW, 0, ["erp", "h", "s", 0, float("nan"), ""]])
    def test_signed_nonsense_is_refused(self, claims: Any) -> None:
        """Claims that are no sign-in are refused, and nothing else is raised."""
        assert failure(open_sign_in, SEALER.sign(SIGN_IN, claims)).reason in {"other-browser", "sign-in-expired"}

    @pytest.mark.parametrize("purpose", ["session", BEGIN, "rounds"])
    def test_another_purpose_is_refused(self, purpose: str) -> None:
        """What was signed for something else is no sign-in."""
        claims = SEALER.verify(SIGN_IN, STARTED.seal(SEALER))

        assert failure(open_sign_in, SEALER.sign(purpose, claims)).reason == "other-browser"

    def test_ordinary_addresses_fit_a_cookie(self) -> None:
        """A return address of 2000 characters leaves the cookie below what browsers take."""
        letters = "".join(f"{number * 7919 % 99991:05}" for number in range(400))

        assert len(replace(STARTED, return_to=f"https://erp.example.com/{letters}").seal(SEALER)) <= MAX_COOKIE_BYTES


class TestBegin:
    """What a site's host asks of the callback host."""

    def test_it_comes_back(self) -> None:
        """Every field comes back, in an alphabet that a path may hold."""
        text = BEGIN_ERP.seal(SEALER)

        assert re.fullmatch(r"[A-Za-z0-9_.-]+", text)
        assert open_begin(text) == BEGIN_ERP
        assert open_begin(text, now=BEGIN_ERP.until - 1) == BEGIN_ERP

    def test_it_ends(self) -> None:
        """After its end it is ``sign-in-expired``, with a way back."""
        error = failure(open_begin, BEGIN_ERP.seal(SEALER), now=BEGIN_ERP.until)

        assert (error.reason, error.return_to) == ("sign-in-expired", BEGIN_ERP.return_to)

    @given(GARBAGE)
    def test_garbage_is_refused(self, text: str) -> None:
        """Whatever we did not sign is ``bad-request``."""
        assert failure(open_begin, text).reason == "bad-request"

    @given(JSON | st.lists(JSON, min_size=6, max_size=6))
    @example(["erp", "h", "s", 0, float("inf"), ""])
    def test_signed_nonsense_is_refused(self, claims: Any) -> None:
        """Claims that are no request to begin are refused or long over, and nothing else is raised."""
        error = failure(open_begin, SEALER.sign(BEGIN, claims), now=float("inf"))

        assert error.reason in {"bad-request", "sign-in-expired"}

    def test_a_sign_in_cookie_is_no_request(self) -> None:
        """What is signed for a cookie does not pass in a URL."""
        assert failure(open_begin, SEALER.sign(SIGN_IN, BEGIN_ERP.claims())).reason == "bad-request"


class TestHandOver:
    """A session on its way to another host of ours."""

    def test_it_comes_back(self) -> None:
        """Every field comes back, at the host and for the sign-in that it is for."""
        assert open_hand_over(HANDED.seal(SEALER)) == HANDED
        assert open_hand_over(HANDED.seal(SEALER), now=HANDED.until - 0.001) == HANDED

    def test_nothing_can_be_read_in_it(self) -> None:
        """It travels in a URL, which ends in logs: encrypted, another text each time."""
        assert HANDED.seal(SEALER) != HANDED.seal(SEALER)
        assert "erp" not in HANDED.seal(SEALER)

    @pytest.mark.parametrize(
        "changes, problem",
        [
            ({"host": "wiki.example.org"}, "another host"),
            ({"state": "C3" * 16}, "another host or sign-in"),
            ({"now": HANDED.until}, "older than 60 s"),
        ],
        ids=["host", "state", "late"],
    )
    def test_elsewhere_and_later_it_is_refused(self, changes: dict[str, Any], problem: str) -> None:
        """At another host, for another sign-in or after a minute it is ``hand-over``."""
        error = failure(open_hand_over, HANDED.seal(SEALER), **changes)

        assert error.reason == "hand-over"
        assert problem in str(error)

    @given(GARBAGE)
    def test_garbage_is_refused(self, text: str) -> None:
        """Whatever we did not encrypt is ``hand-over``."""
        assert failure(open_hand_over, text).reason == "hand-over"

    @given(JSON | st.lists(JSON, min_size=5, max_size=5))
    @example(["h", float("inf"), "erp.example.com", STATE, {}])
    @example("abcde")
    @example({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5})
    def test_encrypted_nonsense_is_refused(self, claims: Any) -> None:
        """Something of ours that is no hand-over is refused, and nothing else is raised."""
        assert failure(open_hand_over, SEALER.encrypt(HAND_OVER, claims)).reason == "hand-over"

    def test_private_details_are_no_hand_over(self) -> None:
        """What was encrypted for another purpose does not pass."""
        assert failure(open_hand_over, SEALER.encrypt("session-private", [1, 2, 3, 4, 5])).reason == "hand-over"


class TestState:
    """WeCom's ``state``: letters and digits, at most 128 bytes."""

    def test_new_states_are_letters_and_digits_and_differ(self) -> None:
        """32 letters and digits, never the same twice."""
        states = {new_state(1_800_000_000.9) for _ in range(1000)}

        assert len(states) == 1000
        assert all(re.fullmatch("[A-Za-z0-9]{32}", state) and is_state(state) for state in states)

    def test_states_say_when_they_began(self) -> None:
        """To the second; what is no state of ours never began."""
        assert begun(new_state(1_800_000_000.9)) == 1_800_000_000
        assert begun("A1" * 16) == math.inf

    @pytest.mark.parametrize(
        "text", ["", "A1" * 15, "A1" * 17, STATE[:-1] + "-", STATE + "\n", "é" * 32, "../" + STATE[3:], STATE[:-1] + "\uff11"]
    )
    def test_nothing_else_is_a_state(self, text: str) -> None:
        """Another length or character is no state."""
        assert not is_state(text)


class TestBrowser:
    """One nonce per browser, known before its first cookie arrives."""

    @pytest.mark.parametrize("now", [NOW, NOW + 86400])
    def test_its_cookie_counts(self, now: float) -> None:
        """A browser that has a nonce keeps it, wherever and whenever."""
        assert browser_nonce(SEALER, BROWSER, address="10.0.0.1", user_agent="x", now=now) == BROWSER

    def test_tabs_opened_at_once_agree(self) -> None:
        """Tabs of a browser without cookies get the same nonce within ten minutes."""
        nonces = {
            browser_nonce(SEALER, "", address="10.0.0.1", user_agent="x", now=NOW // 600 * 600 + second)
            for second in (0, 1, 300, 599.9)
        }

        assert len(nonces) == 1
        assert re.fullmatch("[0-9a-f]{32}", nonces.pop())

    @pytest.mark.parametrize(
        "changes",
        [{"address": "10.0.0.2"}, {"user_agent": "y"}, {"now": NOW + 600}, {"sealer": Sealer([Secret("x" * 43)])}],
        ids=["address", "user-agent", "time", "key"],
    )
    def test_others_have_another(self, changes: dict[str, Any]) -> None:
        """Another address, browser, time or key gives another nonce: nobody else can compute it."""
        first: dict[str, Any] = {"sealer": SEALER, "cookie": "", "address": "10.0.0.1", "user_agent": "x", "now": NOW}

        assert browser_nonce(**first) != browser_nonce(**first | changes)

    @pytest.mark.parametrize("cookie", ["x", "0F" * 16, "0f" * 15, "0f" * 17, BROWSER + "\n", "\udcff"])
    def test_a_strange_cookie_does_not_count(self, cookie: str) -> None:
        """What is no nonce of ours is as good as none."""
        assert browser_nonce(SEALER, cookie, address="a", user_agent="\udcff", now=NOW) == browser_nonce(
            SEALER, "", address="a", user_agent="\udcff", now=NOW
        )
