"""Break-glass: a session that the operator gives while WeCom does not answer, by a link that opens once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from gateway import admission, cookies, trail
from gateway.asked import Asked
from gateway.errors import Denied, LoginFailed
from gateway.keys import LIVE, Parts
from gateway.ledger import LedgerBroken, LedgerUnavailable
from gateway.login import redirect
from gateway.member import Member
from gateway.people import from_our_page
from gateway.sealing import Forged, Sealer
from gateway.session import Session, moment
from gateway.urls import PREFIX

PURPOSE = "break-glass"
LINK_S = 600


@dataclass(frozen=True, slots=True)
class Glass:
    """What the link says; encrypted, since it names a person."""

    id: str  #: of the session that it becomes: revoking that ends the link, too
    until: int
    user_id: str
    site: str
    host: str
    minutes: int  #: how long the session lives, from its sign-in on; it is never renewed
    issued: int
    about: Mapping[str, Any]  #: of the member, as ``trail.about`` wrote it last

    def seal(self, sealer: Sealer) -> str:
        about = dict(self.about)
        return sealer.encrypt(
            PURPOSE, [self.id, self.until, self.user_id, self.site, self.host, self.minutes, self.issued, about]
        )

    @classmethod
    def open(cls, sealer: Sealer, text: str, *, now: float) -> Glass:
        """Read the link; LoginFailed ``break-glass`` says why it does not hold."""
        try:
            own, until, user_id, site, host, minutes, issued, about = sealer.decrypt(PURPOSE, text)
            glass = cls(str(own), int(until), str(user_id), str(site), str(host), int(minutes), int(issued), dict(about))
        except (Forged, ValueError, TypeError, OverflowError) as error:
            raise LoginFailed("break-glass", message="no link of ours") from error
        if now >= glass.until:
            raise LoginFailed("break-glass", message="the link is older than ten minutes")
        return glass

    def session(self, parts: Parts) -> Session:
        """The session that begins now."""
        about, now = self.about, parts.clock()
        accounts = parts.sessions.accounts
        attributes = {str(key): str(value) for key, value in about.get("attributes", {}).items()}
        ends = int(now) + self.minutes * 60
        return Session(
            id=self.id,
            member=Member(
                self.user_id,
                name=str(about.get("name", "")),
                departments=tuple(map(int, about.get("own", ()))),
                leader_of=tuple(map(int, about.get("leader_of", ()))),
            ),
            corp_id=parts.config.corp_id,
            agent_id=parts.config.agent_id,
            site=self.site,
            issued=self.issued,
            renewed=ends,  # never due
            ends=ends,
            read=max(moment(now), parts.standing.stale_until(self.user_id)),
            account=accounts.account(self.site, self.user_id, attributes),
            departments=tuple(map(int, about.get("departments", ()))),
            tags={int(tag): bool(holds) for tag, holds in about.get("tags", {}).items()},
            attributes=attributes,
        )


async def ask(request: web.Request) -> web.StreamResponse:
    """GET ``/_wecom/glass/…`` asks first: whoever only looks at the link (a chat's preview) does not use it up."""
    parts = request.app[LIVE].now
    asked = Asked.of(request, parts)
    glass = _opened(parts, asked, request)
    return parts.pages.render(
        "glass",
        language=asked.language,
        user_id=glass.user_id,
        name=str(glass.about.get("name", "")),
        minutes=glass.minutes,
        action=f"{PREFIX}/glass/{request.match_info['glass']}",
    )


async def enter(request: web.Request) -> web.StreamResponse:
    """POST ``/_wecom/glass/…``: once, in any process, and only where the record of it was stored."""
    parts = request.app[LIVE].now
    asked = Asked.of(request, parts)
    if not from_our_page(request, asked.origin):
        raise Denied("bad-request", message="a break-glass link was posted by another site")
    glass = _opened(parts, asked, request)
    session = await admission.with_account(parts, glass.session(parts))
    value = parts.sessions.seal(session)
    if reason := parts.standing.ended(session):
        raise LoginFailed(reason)
    if not await parts.ledger.claim(f"{PURPOSE} {glass.id}", glass.until):
        raise LoginFailed("break-glass", message="the link was used already")
    try:
        await parts.ledger.append(trail.sign_in(parts, asked, session, PURPOSE))
    except (LedgerUnavailable, LedgerBroken) as error:
        raise LoginFailed("break-glass", message=f"its use cannot be recorded: {error}") from error
    parts.telemetry.signed_in(PURPOSE)
    response = redirect(asked.origin.url("/"))
    cookies.keep_session(response, asked.site, value, session, int(parts.clock()))
    cookies.signed_in_again(response, asked.site)
    return response


def _opened(parts: Parts, asked: Asked, request: web.Request) -> Glass:
    glass = Glass.open(parts.sealer, request.match_info["glass"], now=parts.clock())
    if (glass.site, glass.host) != (asked.site.name, asked.origin.host):
        raise LoginFailed("break-glass", message="the link is for another site")
    return glass
