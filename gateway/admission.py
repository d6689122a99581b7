"""Whom WeCom vouches for: from an OAuth code to a member who may have a session, or a LoginFailed that says why not."""

from __future__ import annotations

import logging
from dataclasses import replace

from gateway.accounts import Source, same
from gateway.errors import CodeSpent, LoginFailed, MemberUnknown, WeComError
from gateway.keys import Parts
from gateway.member import ACTIVE, NOT_ACTIVE, Member
from gateway.records import Record
from gateway.session import Session, moment, new_id
from gateway.snapshot import Placed

log = logging.getLogger(__name__)

_DETAILS_BY_TICKET = ("email", "mobile", "avatar")


async def session_for(parts: Parts, code: str, *, site: str, address: str, onward: bool = False) -> Session:
    """Exchange *code*, brought from *address*, for a new session at *site*; raises LoginFailed or a WeComError.

    *onward*: the sign-in is for another site; then the member needs no account at this one.
    """
    if parts.brake.stops(address):
        raise LoginFailed("paused", message="too many bad codes in the last minute")
    began = parts.clock()
    try:
        visitor = await parts.wecom.exchange(code)
    except CodeSpent as error:
        parts.brake.bad_code(address)
        raise LoginFailed("code-spent", message=str(error)) from error
    user_id = _member_id(visitor.user_id)
    if parts.standing.blocked(user_id):
        raise LoginFailed("blocked", user_id=user_id)
    since = parts.standing.stale_until(user_id)
    member = await read(parts, user_id)
    member = await with_ticket(parts, member, visitor.user_ticket)
    placed = await parts.directory.placed(member, after=since)
    session = new_session(parts, member, placed, site=site, began=began, since=since)
    return await with_or_without_account(parts, session) if onward else await with_account(parts, session)


async def read(parts: Parts, user_id: str, *, timeout_s: float | None = None) -> Member:
    """Read a member who may use the app: in its visible scope and active; else LoginFailed with the reason."""
    try:
        member = await parts.wecom.member(user_id, timeout_s=timeout_s)
    except MemberUnknown as error:
        raise LoginFailed("out-of-scope", message=str(error), user_id=user_id) from error
    if member.status != ACTIVE:
        raise LoginFailed(NOT_ACTIVE.get(member.status, "disabled"), user_id=user_id)
    return member


async def with_ticket(parts: Parts, member: Member, user_ticket: str) -> Member:
    """Add the details that the member consented to; without them the sign-in goes on."""
    wanted = set(parts.config.details) & set(_DETAILS_BY_TICKET)
    if not user_ticket or not wanted:
        return member
    try:
        details = await parts.wecom.details(user_ticket)
    except WeComError as error:
        log.warning("no details for %s: %s", member.user_id, error)
        return member
    if details.user_id.casefold() != member.user_id.casefold():
        log.warning("no details for %s: WeCom told those of another member", member.user_id)
        return member
    return replace(
        member,
        email=details.email or details.biz_mail or member.email,
        mobile=details.mobile or member.mobile,
        avatar=details.avatar or member.avatar,
    )


def asked_for(parts: Parts, member: Member) -> Member:
    """Leave out what the settings do not ask for."""
    wanted = parts.config.details
    return replace(
        member,
        position=member.position if "position" in wanted else "",
        alias=member.alias if "alias" in wanted else "",
        email=member.email if "email" in wanted else "",
        mobile=member.mobile if "mobile" in wanted else "",
        avatar=member.avatar if "avatar" in wanted else "",
    )


def new_session(parts: Parts, member: Member, placed: Placed, *, site: str, began: float, since: float = 0) -> Session:
    """Make the session of a sign-in that WeCom was asked about from *began* (Unix seconds) on.

    *since* is what :meth:`Standing.stale_until` gave before the member was read, *placed* where the member stands.
    """
    issued, renewed = parts.standing.issue(member.user_id, began, site=site), int(began)
    accounts = parts.sessions.accounts
    attributes = accounts.attributes(site, member)
    session = Session(
        id=new_id(),
        member=asked_for(parts, member),
        corp_id=parts.config.corp_id,
        agent_id=parts.config.agent_id,
        site=site,
        issued=issued,
        renewed=renewed,
        ends=parts.sessions.lifetimes.ends(issued, renewed),
        read=max(moment(began), since),
        account=accounts.account(site, member.user_id, attributes),
        departments=placed.departments,
        tags=placed.tags,
        partial=placed.partial,
        attributes=attributes,
    )
    return parts.sessions.lifetimes.put_off(session, renewed) if placed.partial else session


async def with_account(parts: Parts, session: Session) -> Session:
    """The session of a member who has an account at its site, and nobody else has it; else LoginFailed."""
    accounts, user_id = parts.sessions.accounts, session.user_id
    source = accounts.source(session.site)
    if not session.account:
        if not accounts.looked_at(session.site, session.attributes):
            raise LoginFailed("wecom-unreachable", message=f"the account of {user_id} cannot be read")
        message = f"{user_id} has no account at {session.site} that can be used: account = {source.text!r}"
        missing = source.attribute.removeprefix("extattr:")
        raise LoginFailed("no-account", message=message, user_id=user_id, missing=missing)
    if source.attribute:
        await _hold(parts, source, session)
    return session


async def _hold(parts: Parts, source: Source, session: Session) -> None:
    """Note who has the account; LoginFailed ``account-taken`` if that is somebody else."""
    user_id, account = session.user_id, session.account
    holder = parts.holders.holder(source.attribute, account)
    if holder.casefold() == user_id.casefold():
        return
    if holder and await _still_has(parts, holder, session):
        message = f"{source.text} {account!r} is {holder}'s already: correct one of the two in WeCom's address book"
        raise LoginFailed("account-taken", message=message, user_id=user_id)
    details = {"attribute": source.attribute, "account": account, "instead_of": holder}
    record = Record("account", parts.clock(), member=user_id, details=details)
    parts.holders.heard(record)
    parts.ledger.note(record)
    if holder:  # whose sessions still say it is theirs
        parts.ledger.note(Record("stale", parts.clock(), member=holder))


async def with_or_without_account(parts: Parts, session: Session) -> Session:
    """The same on the way to another site: without an account of its own the session lets nobody in at its site."""
    try:
        return await with_account(parts, session)
    except LoginFailed as error:
        log.warning("%s: %s", error.reason, error)
        attribute = parts.sessions.accounts.source(session.site).attribute
        unusable = {attribute: ""} if attribute else {}
        return replace(session, account="", attributes={**session.attributes, **unusable})


async def _still_has(parts: Parts, holder: str, session: Session) -> bool:
    """Whether *holder* is still a member with the account of *session*; in doubt, yes."""
    accounts = parts.sessions.accounts
    try:
        member = await parts.wecom.member(holder)
    except MemberUnknown:
        return False
    except WeComError as error:
        log.warning("cannot read %s, who holds the account of %s: %s", holder, session.user_id, error)
        return True
    account = accounts.account(session.site, member.user_id, accounts.attributes(session.site, member))
    return member.status == ACTIVE and same(account) == same(session.account)


def _member_id(user_id: str) -> str:
    if not user_id:
        raise LoginFailed("not-a-member", message="WeCom knows the visitor by openid only")
    if "/" in user_id:
        raise LoginFailed("linked-corp", user_id=user_id)  # a member of a linked corp: CorpId/userid
    return user_id
