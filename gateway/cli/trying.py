"""Verbs to try things with, without WeCom: sandbox, demo."""

from __future__ import annotations

from pathlib import Path

import click

from gateway.cli.group import cli
from gateway.errors import ConfigError


@cli.command()
@click.option("--port", default=9190, show_default=True, help="WeCom's API and pages.")
@click.option("--control-port", default=9191, show_default=True, help="Control by JSON: GET /_sandbox/ lists what there is.")
@click.option(
    "--domain",
    default="localhost:8080",
    show_default=True,
    help="The app's trusted domain: host[:port] of the callback.",
)
def sandbox(port: int, control_port: int, domain: str) -> None:
    """Run a local WeCom to try things against; loopback only."""
    from gateway.sandbox import Sandbox, run

    def ready(running: Sandbox) -> None:
        click.echo(f"WeCom for you alone: {running.url}\ncontrol: {running.control_url}")

    try:
        run(port=port, control_port=control_port, oauth_domain=domain, ready=ready)
    except OSError as error:
        raise ConfigError([f"--port, --control-port: {error.strerror or error}"]) from None


@cli.command()
@click.option("--port", default=8080, show_default=True, type=click.IntRange(1, 65535), help="What browsers open.")
@click.option("--sandbox-port", default=9190, show_default=True, type=click.IntRange(1, 65535), help="The sandbox WeCom.")
@click.option("--control-port", default=9191, show_default=True, type=click.IntRange(1, 65535), help="Its control.")
@click.option("--check-port", default=9180, show_default=True, type=click.IntRange(1, 65535), help="The gateway: check.")
@click.option("--pages-port", default=9181, show_default=True, type=click.IntRange(1, 65535), help="The gateway: pages.")
@click.option("--ops-port", default=9182, show_default=True, type=click.IntRange(1, 65535), help="The gateway: ops.")
@click.option("--app-port", default=9183, show_default=True, type=click.IntRange(1, 65535), help="The legacy app.")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep settings, keys, nginx.conf and logs in this folder; else in a temporary one.",
)
@click.option("--check", "check_only", is_flag=True, help="Walk the chain once, say what holds, and end.")
def demo(port: int, state: Path | None, *, check_only: bool, **others: int) -> None:
    """Try everything on this machine: sandbox WeCom, gateway, nginx and things to protect, on loopback, without root."""
    from gateway.demo import CannotRun, Ports, start

    ports = Ports(site=port, **{name.removesuffix("_port"): number for name, number in others.items()})
    try:
        start(ports, state, check=check_only, say=click.echo)
    except CannotRun as error:
        raise click.ClickException(str(error)) from None
