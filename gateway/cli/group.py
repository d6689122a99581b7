"""The command group that every verb hangs on, and what several of them share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gateway import __version__


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
