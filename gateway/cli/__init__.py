"""The command line: one command per verb."""

from __future__ import annotations

import sys

import click

<<<<<<< HEAD
from gateway.cli import ledger, recheck, serving, sessions, trying
from gateway.cli.group import cli
from gateway.errors import ConfigError

__all__ = ["cli", "ledger", "main", "recheck", "serving", "sessions", "trying"]
=======
from gateway.cli import check, recheck, serving, trying
from gateway.cli.group import cli
from gateway.errors import ConfigError

__all__ = ["check", "cli", "main", "recheck", "serving", "trying"]
>>>>>>> 09732de (check --who: would this member pass, and which part of the rule decides; --uri finds the rule of a location)


def main() -> None:
    """Exit 0, 1 (it says what is wrong) or 2 (usage)."""
    try:
        cli(standalone_mode=True)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(f"settings: {problem}", err=True)
        sys.exit(1)
