"""Install the nginx snippets, ``upstream.conf`` filled in from the settings."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from gateway.config import Config

_HERE = Path(__file__).parent
FOLDERS = (_HERE / "nginx_snippets", _HERE.parent / "nginx")
"""In an installed package and in a checkout."""

_MAP_WORDS = frozenset({"default", "hostnames", "include", "volatile"})
"""Site names that nginx's ``map`` takes for words of its own unless a backslash stands before them."""

_CACHE_PATH = re.compile(rb"(?<=^proxy_cache_path )\S+", re.MULTILINE)


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


def differing(target: Path) -> list[str]:
    """What in *target* is not as this gateway ships it, a sentence each; ``upstream.conf`` and the cache's path are not ours."""
    found = []
    for shipped in sorted(folder().glob("*.conf")):
        installed = target / shipped.name
        if not installed.exists():
            found.append(f"{installed}: is missing")
        elif shipped.name != "upstream.conf" and _compared(installed) != _compared(shipped):
            found.append(f"{installed}: is not the one that belongs to this gateway")
    return found


def _compared(path: Path) -> bytes:
    text = path.read_bytes().replace(b"\r\n", b"\n")
    return _CACHE_PATH.sub(b"", text) if path.name == "cache.conf" else text


def upstream(config: Config) -> str:
    """The shipped ``upstream.conf``, with where the gateway listens and the session cookie's name of each site."""
    text = (folder() / "upstream.conf").read_text("utf-8")
    for port, address in ((9180, config.listen.check), (9181, config.listen.pages)):
        text = text.replace(f"server 127.0.0.1:{port};", f"server {address};")
    names = {site.name: site.cookie_name for site in config.sites}
    lines = [("default", next(iter(names.values())))]
    if len(names) > 1:
        lines += [(f"\\{name}" if name in _MAP_WORDS else name, cookie) for name, cookie in names.items()]
    table = "".join(f"    {name} {cookie};\n" for name, cookie in lines)
    head, _, _ = text.partition("map $wecom_site $wecom_cookie_name {")
    return f"{head}map $wecom_site $wecom_cookie_name {{\n{table}}}\n"
