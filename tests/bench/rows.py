"""What is measured: each row by its name, and the targets it is held to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from tests.bench.figures import Run, speed, thrift

MANY = 20_000


@dataclass(frozen=True, slots=True)
class Row:
    """One thing to measure."""

    name: str
    what: str
    answerer: str  #: the process that answers the check: limit, bare, a peer, or a gateway by its name
    path: str = "/static/logo.svg"
    request: str = "image"  #: which browser request: image, xhr, navigation, or check (what nginx itself sends)
    sessions: str = "one"  #: none, one, all (in turn), many (at random), forged (never twice)
    due: int = 200
    cached: bool = False  #: through an nginx with cache.conf
    plain: bool = False  #: through its server with nothing of ours in it
    of: str = ""  #: the row it is compared with
    by: Callable[[Run], float] = speed
    must: float | None = None  #: the ratio it must reach
    aim: float | None = None
    extra: bool = False  #: only where asked for by name

    @property
    def alone(self) -> bool:
        """Asked without nginx."""
        return self.request == "check"


ROWS = (
    Row("unprotected", "a static file, nothing of ours in its server", "gateway", plain=True),
    Row("limit", "the same file, the question answered by a no-op nginx", "limit", of="unprotected"),
    Row("bare", "the same, answered by an aiohttp web.Server that does nothing", "bare", of="limit"),
    Row("seen", "a remembered session, every identity header", "gateway", of="limit", must=0.55, aim=0.62),
    Row("distinct", "more sessions in turn than are remembered", "distinct", sessions="all", of="seen", must=0.5, aim=0.75),
    Row("rule", "a rule with 50 alternatives, the last one holds", "gateway", path="/narrow/logo.svg", of="seen", must=0.95),
    Row("ledger", "1 000 000 members revoked (--quick: 50 000), this one not", "ledger", of="seen", must=0.95),
    Row("many", f"{MANY:,} sessions at random, without the cache", "many", sessions="many", of="seen"),
    Row(
        "cache-limit",
        "the same file, the barest auth_request with a proxy_cache, one answer for all",
        "limit",
        path="/barest/logo.svg",
        cached=True,
        plain=True,
        of="unprotected",
    ),
    Row("cache", "cache.conf, one session", "gateway", cached=True, of="unprotected", must=0.65, aim=0.8),
    Row(
        "cache-many",
        f"cache.conf, {MANY:,} sessions at random",
        "many",
        sessions="many",
        cached=True,
        of="many",
        must=1.0,
        aim=1.2,
    ),
    Row("refused", "no session, a script's request: 401", "refusing", request="xhr", sessions="none", due=401, of="seen"),
    Row("garbage", "forged cookies, none of them twice: 401", "refusing", sessions="forged", due=401, of="seen"),
    Row("login", "no session, a page: 302 to WeCom", "refusing", request="navigation", sessions="none", due=302, of="seen"),
    Row("bare-alone", "the bare web.Server, asked without nginx", "bare", path="/_wecom/auth", request="check", due=204),
    Row(
        "seen-alone",
        "a remembered session, asked without nginx (CPU per check)",
        "gateway",
        path="/_wecom/auth",
        request="check",
        due=204,
        of="bare-alone",
        by=thrift,
        must=0.75,
        aim=0.95,
    ),
    Row(
        "proxied",
        "a remembered session, a no-op app that is told who it is",
        "gateway",
        path="/app/",
        of="proxied-open",
        extra=True,
    ),
    Row("proxied-open", "the same app, public", "gateway", path="/public/", extra=True),
    Row("twin", "as seen, by another gateway and nginx of the same: what chance makes of 1.00", "twin", of="seen", extra=True),
)


def selected(names: Iterable[str], peers: Iterable[str] = ()) -> list[Row]:
    """The rows of *names* (none: all) with those they are compared with, then one row per peer; KeyError names a wrong one."""
    known = {row.name: row for row in ROWS}
    wanted = list(names)
    for name in wanted:
        if name not in known:
            raise KeyError(f"no row is named {name!r}; there are: {', '.join(known)}")
    chosen = set(wanted) or {row.name for row in ROWS if not row.extra}
    added = [peer_row(name) for name in peers]
    chosen |= {row.of for row in [*map(known.__getitem__, chosen), *added] if row.of}
    return [row for row in ROWS if row.name in chosen] + added


def peer_row(name: str) -> Row:
    return Row(f"peer:{name}", "another auth_request service", f"peer:{name}", path=f"/peer/{name}/logo.svg", of="limit")
