"""The command line: one command per verb."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gateway import __version__
from gateway.errors import ConfigError


def config_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path),
        envvar="WECOM_GATEWAY_CONFIG",
        help="The TOML file with the settings; WECOM_GATEWAY_CONFIG names it too.",
    )(function)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="wecom-gateway")
def cli() -> None:
    """WeCom (企业微信) single sign-on for nginx auth_request."""


@cli.command()
@config_option
def serve(config_path: Path | None) -> None:
    """Run the gateway until SIGTERM; SIGHUP reads the settings again."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a reload that comes before there is anything to reload
    from gateway import app
    from gateway.config import load

    config = load(config_path)
    _log_to_stderr(config.log_level)
    _run(app.serve(lambda: load(config_path)))


@cli.command()
@config_option
def check(config_path: Path | None) -> None:
    """Read the settings and say whether they can be used."""
    from gateway.config import load, warnings

    config = load(config_path)
    for warning in warnings(config):
        click.echo(f"warning: {warning}", err=True)
    for site in config.sites:
        click.echo(f"site {site.name}: {site.origin}, cookie {site.cookie_name}, hosts {', '.join(sorted(site.hosts))}")
    click.echo(f"callback host: {config.callback.origin.netloc} (register exactly this at WeCom)")


@cli.command()
def keygen() -> None:
    """Print a new signing key."""
    click.echo(secrets.token_urlsafe(32))


@cli.group()
def nginx() -> None:
    """The snippets for nginx."""


@nginx.command("install")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@config_option
def nginx_install(directory: Path, config_path: Path | None) -> None:
    """Write the snippets to DIRECTORY, usually /etc/nginx/wecom; with --config, upstream.conf fits the settings."""
    from gateway.config import load
    from gateway.snippets import install

    for path in install(directory, load(config_path) if config_path else None):
        click.echo(path)


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


def _run(coroutine: Any) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(coroutine)
    else:
        uvloop.run(coroutine)


def _log_to_stderr(level: str) -> None:
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")


def main() -> None:
    """Exit 0, 1 (it says what is wrong) or 2 (usage)."""
    try:
        cli(standalone_mode=True)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(f"settings: {problem}", err=True)
        sys.exit(1)
