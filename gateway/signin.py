"""The sign-in in progress: it has no store, but a signed cookie under its own callback path."""

from __future__ import annotations

import math
import re
import secrets
import string
from dataclasses import dataclass
from typing import Any

from gateway.errors import LoginFailed
from gateway.sealing import Forged, Sealer
from gateway.urls import CALLBACK

SIGN_IN = "sign-in"
BEGIN = "begin"
HAND_OVER = "hand-over"
LIFETIME_S = 600
HAND_OVER_S = 60
BROWSER_BUCKET_S = 600
MAX_COOKIE_BYTES = 3800

_ALPHABET = string.ascii_letters + string.digits
_STATE = re.compile(r"[A-Za-z0-9]{32}")
_NONCE = re.compile(r"[0-9a-f]{32}")
_NOT_SIGNED = "the cookie of this sign-in was signed by none of our signing_keys: do all processes have the same?"


@dataclass(frozen=True, slots=True)
class SignIn:
    """What is needed to come back: made when a sign-in starts, read in its callback; ``started`` in Unix seconds."""

    state: str
    site: str
    host: str
    return_to: str  #: absolute URL of the page first asked for
    browser: str  #: the browser nonce it belongs to
    started: int
    again: bool = False  #: the person asked to sign in anew: a session at hand does not count
    onward: Begin | None = None  #: at the callback host: the sign-in at another host that this one is for

    @property
    def path(self) -> str:
        return f"{CALLBACK}/{self.state}"

    def seal(self, sealer: Sealer) -> str:
        return sealer.sign(
            SIGN_IN,
            [
                self.state,
                self.site,
                self.host,
                self.return_to,
                self.browser,
                self.started,
                int(self.again),
                self.onward.claims() if self.onward else None,
            ],
        )

    @classmethod
    def open(cls, sealer: Sealer, value: str, *, state: str, browser: str, now: float) -> SignIn:
        """Read the cookie of sign-in *state*; LoginFailed ``other-browser`` or ``sign-in-expired`` says why it does not hold."""
        try:
            *texts, started, again, onward = sealer.verify(SIGN_IN, value)
            own, site, host, return_to, bound_to = map(str, texts)
            sign_in = cls(own, site, host, return_to, bound_to, int(started), bool(again), Begin.of(onward) if onward else None)
        except (Forged, ValueError, TypeError, OverflowError) as error:
            raise LoginFailed("other-browser", message=_NOT_SIGNED) from error
        if sign_in.state != state or sign_in.browser != browser:
            raise LoginFailed("other-browser", message="the sign-in was started by another browser", return_to=return_to)
        if now >= sign_in.started + LIFETIME_S:
            raise LoginFailed("sign-in-expired", return_to=return_to)
        return sign_in


@dataclass(frozen=True, slots=True)
class Begin:
    """What a site's host tells the callback host: bring this person back to me; travels signed, in a URL of ours."""

    site: str
    host: str
    state: str
    again: bool
    until: int
    return_to: str = ""  #: only to offer a way back where the sign-in fails

    def claims(self) -> list[Any]:
        return [self.site, self.host, self.state, int(self.again), self.until, self.return_to]

    @classmethod
    def of(cls, claims: Any) -> Begin:
        site, host, state, again, until, return_to = claims
        return cls(str(site), str(host), str(state), bool(again), int(until), str(return_to))

    def seal(self, sealer: Sealer) -> str:
        return sealer.sign(BEGIN, self.claims())

    @classmethod
    def open(cls, sealer: Sealer, text: str, *, now: float) -> Begin:
        try:
            begin = cls.of(sealer.verify(BEGIN, text))
        except (Forged, ValueError, TypeError, OverflowError) as error:
            raise LoginFailed("bad-request", message="no hand-over request of ours") from error
        if now >= begin.until:
            raise LoginFailed("sign-in-expired", return_to=begin.return_to)
        return begin


@dataclass(frozen=True, slots=True)
class HandOver:
    """A session on its way from the callback host to the host it is for; encrypted, 60 s, once."""

    id: str
    until: int
    host: str
    state: str
    session: Any  #: what :func:`gateway.claims.claims_of` gives
    of: str = ""  #: id of the session at the callback host that it was made from

    def seal(self, sealer: Sealer) -> str:
        return sealer.encrypt(HAND_OVER, [self.id, self.until, self.host, self.state, self.session, self.of])

    @classmethod
    def open(cls, sealer: Sealer, text: str, *, host: str, state: str, now: float) -> HandOver:
        try:
            own, until, for_host, for_state, session, of = sealer.decrypt(HAND_OVER, text)
            hand_over = cls(str(own), int(until), str(for_host), str(for_state), session, str(of))
        except (Forged, ValueError, TypeError, OverflowError) as error:
            raise LoginFailed("hand-over", message="no hand-over of ours") from error
        if (hand_over.host, hand_over.state) != (host, state):
            raise LoginFailed("hand-over", message="the hand-over is for another host or sign-in")
        if now >= hand_over.until:
            raise LoginFailed("hand-over", message="the hand-over is older than 60 s")
        return hand_over


def new_state(now: float) -> str:
    """32 letters and digits, WeCom allows no others (document 91022): when it began (Unix seconds), then chance."""
    return f"{int(now):010d}" + "".join(secrets.choice(_ALPHABET) for _ in range(22))


def begun(state: str) -> float:
    """When the sign-in *state* began by its own word, which nobody signed: good for saying why its cookie is gone."""
    return int(state[:10]) if state[:10].isdecimal() else math.inf


def is_state(text: str) -> bool:
    return _STATE.fullmatch(text) is not None


def browser_nonce(sealer: Sealer, cookie: str, *, address: str, user_agent: str, now: float) -> str:
    """The nonce of this browser: its cookie's, else one that forty tabs opened at once agree on."""
    if _NONCE.fullmatch(cookie):
        return cookie
    return sealer.digest("browser", f"{address}|{user_agent}|{int(now // BROWSER_BUCKET_S)}")
