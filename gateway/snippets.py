"""Install the nginx snippets, ``upstream.conf`` filled in from the settings."""

from __future__ import annotations

import shutil
from pathlib import Path

from gateway.config import Config

_HERE = Path(__file__).parent
FOLDERS = (_HERE / "nginx_snippets", _HERE.parent / "nginx")
"""In an installed package and in a checkout."""


def folder() -> Path:
    """Where the snippets are."""
    return next(each for each in FOLDERS if each.is_dir())


def install(target: Path, config: Config | None) -> list[Path]:
    """Copy the snippets to *target*; an ``upstream.conf`` there is kept unless *config* says what belongs in it."""
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for source in sorted(folder().rglob("*")):
        place = target / source.relative_to(folder())
        if source.is_dir():
            place.mkdir(exist_ok=True)
        elif source.name != "upstream.conf" or config is not None or not place.exists():
            if source.name == "upstream.conf" and config is not None:
                place.write_text(upstream(config), "utf-8")
            else:
                shutil.copyfile(source, place)
            written.append(place)
    return written


def upstream(config: Config) -> str:
    """``upstream.conf`` for *config*: where the gateway listens, and the session cookie's name of each site."""
    names = {site.name: site.cookie_name for site in config.sites}
    only = next(iter(names.values()))
    lines = [f"    {name:<20} {cookie};" for name, cookie in names.items()]
    listen = config.listen
    return "\n".join(
        [
            "# Where the gateway listens, and the name of each site's session cookie. Context: http.",
            "# Written by `wecom-gateway nginx install` from the gateway's settings.",
            f"upstream wecom_check {{ server {listen.check}; keepalive 64; }}",
            f"upstream wecom_pages {{ server {listen.pages}; keepalive 8; }}",
            "map $wecom_site $wecom_cookie_name {",
            f"    default              {only};",
            *lines,
            "}",
            "",
        ]
    )
