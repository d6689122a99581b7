"""Install the nginx snippets, ``upstream.conf`` filled in from the settings."""

from __future__ import annotations

import re
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


def misplaced(target: Path) -> str:
    """Why the snippets cannot be in *target*, or nothing: nginx's own folder has a ``fastcgi.conf`` that its sites use."""
    if (target / "nginx.conf").exists() or (target / "mime.types").exists():
        return f"{target} is nginx's own folder; the snippets take one of theirs in it: {target / 'wecom'}"
    if target.absolute().name in ("conf.d", "sites-available", "sites-enabled"):
        return f"{target}: nginx reads whole sites there; the snippets take a folder beside it: {target.parent / 'wecom'}"
    return ""


def install(target: Path, config: Config | None) -> list[Path]:
    """Copy the snippets to *target*; what is the operator's there is kept, but an ``upstream.conf`` that *config* tells of."""
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for source in sorted(folder().rglob("*")):
        place = target / source.relative_to(folder())
        if source.is_dir():
            place.mkdir(exist_ok=True)
        elif (text := _renewed(source, place, config)) is not None:
            place.write_bytes(text)
            written.append(place)
    return written


def _renewed(source: Path, place: Path, config: Config | None) -> bytes | None:
    if source.name == "upstream.conf" and config is not None:
        return upstream(config).encode()
    if place.exists() and (source.name == "upstream.conf" or source.parent.name == "examples"):
        return None
    text = source.read_bytes()
    own = _CACHE_PATH.search(place.read_bytes()) if source.name == "cache.conf" and place.exists() else None
    return _CACHE_PATH.sub(own[0].replace(b"\\", rb"\\"), text) if own else text


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
