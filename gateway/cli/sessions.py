"""Verbs about sessions: list who signed in, end sessions, block members, let somebody in while WeCom is down."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

from gateway.cli.group import cli, config_option
from gateway.cli.storing import entries, in_store, operator
from gateway.cli.table import local_time, table
from gateway.history import History, Known, client
from gateway.ledger import Store, in_force
from gateway.records import Record
from gateway.session import LONGEST_S, new_id

DAY_S = 86400
HEADING = ("SIGNED IN", "MEMBER", "NAME", "SITE", "FROM", "WITH", "HOW", "STATE", "SESSION")


def _duration(_: click.Context, parameter: click.Parameter, value: str) -> int:
    from gateway.values import READERS, Duration

    try:
        return int(READERS[Duration](value))
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from None


@cli.group()
def sessions() -> None:
    """Who is signed in, and the end of it."""


@sessions.command("list")
@config_option
@click.option("--member", default="", help="Of this member only.")
@click.option("--site", default="", help="At this site only.")
@click.option("--live", is_flag=True, help="Only those that still let somebody in.")
@click.option("--since", default="7d", show_default=True, callback=_duration, help="How long ago at most: 36h, 200d.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def list_(config_path: Path | None, member: str, site: str, since: int, *, live: bool, as_json: bool) -> None:
    """Who signed in when, where from and with what; the newest last."""
    now = time.time()
    history = in_store(config_path, lambda store: _history(store, now - max(since, LONGEST_S)))
    found = [
        known
        for known in history.judged(now)
        if (known.state == "live" if live else known.record.at >= now - since)
        and member.casefold() in ("", known.record.member.casefold())
        and site in ("", known.record.site)
    ]
    if as_json:
        click.echo(json.dumps([_as_json(known) for known in found], indent=1))
    else:
        click.echo("\n".join(table(HEADING, map(_row, found))))


@sessions.command()
@click.argument("session", required=False, default="")
@config_option
@click.option("--member", default="", help="Every session of this member.")
@click.option("--site", default="", help="Every session at this site.")
@click.option("--block", is_flag=True, help="And no sign-in of the member until `sessions unblock`.")
@click.option("--reason", default="", help="For the record.")
def revoke(session: str, config_path: Path | None, member: str, site: str, reason: str, *, block: bool) -> None:
    """End SESSION (its id), or all of a member or of a site; every process obeys within a second.

    With SESSION end those that its browser got from it at other sites, and the one it got SESSION from.

    Whoever may sign in can do so again, inside WeCom by itself; with --block the member cannot.
    """
    if sum(map(bool, (session, member, site))) != 1:
        raise click.UsageError("give one of SESSION, --member and --site")
    if block and not member:
        raise click.UsageError("--block goes with --member")
    now, details = time.time(), {"by": operator()}

    async def work(store: Store) -> tuple[int, str]:
        history = await _history(store, now - LONGEST_S)
        _is_known(history, session, site, _sites(config_path))
        revoked = Record("revoked", now, member, site=site, reason=reason, details=details)
        family = [session, *sorted(history.family(session) - {session})] if session else []
        ended = [revoked._replace(session=each, details=details | history.known(each)) for each in family] or [revoked]
        blocked = [Record("blocked", now, member, reason=reason, details=details)] if block else []
        live = [known for known in history.judged(now) if known.state == "live"]
        under = [known for known in live if any(_falls_under(known, record) for record in ended)]
        await store.append([*ended, *blocked])
        return len(under), store.address

    ended, address = in_store(config_path, work)
    click.echo(f"revoked: {session or member or site}, {ended} live session{'s' * (ended != 1)}{'; blocked' * block}")
    if member and not ended:
        told = "is that the account id (账号) as WeCom has it, and the gateway's ledger?"
        click.echo(f"nobody named {member} is signed in, by the ledger at {address}: {told}", err=True)


@sessions.command()
@config_option
@click.option("--member", required=True, help="Who was blocked: the account id (账号) as WeCom has it.")
@click.option("--reason", default="", help="For the record.")
def unblock(config_path: Path | None, member: str, reason: str) -> None:
    """Let a member sign in again who was blocked."""

    async def work(store: Store) -> None:
        if not (await _history(store, time.time())).standing.blocked(member):
            raise click.ClickException(f"{member} is not blocked")
        await store.append([Record("unblocked", time.time(), member, reason=reason, details={"by": operator()})])

    in_store(config_path, work)
    click.echo(f"unblocked: {member}")


@sessions.command()
@config_option
@click.option("--member", required=True, help="Whose session it will be: the account id (账号) as WeCom has it.")
@click.option("--minutes", type=click.IntRange(1, 24 * 60), default=60, show_default=True, help="How long it lives.")
@click.option("--reason", required=True, help="For the record.")
@click.option("--site", default="", help="At which site; the callback site by default.")
def issue(config_path: Path | None, member: str, minutes: int, reason: str, site: str) -> None:
    """Print a link that signs a member in without WeCom: once, within ten minutes. For when WeCom is down."""
    from gateway.glass import LINK_S, Glass
    from gateway.loading import load
    from gateway.sealing import Sealer

    config, now = load(config_path), time.time()
    where = next((each for each in config.sites if each.name == site), None) if site else config.callback
    if where is None:
        raise click.ClickException(_no_site(site, [each.name for each in config.sites]))
    own = new_id()

    async def work(store: Store) -> tuple[Glass, bool]:
        history = await _history(store, now - 200 * DAY_S)
        if history.standing.blocked(member):
            raise click.ClickException(f"{member} is blocked: `wecom-gateway sessions unblock --member {member}` first")
        last = history.about(member)
        user_id, about = (last.member, last.details) if last else (member, {})
        kept = {key: value for key, value in about.items() if key not in ("how", "of", "issued", "ends")}
        issued = history.standing.issue(user_id, now, site=where.name)
        details = {"minutes": minutes, "by": operator(), "until": issued + LONGEST_S}
        await store.append([Record("break-glass", now, user_id, own, where.name, reason=reason, details=details)])
        glass = Glass(own, int(now) + LINK_S, user_id, where.name, where.origin.host, minutes, issued, kept)
        return glass, last is not None and history.standing.gone(user_id, history.sessions[last.session].issued)

    glass, gone = in_store(config_path, work)
    click.echo(where.origin.url(f"/_wecom/glass/{glass.seal(Sealer(config.signing_keys))}"))
    click.echo(f"for {glass.user_id}, once, within {LINK_S // 60} minutes; to end it: sessions revoke {own}", err=True)
    if not glass.about:
        click.echo("the ledger knows nothing of this member: rules about departments or tags will refuse them", err=True)
    if gone:
        why = f"`wecom-gateway ledger show --member {glass.user_id}` says why"
        click.echo(f"since the last sign-in their sessions were ended ({why}): are they still with the company?", err=True)


async def _history(store: Store, since: float) -> History:
    """What is in force, and the sign-ins since the Unix second *since*."""
    history = History()
    async for records, _ in in_force(store):
        for record in records:
            history.apply(record)
    async for entry in entries(store, after=await store.seek(since)):
        if entry.record.kind in ("signed-in", "renewed", "break-glass"):
            history.apply(entry.record)
    return history


def _sites(config_path: Path | None) -> list[str]:
    from gateway.loading import load

    return [site.name for site in load(config_path).sites]


def _is_known(history: History, session: str, site: str, sites: list[str]) -> None:
    """A name that was mistyped must not pass for something that was ended."""
    if session and not history.has(session):
        raise click.ClickException(f"no session {session} in the ledger; `wecom-gateway sessions list` has their ids")
    if site and site not in sites:
        raise click.ClickException(_no_site(site, sites))


def _no_site(site: str, sites: list[str]) -> str:
    return f"no site is named {site}; there are: {', '.join(sites)}"


def _falls_under(known: Known, revoked: Record) -> bool:
    own = known.record
    return (
        own.session == revoked.session
        or (bool(revoked.member) and own.member.casefold() == revoked.member.casefold())
        or (bool(revoked.site) and own.site == revoked.site)
    )


def _row(known: Known) -> tuple[str, ...]:
    own = known.record
    state = f"live until {local_time(known.ends)}" if known.state == "live" else known.state
    how = str(own.details.get("how", ""))
    return (local_time(own.at), own.member, known.name, own.site, own.address, client(own.browser), how, state, own.session)


def _as_json(known: Known) -> dict[str, Any]:
    own = known.record
    return {
        "session": own.session,
        "member": own.member,
        "name": known.name,
        "site": own.site,
        "signed_in": own.at,
        "ends": known.ends,
        "address": own.address,
        "browser": own.browser,
        "how": own.details.get("how", ""),
        "state": known.state,
    }
