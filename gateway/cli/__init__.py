"""The command line: one command per verb."""

from __future__ import annotations

import sys

import click

from gateway.cli import check, ledger, recheck, serving, sessions, tokens, trying
from gateway.cli.group import cli
from gateway.errors import ConfigError

__all__ = ["check", "cli", "ledger", "main", "recheck", "serving", "sessions", "tokens", "trying"]


def main() -> None:
    """Exit 0, 1 (it says what is wrong) or 2 (usage)."""
    try:
        cli(standalone_mode=True)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(f"settings: {problem}", err=True)
        sys.exit(1)
