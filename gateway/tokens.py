"""Tokens of machines: signed by us, checked in memory like a session, and let in only where their own rule names the location's.

A token travels as ``Authorization: Bearer wgt_…``, or as the password of HTTP Basic for programs that know nothing else;
nginx tells the two apart from the app's own credentials (``http.conf``) and passes on nothing but ours.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gateway.accounts import Accounts, Holders
from gateway.errors import Denied, SignInNeeded
from gateway.member import Member, identity
from gateway.presence import Presence
from gateway.proof import Proof, Prover
from gateway.rules import Rule
from gateway.sealing import Forged, Sealer
from gateway.session import Seen
from gateway.standing import LONGEST_TOKEN_S, Standing

PREFIX = "wgt_"
PURPOSE = "token"
KIND = "token"
VERSION = 1
READABLE_VERSION = 2  #: release N reads N+1, so that a rollback ends no token
MAX_BYTES = 1000
"""``http.conf`` passes on 2000 characters: one of these as a password, in base64, and a long user name."""
MAX_CREDENTIALS = 2100
REMEMBERED = 1000
MAX_DAYS = LONGEST_TOKEN_S // 86400


@dataclass(frozen=True, slots=True)
class Token:
    """What one token says; all times are Unix seconds."""

    id: str
    name: str
    rules: tuple[str, ...]  #: each as it stands behind ``/_wecom/auth/`` in nginx (``Rule.text``)
    corp_id: str
    agent_id: int
    site: str  #: empty: every site of the app
    issued: int
    ends: int
    member: str = ""  #: id of the member it acts for, in WeCom's stored spelling; empty: a machine of its own
    member_name: str = ""
    account: str = ""  #: that member's

    @property
    def user_id(self) -> str:
        """What the app is told: a colon cannot occur in a member's id."""
        return self.member or f"token:{self.name}"


@dataclass(frozen=True, slots=True)
class Known:
    """A token whose signature was genuine, and the headers that announce it, made once."""

    token: Token
    rules: frozenset[str]
    identity: str  #: as :func:`gateway.member.identity` packs it
    proof: Proof | None = None  #: for the site that it is used at
    acting: Seen | None = None  #: the member it acts for


@dataclass(frozen=True, slots=True)
class _Announced:
    """A token as :func:`gateway.member.identity` wants it: no department, no detail."""

    member: Member
    corp_id: str
    account: str
    departments: tuple[int, ...] = ()


