"""Verbs about the ledger as an audit trail: ledger show, ledger verify."""

from __future__ import annotations

import json
import re
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from gateway.cli.group import cli, config_option
from gateway.cli.storing import entries, in_store
from gateway.ledger import LedgerLost, Store
from gateway.ledger.chain import Verified
from gateway.ledger.chain import verify as walk
from gateway.records import KINDS, Entry, Record


class Moment(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """``2026-11-23``, ``2026-11-23T08:30``, or so long ago: ``90m``, ``12h``, ``7d``. Gives Unix seconds."""

    name = "WHEN"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        if ago := re.fullmatch(r"(\d{1,6})([mhd])", str(value)):
            return time.time() - int(ago[1]) * {"m": 60, "h": 3600, "d": 86400}[ago[2]]
        try:
            return datetime.fromisoformat(str(value)).timestamp()
        except (ValueError, OverflowError, OSError):
            self.fail(f"a day like 2026-11-23, a time like 2026-11-23T08:30, or 12h, 7d ago is needed, not {value!r}", param, ctx)


@cli.group()
def ledger() -> None:
    """What happened to anybody's access, and whether the record of it is whole."""


@ledger.command()
@config_option
@click.option("--since", type=Moment(), default=0.0, help="A day, a time, or 12h, 7d ago; all of it by default.")
@click.option("--until", type=Moment(), default=None, help="Likewise.")
@click.option("--member", default="", help="Of this member only.")
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=click.Choice(KINDS),
    metavar="KIND",
    help=f"Of this kind only: {', '.join(KINDS)}; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts and archives.")
def show(
    config_path: Path | None, since: float, until: float | None, member: str, kinds: tuple[str, ...], *, as_json: bool
) -> None:
    """Print the entries, oldest first."""

    def wanted(entry: Entry) -> bool:
        record = entry.record
        return (
            since <= record.at < (until or sys.float_info.max)
            and (not member or member.casefold() in _about(record))
            and (not kinds or record.kind in kinds)
        )

    async def print_all(store: Store) -> None:
        async for entry in entries(store, after=await store.seek(since)):
            if wanted(entry):
                click.echo(_json(entry) if as_json else _line(entry))

    _in_whole_store(config_path, print_all)


@ledger.command()
@config_option
@click.option("--head", "expected", default="", help="The digest of an entry, as printed earlier: it must still be there.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def verify(config_path: Path | None, expected: str, *, as_json: bool) -> None:
    """Walk the chain of digests: exit status 1 where an entry was changed, removed, put in or moved."""
    found: Verified = _in_whole_store(config_path, lambda store: walk(entries(store), expected.strip().lower()))
    missing = bool(expected) and not found.expected
    if as_json:
        click.echo(json.dumps(_result(found, missing=missing)))
    else:
        _say(found, missing=missing)
    if missing or not found.holds:
        sys.exit(1)


def _in_whole_store(config_path: Path | None, work: Any) -> Any:
    try:
        return in_store(config_path, work)
    except LedgerLost:
        raise click.ClickException("the oldest entries were trimmed while they were read; please try again") from None


def _say(found: Verified, *, missing: bool) -> None:
    for entry in found.broken:
        click.echo(f"broken at {_line(entry)}", err=True)
    if found.broken:
        click.echo("a broken entry was changed, or what stood before it was changed, removed, put in or moved", err=True)
    if missing:
        click.echo(
            "the digest given by --head is not in the ledger: entries were removed, or the chain was written anew", err=True
        )
    if found.head is None:
        click.echo("no entries")
    elif found.holds and found.first:
        click.echo(f"{found.count} entries from {_when(found.first)} to {_when(found.head)}: the chain holds")
        click.echo(f"head {found.head.digest}")


def _result(found: Verified, *, missing: bool) -> dict[str, Any]:
    return {
        "entries": found.count,
        "holds": found.holds,
        "head": found.head.digest if found.head else "",
        "expected_found": not missing,
        "broken": [entry.position for entry in found.broken],
    }


def _about(record: Record) -> set[str]:
    """Whom it concerns, in lower case: a session's end and a decision about many name members in their details."""
    details = record.details
    members = details.get("members")
    named = [record.member, details.get("member"), *(members if isinstance(members, list) else ())]
    return {name.casefold() for name in named if isinstance(name, str)}


def _json(entry: Entry) -> str:
    return json.dumps({"position": entry.position, **_plain(entry), "digest": entry.digest})


def _plain(entry: Entry) -> dict[str, Any]:
    mapping = entry.record.mapping()
    return mapping | {"details": dict(mapping["details"])} if "details" in mapping else mapping


def _line(entry: Entry) -> str:
    """For people: times as they are here, and nothing that a terminal would take for a command."""
    rest = {name: value for name, value in _plain(entry).items() if name not in ("at", "kind", "member", "details")}
    rest |= _plain(entry).get("details", {})
    told = " ".join(f"{_printable(name)}={_printable(value)}" for name, value in rest.items())
    who = _printable(entry.record.member) or "-"
    return f"{entry.position} {_when(entry)} {_printable(entry.record.kind)} {who} {told}".rstrip()


def _when(entry: Entry) -> str:
    at = entry.record.at
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if isinstance(at, float) else _printable(at)  # tampered with


def _printable(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
