"""Verb check: are the settings usable, and would this member pass."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gateway.cli.group import cli, config_option
from gateway.cli.table import printable
from gateway.errors import ConfigError, GatewayError

if TYPE_CHECKING:
    from gateway.config import Config
    from gateway.locations import Found
    from gateway.seat import Seat
    from gateway.verdicts import Answer


@cli.command()
@config_option
@click.option("--who", help="A member id: would this member pass, by what WeCom says now?")
@click.option("--rule", help="With --who: a rule's name, or what stands after /_wecom/auth/: department:12/user:lisi.")
@click.option("--uri", help="With --nginx: the rule of the location that answers this address.")
@click.option("--nginx", "nginx_conf", type=click.Path(path_type=Path, dir_okay=False), help="Usually /etc/nginx/nginx.conf.")
@click.option("--host", default="", help="With --uri: the server's name, where there are several; with a port, the one there.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
def check(
    config_path: Path | None,
    who: str | None,
    rule: str | None,
    uri: str | None,
    nginx_conf: Path | None,
    host: str,
    *,
    as_json: bool,
) -> None:
    """Say whether the settings can be used; with --who, whether a member would pass and which part of the rule decides."""
    from gateway.contradictions import warnings
    from gateway.loading import load

    _usage(who, rule, uri, nginx_conf)
    for name in ("wecom_gateway", "gateway.wecom"):
        logging.getLogger(name).addHandler(logging.NullHandler())  # what is logged is said below
    found = _location(nginx_conf, uri, host) if nginx_conf and uri else None
    config = load(config_path)
    if who is None and found is None:
        for warning in warnings(config):
            _say(f"warning: {warning}", err=True)
        _settings(config, as_json=as_json)
    else:
        _judge(config, who, found.rule if found else _bare(rule), found, as_json=as_json)


def _usage(who: str | None, rule: str | None, uri: str | None, nginx_conf: Path | None) -> None:
    if (uri is None) != (nginx_conf is None):
        raise click.UsageError("--uri and --nginx belong together")
    if rule is not None and (who is None or uri is not None):
        raise click.UsageError("--rule needs --who, and no --uri")
    if who is not None and not who.strip():
        raise click.UsageError("--who needs a member id")


def _bare(rule: str | None) -> str | None:
    from gateway.rules import written

    return written(rule) if rule is not None else None


def _location(nginx_conf: Path, uri: str, host: str) -> Found:
    from gateway.locations import CannotTell, find

    try:
        return find(nginx_conf, uri, host)
    except CannotTell as error:
        raise click.ClickException(str(error)) from None


def _settings(config: Config, *, as_json: bool) -> None:
    seat = _run(config, None) if config.tags or config.rules else None
    rules = {name: " or ".join(map(str, seat.asked(name))) for name in config.rules} if seat else {}
    if as_json:
        click.echo(json.dumps(_in_force(config) | {"rules": rules, "problems": list(seat.problems) if seat else []}))
        return
    for site in config.sites:
        hosts = ", ".join(sorted(site.hosts))
        _say(f"site {site.name}: {site.origin}, cookie {site.cookie_name}, hosts {hosts}; account {site.account}")
    _say(f"callback host: {config.callback.origin.netloc} (register exactly this at WeCom)")
    for problem in seat.problems if seat else ():
        _say(f"warning: {problem}", err=True)
    for name, asked in rules.items():
        _say(f"rule {name}: {asked}")


def _in_force(config: Config) -> dict[str, Any]:
    sites = [
        {
            "name": site.name,
            "public_url": str(site.origin),
            "cookie": site.cookie_name,
            "hosts": sorted(site.hosts),
            "account": str(site.account),
        }
        for site in config.sites
    ]
    return {"sites": sites, "callback_host": config.callback.origin.netloc}


def _run(config: Config, who: str | None) -> Seat:
    from gateway.seat import take

    try:
        return asyncio.run(take(config, who, time.time))
    except ConfigError:
        raise
    except GatewayError as error:
        fix = getattr(error, "fix", "")
        raise click.ClickException(f"{error}{f'; to fix: {fix}' if fix else ''}") from None


def _judge(config: Config, who: str | None, rule: str | None, found: Found | None, *, as_json: bool) -> None:
    from gateway.verdicts import judge

    told: dict[str, Any] = {"location": asdict(found) | {"rule": found.rule}} if found else {}
    public = found is not None and found.rule is None
    if who is not None and not public:
        seat = _run(config, who)
        wanted = [rule] if rule is not None else ["", *config.rules]
        answers = [judge(seat.rules, each, seat.who) for each in wanted] if seat.who else [seat.refused(each) for each in wanted]
        told |= {"who": seat.about, "problems": seat.problems, "answers": [asdict(answer) for answer in answers]}
    if as_json:
        click.echo(json.dumps(told))
        return
    if found:
        _say_location(found)
    if "who" in told:
        for problem in seat.problems:
            _say(f"warning: {problem}", err=True)
        _say(seat.line)
        for answer in answers:
            _say_answer(answer)


def _say_location(found: Found) -> None:
    _say(found.server)
    _say(found.location)
    if found.rule is None:
        asked = f"auth_request {found.question} is not ours" if found.question not in ("", "off") else "nobody is asked: public"
        _say(asked)
    else:
        _say(f"rule: {found.rule or 'any member'}")
    for note in found.notes:
        _say(f"note: {note}")


def _say_answer(answer: Answer) -> None:
    shown = answer.rule or "any member"
    _say(f"{shown}: {'passes' if answer.passes else f'refused ({answer.reason})'}{f': {answer.why}' if answer.why else ''}")
    for step in answer.steps:
        _say(f"  {step.verdict:6} {'  ' * step.depth}{step.part}{'  ← decides' if step.decides else ''}")


def _say(line: str, *, err: bool = False) -> None:
    click.echo(printable(line), err=err)