class Tokens:
    """Seal the tokens of one app (corp and agent), and say who comes with one.

    The memory says only "genuine signature, these claims"; end, revocation, site and rule are looked at on every request.
    Refusals are not remembered, so garbage cannot grow it.
    """

    def __init__(
        self,
        sealer: Sealer,
        standing: Standing,
        *,
        corp_id: str,
        agent_id: int,
        clock: Callable[[], float],
        raw_headers: bool = False,
        prover: Prover | None = None,
        presence: Presence | None = None,
        accounts: Accounts | None = None,
        holders: Holders | None = None,
    ) -> None:
        self._accounts = accounts or Accounts({})
        self._holders = holders or Holders()
        self._prover = prover
        self._presence = Presence() if presence is None else presence
        self._sealer = sealer
        self._standing = standing
        self._app = (corp_id, agent_id)
        self._clock = clock
        self._raw_headers = raw_headers
        self._known: dict[tuple[str, str], Known] = {}

    def seal(self, token: Token) -> str:
        """Give the text of *token*, ``wgt_`` and ``[A-Za-z0-9_.-]``; ValueError when it is longer than :data:`MAX_BYTES`."""
        text = PREFIX + self._sealer.sign(PURPOSE, _claims(token))
        if len(text) > MAX_BYTES:
            raise ValueError(f"the token takes {len(text)} bytes of {MAX_BYTES}: give it fewer rules, or rules with names")
        return text

    def seen(self, credentials: str, *, site: str, rule: Rule) -> Known:
        """Give the token in *credentials* (scheme and all) if it opens *rule* at *site* right now.

        Else SignInNeeded ``token-forged``, ``token-expired``, ``token-revoked``, ``unverified``; Denied ``other-site``,
        ``no-account``, ``rule``.
        """
        known = self._known.get((site, credentials)) or self._found(site, credentials)
        token = known.token
        if self._clock() >= token.ends:
            raise SignInNeeded("token-expired")
        if self._standing.token_revoked(token.id):
            raise SignInNeeded("token-revoked")
        if known.acting:
            self._act(known.acting)
        if token.site and token.site != site:
            raise Denied("other-site", message=f"token {token.name} is for site {token.site}, not for {site}")
        if known.acting:
            self._account_kept(token, site)
        if not rule.text or rule.text not in known.rules:  # the bare /_wecom/auth has no text
            raise Denied("rule", rule=rule.text)
        return known

    def __len__(self) -> int:
        return len(self._known)

    def _act(self, acting: Seen) -> None:
        """Return while the member may be here; who is never seen otherwise is read in the background because of this."""
        if self._standing.gone(acting.user_id, acting.issued):
            raise SignInNeeded("token-revoked")
        if acting.read < self._presence.unread_before and self._presence.unverified(acting):
            raise SignInNeeded("unverified")
        self._presence.note(acting)

    def _account_kept(self, token: Token, site: str) -> None:
        """Denied ``no-account`` where the account that *token* announces is another member's."""
        attribute = self._accounts.source(site).attribute
        holder = self._holders.holder(attribute, token.account or token.member) if attribute else ""
        if holder and holder.casefold() != token.member.casefold():
            message = f"token {token.name} acts for {token.member}, whose account {token.account!r} is {holder}'s by now"
            raise Denied("no-account", message=message)

    def _found(self, site: str, credentials: str) -> Known:
        token = self.genuine(carried(credentials))
        member = Member(token.user_id, token.member_name or token.name)
        announced = _Announced(member, token.corp_id, token.account or token.user_id)
        packed = identity(announced, raw=self._raw_headers, kind=KIND)
        proof = self._prover.proof(site, announced, kind=KIND, ends=token.ends) if self._prover else None
        known = Known(token, frozenset(token.rules), packed, proof, _acting(token) if token.member else None)
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[site, credentials] = known
        return known

    def genuine(self, text: str) -> Token:
        """Give the token in *text* whatever its end and site, or raise SignInNeeded ``token-forged``, Denied ``other-site``."""
        if not text.startswith(PREFIX) or len(text) > MAX_BYTES:
            raise SignInNeeded("token-forged")
        try:
            token = _parsed(self._sealer.verify(PURPOSE, text.removeprefix(PREFIX)))
        except (Forged, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise SignInNeeded("token-forged") from error
        if (token.corp_id, token.agent_id) != self._app:
            raise Denied("other-site", message=f"token {token.name} is for another app: {token.corp_id}, {token.agent_id}")
        return token


def _acting(token: Token) -> Seen:
    """The member of *token* as one who is here, of no site: no reading finds that its data has changed."""
    times = token.issued, token.issued, token.ends, token.issued
    return Seen(token.id, token.member, token.member.casefold(), "", *times, (), (), {}, partial=False, identity="")


def carried(credentials: str) -> str:
    """The token in the value of an Authorization header; whatever else it holds gives a text that is no token."""
    scheme, _, given = credentials.partition(" ")
    if len(credentials) > MAX_CREDENTIALS or scheme.lower() not in ("bearer", "basic"):
        return ""
    given = given.strip(" ")
    if scheme.lower() == "bearer":
        return given
    try:
        return binascii.a2b_base64(given.encode("ascii"), strict_mode=True).decode("latin-1").partition(":")[2]
    except ValueError:
        return ""


def _claims(token: Token) -> dict[str, Any]:
    claims: dict[str, Any] = {
        "v": VERSION,
        "i": token.id,
        "n": token.name,
        "r": list(token.rules),
        "c": token.corp_id,
        "a": token.agent_id,
        "t": [token.issued, token.ends],
    }
    optional = {"s": token.site, "m": token.member, "M": token.member_name, "o": token.account}
    return claims | {key: value for key, value in optional.items() if value}


def _parsed(claims: Any) -> Token:
    if not 1 <= int(claims["v"]) <= READABLE_VERSION:
        raise ValueError("a version this release cannot read")
    issued, ends = map(int, claims["t"])
    return Token(
        id=str(claims["i"]),
        name=str(claims["n"]),
        rules=tuple(map(str, claims["r"])),
        corp_id=str(claims["c"]),
        agent_id=int(claims["a"]),
        site=str(claims.get("s", "")),
        issued=issued,
        ends=ends,
        member=str(claims.get("m", "")),
        member_name=str(claims.get("M", "")),
        account=str(claims.get("o", "")),
    )
