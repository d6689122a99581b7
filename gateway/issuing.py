"""Issue and revoke the tokens of machines: nothing is given out that the ledger does not hold."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from gateway.accounts import Accounts
from gateway.config import Config
from gateway.errors import Denied, GatewayError, MemberUnknown
from gateway.ledger import Store, in_force
from gateway.member import ACTIVE, NOT_ACTIVE
from gateway.records import Record
from gateway.rules import AUTH, Rules, written
from gateway.standing import Standing
from gateway.tokens import MAX_DAYS, Token, Tokens
from gateway.wecom import WeCom

DAY_S = 86400
ALL = "all"


class NotIssued(GatewayError):
    """There will be no such token; the message says what to change."""

    reason = "not-issued"


@dataclass(frozen=True, slots=True)
class Issued:
    """One token as the ledger tells of it, never the token itself; all times are Unix seconds."""

    id: str
    name: str
    rules: tuple[str, ...]
    site: str  #: empty: every site
    member: str  #: empty: a machine of its own
    issued: int
    ends: int
    by: str  #: who issued it, as the machine knows them
    revoked: bool = False  #: itself, or the member it acts for has lost access since

    def live(self, now: float) -> bool:
        return not self.revoked and now < self.ends


class Register:
    """Every token that was issued, and what stands against it: the ledger up to now."""

    def __init__(self) -> None:
        self.standing = Standing()
        self._issued: dict[str, Issued] = {}
        self._position = ""

    async def follow(self, store: Store) -> None:
        """Take in what *store* holds beyond what was read already."""
        async for records, position in in_force(store, self._position):
            for record in records:
                self._take(record)
            self._position = position

    def all(self) -> list[Issued]:
        """The tokens in the order of the ledger."""
        return [replace(each, revoked=self._revoked(each)) for each in self._issued.values()]

    def live(self, now: float, *, name: str = "", token_id: str = "") -> list[Issued]:
        """Those that open something still, by name or by id, the oldest first."""
        wanted = [each for each in self.all() if each.live(now)]
        return [each for each in wanted if (not name or each.name == name) and (not token_id or each.id == token_id)]

    def _take(self, record: Record) -> None:
        self.standing.apply(record)
        if record.kind == "token-issued" and (token_id := str(record.details.get("id", ""))):
            self._issued.setdefault(token_id, _issued(token_id, record))

    def _revoked(self, token: Issued) -> bool:
        standing = self.standing
        return standing.token_revoked(token.id) or bool(token.member and standing.gone(token.member, token.issued))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the operator asked for."""

    name: str
    rules: tuple[str, ...]  #: as written in nginx, with or without ``/_wecom/auth/``
    days: int
    site: str = ""  #: a site's name, or ``all``; empty: the only one
    member: str = ""
    by: str = ""


async def issue(wanted: Wanted, store: Store, config: Config, tokens: Tokens, wecom: WeCom, *, now: float) -> tuple[Token, str]:
    """Give a new token and its text; it is in the ledger by then.

    Raises NotIssued, a WeComError while the member is looked up, LedgerUnavailable or LedgerBroken.
    """
    register = Register()
    await register.follow(store)
    if taken := register.live(now, name=wanted.name):
        raise NotIssued(
            f"a live token is named {wanted.name!r} already (id {taken[0].id}): choose another name, or revoke it first"
        )
    token = Token(
        id=secrets.token_hex(8),
        name=wanted.name,
        rules=known_rules(config, wanted.rules),
        corp_id=config.corp_id,
        agent_id=config.agent_id,
        site=_site(config, wanted.site),
        issued=int(now),
        ends=int(now) + wanted.days * DAY_S,
    )
    if wanted.member:
        token = await _acting(token, wanted.member, config, wecom, register.standing, now)
    try:
        text = tokens.seal(token)
    except ValueError as error:
        raise NotIssued(str(error)) from None
    await store.append([_record("token-issued", token, now, by=wanted.by)])
    await register.follow(store)
    if (first := register.live(now, name=wanted.name)[0]).id != token.id:
        await store.append([_record("token-revoked", token, now, by=wanted.by)])
        raise NotIssued(f"a token named {wanted.name!r} was issued at the same time (id {first.id})")
    return token, text


