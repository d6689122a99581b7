"""A session on the wire: its claims by position, written and read."""

from __future__ import annotations

import sys
from typing import Any

from gateway.accounts import Accounts
from gateway.member import ACTIVE, Member
from gateway.quick import quick
from gateway.session import NO_ATTRIBUTES, NO_TAGS, Session

VERSION = 2
READABLE_VERSION = 3  #: release N reads N+1, so that a rollback signs nobody out
OLDEST_VERSION = 2  #: 1 was never released, and its times were others

_member, _session = quick(Member), quick(Session)


def claims_of(session: Session) -> tuple[Any, Any]:
    """What anybody may read in a cookie, by position, and what only we: a new claim goes to the end.

    It is as short as it may be, for nginx and the check go through every letter: times are told from ``issued`` on, ``read``
    in milliseconds; of ``departments`` the first are the member's own, so many.
    """
    member, issued, departments = session.member, session.issued, session.departments
    own = len(member.departments)
    private = [member.email, member.mobile, member.avatar, dict(session.attributes)]
    claims = [
        VERSION,
        session.id,
        member.user_id,
        session.corp_id,
        session.agent_id,
        session.site,
        issued,
        session.renewed - issued,
        session.ends - issued,
        round((session.read - issued) * 1000),
        member.name,
        departments,
        own if departments[:own] == member.departments else member.departments,
        member.leader_of,
        member.position,
        member.alias,
        {tag: int(holds) for tag, holds in session.tags.items()},
        int(session.partial),
    ]
    return claims, private if any(private) else None


def session_of(claims: Any, accounts: Accounts) -> Session:
    """The session that :func:`claims_of` told of, here or in another release; what is none raises whatever is met first."""
    said, private = claims
    version, own_id, user_id, corp_id, agent_id, site, *more = said
    if not OLDEST_VERSION <= int(version) <= READABLE_VERSION:
        raise ValueError("a version this release cannot read")
    issued, renewed, ends, read, name, departments, own, leader_of, position, alias, tags, partial, *_ = more
    email, mobile, avatar, attributes, *_ = private or ("", "", "", {})
    user_id, site, issued, departments = str(user_id), sys.intern(str(site)), int(issued), tuple(map(int, departments))
    attributes = {str(key): str(value) for key, value in attributes.items()} if attributes else NO_ATTRIBUTES
    member = _member(
        user_id,
        str(name),
        ACTIVE,
        departments[:own] if isinstance(own, int) else tuple(map(int, own)),
        tuple(map(int, leader_of)),
        str(position),
        str(alias),
        str(email),
        str(mobile),
        str(avatar),
        NO_ATTRIBUTES,
    )
    return _session(
        str(own_id),
        member,
        sys.intern(str(corp_id)),
        int(agent_id),
        site,
        issued,
        issued + later if (later := int(renewed)) else issued,  # one object: a hundred thousand sessions are remembered
        issued + int(ends),
        (issued * 1000 + int(read)) / 1000,
        accounts.account(site, user_id, attributes),
        departments,
        {int(tag): bool(holds) for tag, holds in tags.items()} if tags else NO_TAGS,
        bool(partial),
        attributes,
    )
