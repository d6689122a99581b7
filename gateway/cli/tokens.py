"""Verbs for machines' tokens: issue, list, revoke; they need the ledger's store, not a running gateway."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gateway.cli.group import cli, config_option
from gateway.cli.storing import in_store, operator
from gateway.cli.table import local_time, table

if TYPE_CHECKING:
    from gateway.issuing import Issued, Wanted
    from gateway.ledger import Store
    from gateway.tokens import Token

HEADING = ("NAME", "ID", "STATE", "RULES", "SITE", "MEMBER", "ISSUED", "ENDS", "BY")
T = TypeVar("T")


@cli.group()
def token() -> None:
    """Tokens for machines: scripts, CI, git, WebDAV."""


def _name(_: click.Context, __: click.Parameter, value: str) -> str:
    from gateway.values import READERS, Name

    try:
        return str(READERS[Name](value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


as_json = click.option("--json", "as_json", is_flag=True, help="For scripts.")


@token.command("issue")
@click.option("--name", required=True, callback=_name, help="What to call it; the application sees token:NAME.")
@click.option("--rule", "rules", required=True, multiple=True, help="A rule as nginx has it behind /_wecom/auth/; repeatable.")
@click.option("--days", default=90, show_default=True, type=click.IntRange(1, 366), help="How long it lives.")
@click.option("--member", default="", help="A member in whose name it acts; it ends with that member's access.")
@click.option("--site", default="", help="The site it is for, or all; needed with several.")
@as_json
@config_option
def issue(config_path: Path | None, *, as_json: bool, **asked: Any) -> None:
    """Print a new token, this once; exit 0 only when it is in the ledger."""
    from gateway.issuing import Wanted

    wanted = Wanted(**asked, by=operator())
    made, text = _said(config_path, lambda store: _issue(config_path, store, wanted))
    about = {"id": made.id, "name": made.name, "rules": list(made.rules), "site": made.site, "member": made.member}
    if as_json:
        click.echo(json.dumps({"token": text} | about | {"issued": made.issued, "ends": made.ends}))
    else:
        click.echo(f"{made.name}, id {made.id}, until {local_time(made.ends)}; it is shown this once:", err=True)
        click.echo(text)


async def _issue(config_path: Path | None, store: Store, wanted: Wanted) -> tuple[Token, str]:
    from aiocache import SimpleMemoryCache

    from gateway.assembly import http_client, wecom_client
    from gateway.issuing import issue
    from gateway.loading import load
    from gateway.sealing import Sealer
    from gateway.standing import Standing
    from gateway.tokens import Tokens

    config = load(config_path)
    sealer = Sealer(config.signing_keys)
    tokens = Tokens(sealer, Standing(), corp_id=config.corp_id, agent_id=config.agent_id, clock=time.time)
    async with http_client(config) as http:
        wecom = wecom_client(config, http, SimpleMemoryCache(), time.time)
        try:
            return await issue(wanted, store, config, tokens, wecom, now=time.time())
        finally:
            await wecom.close()


@token.command("list")
@as_json
@config_option
def list_tokens(config_path: Path | None, *, as_json: bool) -> None:
    """Every token that was issued, and whether it still opens anything."""
    from gateway.issuing import issued

    now = time.time()
    found = _said(config_path, issued)
    if as_json:
        click.echo(json.dumps([asdict(each) | {"live": each.live(now)} for each in found]))
        return
    click.echo("\n".join(table(HEADING, (_row(each, now) for each in found))))


@token.command("revoke")
@click.option("--name", default="", help="All live tokens of this name.")
@click.option("--id", "token_id", default="", help="The one with this id.")
@as_json
@config_option
def revoke(config_path: Path | None, name: str, token_id: str, *, as_json: bool) -> None:
    """End a token at once; exit 0 only when that is in the ledger."""
    from gateway import issuing

    if bool(name) is bool(token_id):
        raise click.UsageError("give either --name or --id")
    ended = _said(config_path, lambda store: issuing.revoke(store, now=time.time(), by=operator(), name=name, token_id=token_id))
    if as_json:
        click.echo(json.dumps({"revoked": [{"name": each.name, "id": each.id} for each in ended]}))
        return
    for each in ended:
        click.echo(f"revoked {each.name}, id {each.id}")


def _said(config_path: Path | None, work: Callable[[Store], Coroutine[None, None, T]]) -> T:
    """Do *work* with the store of the settings; what is refused is one sentence and exit status 1."""
    from gateway.errors import ConfigError, GatewayError

    try:
        return in_store(config_path, work)
    except ConfigError:
        raise
    except GatewayError as error:
        raise click.ClickException(str(error)) from None


def _row(each: Issued, now: float) -> tuple[str, ...]:
    state = "live" if each.live(now) else "revoked" if each.revoked else "expired"
    who = (" ".join(each.rules), each.site or "all", each.member)
    return (each.name, each.id, state, *who, local_time(each.issued), local_time(each.ends), each.by)