async def revoke(store: Store, *, now: float, by: str, name: str = "", token_id: str = "") -> list[Issued]:
    """End all live tokens of that name, or the one of that id, and give them; none is a NotIssued."""
    register = Register()
    await register.follow(store)
    found = register.live(now, name=name, token_id=token_id)
    if not found:
        raise NotIssued(f"no live token is named {name!r}" if name else f"no live token has the id {token_id!r}")
    await store.append([_record("token-revoked", each, now, by=by) for each in found])
    return found


async def issued(store: Store) -> list[Issued]:
    """Every token the ledger tells of, the oldest first."""
    register = Register()
    await register.follow(store)
    return register.all()


def known_rules(config: Config, asked_for: Iterable[str]) -> tuple[str, ...]:
    """The rules as locations ask for them, each once; NotIssued for one that no location can ask for."""
    rules, found = Rules(config.rules), []
    for text in asked_for:
        asked = written(text).strip("/")
        if not asked:
            raise NotIssued("a token opens only locations with a rule of their own, never a bare /_wecom/auth: name the rule")
        try:
            found.append(rules.parse(f"{AUTH}/{quote(asked, safe='/:,@')}").text)
        except Denied as error:
            raise NotIssued(str(error)) from None
    return tuple(dict.fromkeys(found))


async def _acting(token: Token, member_id: str, config: Config, wecom: WeCom, standing: Standing, now: float) -> Token:
    """The same token in the name of a member who may use the app right now."""
    try:
        member = await wecom.member(member_id)
    except MemberUnknown as error:
        raise NotIssued(f"{member_id}: no such member in the app's visible scope (可见范围)") from error
    if member.status != ACTIVE:
        raise NotIssued(f"{member.user_id}: the account is {NOT_ACTIVE.get(member.status, 'not active')}")
    if standing.blocked(member.user_id):
        raise NotIssued(f"{member.user_id} is blocked")
    sites = [token.site] if token.site else [site.name for site in config.sites]
    accounts = {_account(config.accounts, site, member.user_id, config.accounts.attributes(site, member)) for site in sites}
    if len(accounts) > 1:
        raise NotIssued(f"{member.user_id} is called otherwise at each site: issue a token for each, by --site")
    account = accounts.pop()
    return replace(
        token,
        issued=standing.issue(member.user_id, now),
        member=member.user_id,
        member_name=member.name,
        account="" if account == member.user_id else account,
    )


def _account(accounts: Accounts, site: str, user_id: str, attributes: Mapping[str, str]) -> str:
    account = accounts.account(site, user_id, attributes)
    if not account:
        raise NotIssued(f"{user_id} has no account at site {site}: account = {accounts.source(site).text!r}")
    return account


def _site(config: Config, wanted: str) -> str:
    names = [site.name for site in config.sites]
    if wanted in names or (wanted == ALL and len(names) > 1):
        return wanted if wanted in names else ""
    if not wanted and len(names) == 1:
        return names[0]
    what = f"no site is named {wanted!r}" if wanted else "say for which site"
    raise NotIssued(f"--site: {what}; there are: {', '.join(names)}" + (f", or {ALL}" if len(names) > 1 else ""))


def _record(kind: str, token: Token | Issued, now: float, *, by: str) -> Record:
    details: dict[str, Any] = {"token": token.name, "id": token.id, "by": by}
    if kind == "token-issued":
        details |= {"member": token.member, "rules": list(token.rules), "issued": token.issued, "ends": token.ends}
    return Record(kind, now, member=token.member, site=token.site, details=details)


def _issued(token_id: str, record: Record) -> Issued:
    """What *record* says; one of another release may say less."""
    details = record.details
    rules, begun, ends = details.get("rules"), details.get("issued"), details.get("ends")
    return Issued(
        id=token_id,
        name=str(details.get("token", "")),
        rules=tuple(map(str, rules)) if isinstance(rules, list) else (),
        site=record.site,
        member=record.member,
        issued=int(begun if isinstance(begun, int) else record.at),
        ends=int(ends if isinstance(ends, int) else record.at + MAX_DAYS * DAY_S),
        by=str(details.get("by", "")),
    )
