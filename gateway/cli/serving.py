"""Verbs of the gateway itself: serve, keygen, nginx install, nginx check."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from gateway import __version__
from gateway.cli.group import cli, config_option


@cli.command()
@config_option
def serve(config_path: Path | None) -> None:
    """Run the gateway until SIGTERM; SIGHUP reads the settings again."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a reload that comes before there is anything to reload
    from gateway.loading import load

    config = load(config_path)
    if config.store.startswith("sqlite:"):
        sys.modules["redis"] = None  # type: ignore[assignment]  # aiocache imports it wherever it is installed: 6 MB for nothing
    from gateway import app

    _log_to_stderr(config.log_level)
    _run(app.serve(lambda: load(config_path)))


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
    from gateway.loading import load
    from gateway.snippets import install

    config = load(config_path) if config_path else None
    with _in_place(directory):
        for path in install(directory, config):
            click.echo(path)


@nginx.command("check")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True))
def nginx_check(directory: Path) -> None:
    """Say which snippets in DIRECTORY are not those of this gateway; upstream.conf and the cache's path are yours."""
    from gateway.snippets import differing

    with _in_place(directory):
        found = differing(directory)
    if found:
        fix = f"to fix: `wecom-gateway nginx install {directory}`, then `nginx -t && nginx -s reload`; what is yours is kept"
        raise click.ClickException("\n".join([*found, fix]))
    click.echo(f"{directory}: the snippets of this gateway, version {__version__}")


@contextmanager
def _in_place(directory: Path) -> Iterator[None]:
    """No folder but one of their own is written to or recommended; what cannot be read or written is said."""
    from gateway.snippets import misplaced

    try:
        if why := misplaced(directory):
            raise click.ClickException(why)
        yield
    except OSError as error:
        raise click.ClickException(f"{error.filename}: cannot be read or written: {error.strerror}") from None


def _run(coroutine: Any) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(coroutine)
    else:
        uvloop.run(coroutine)


def _log_to_stderr(level: str) -> None:
    logging.basicConfig(level=level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s")
