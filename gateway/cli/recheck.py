"""Verbs about members whom the re-check holds: recheck held, confirm, release."""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from gateway.cli.group import cli, config_option
from gateway.cli.storing import in_store, operator
from gateway.cli.table import printable
from gateway.hold import Hold
from gateway.ledger import Store, in_force
from gateway.records import Record


@cli.group()
def recheck() -> None:
    """Members whom WeCom says to be gone, too many at once to believe it."""


@recheck.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def held(config_path: Path | None, *, as_json: bool) -> None:
    """List the members who keep their access until somebody decides."""
    members = in_store(config_path, _held)
    if as_json:
        click.echo(json.dumps(members))
    elif members:
        click.echo("\n".join(map(printable, members)))
    else:
        click.echo("nobody is held", err=True)


@recheck.command()
@click.argument("members", nargs=-1)
@config_option
def confirm(members: tuple[str, ...], config_path: Path | None) -> None:
    """End the access of the members who are held, or of MEMBERS among them."""
    decided = in_store(config_path, lambda store: _decide(store, members, confirmed=True))
    _say(decided, "gone: every session of theirs is over")


@recheck.command()
@click.argument("members", nargs=-1)
@config_option
def release(members: tuple[str, ...], config_path: Path | None) -> None:
    """Let the members who are held stay, or MEMBERS among them."""
    decided = in_store(config_path, lambda store: _decide(store, members, confirmed=False))
    _say(decided, "released: they stay, and are held again if WeCom still says that they are gone")


async def _held(store: Store) -> list[str]:
    hold = Hold()
    async for records, _ in in_force(store):
        for record in records:
            hold.apply(record)
    return sorted(hold.members.values())


async def _decide(store: Store, wanted: tuple[str, ...], *, confirmed: bool) -> list[str]:
    keys = {name.casefold() for name in wanted}
    members = [name for name in await _held(store) if not keys or name.casefold() in keys]
    if strangers := keys - {name.casefold() for name in members}:
        raise click.ClickException(f"not held: {', '.join(sorted(strangers))}; `wecom-gateway recheck held` lists who is")
    now, by = time.time(), f"recheck by {operator()}"
    records = [Record("released", now, details={"members": members, "confirmed": confirmed, "by": by})]
    records += [Record("revoked", now, member=name, reason="confirmed", details={"by": by}) for name in members if confirmed]
    if members:
        await store.append(records)
    return members


def _say(members: list[str], what: str) -> None:
    if not members:
        raise click.ClickException("nobody is held")
    click.echo(f"{len(members)} {what}")
    for name in members:
        click.echo(printable(name))
