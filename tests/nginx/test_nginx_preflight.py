"""CORS preflights through nginx to the application: let in as nobody where the setting says so, and nothing else is."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import pytest

from gateway.app import Gateway
from gateway.config import Config
from gateway.member import Member
from gateway.session import Session
from gateway.tokens import Token
from tests.conftest import Clock
from tests.nginx.conftest import Answer, Behind, Headers, Nginx

LOCATIONS = """
    include wecom/gateway.conf;
    location / { include wecom/protect.conf; include wecom/identity.conf; proxy_pass http://APP; }
    location /ruled/ {
        auth_request /_wecom/auth/user:lisi;
        include wecom/member.conf;
        include wecom/identity.conf;
        proxy_pass http://APP;
    }
    location /wrong/ {
        auth_request /_wecom/auth/user:,;
        include wecom/member.conf;
        include wecom/identity.conf;
        proxy_pass http://APP;
    }
"""
SERVERS = f"""
proxy_cache_path PREFIX/answers keys_zone=wecom_cache:1m;
map $host$wecom_apart $wecom_cache {{ default ""; cached.test wecom_cache; }}
server {{ listen LISTEN; server_name api.test cached.test; set $wecom_site api; {LOCATIONS} }}
server {{ listen LISTEN; server_name oa.test; set $wecom_site oa; {LOCATIONS} }}
"""
PREFLIGHT = {"Origin": "https://spa.example.com", "Access-Control-Request-Method": "PUT"}
IDENTITY = re.compile(r"x[-_]wecom", re.IGNORECASE)

Ask = Callable[..., Awaitable[Answer]]
Start = Callable[[Config], Awaitable[Gateway]]


@pytest.fixture
async def gateway(start: Start, make_config: Callable[..., Config]) -> Gateway:
    """One site with the setting, one without."""
    api = {"name": "api", "public_url": "http://api.test", "hosts": ["cached.test"], "preflight": True}
    return await start(make_config(site=[api, {"name": "oa", "public_url": "http://oa.test"}]))


@pytest.fixture
async def ask(gateway: Gateway, behind: Behind, start_nginx: Callable[..., Nginx]) -> AsyncIterator[Ask]:
    """Ask nginx in front of the running gateway."""
    ports = {name: int(address.rpartition(":")[2]) for name, address in gateway.addresses.items()}
    nginx = start_nginx(SERVERS, cookie_name="wecom_session", **ports)

    async def asked(method: str, uri: str, headers: Headers = PREFLIGHT, host: str = "api.test") -> Answer:
        return await asyncio.to_thread(nginx.ask, method, uri, headers, host=host)

    yield asked
    assert not re.search(r"\[(alert|emerg|crit)\]", nginx.log())


@pytest.fixture
def signed_in(gateway: Gateway, clock: Clock) -> dict[str, str]:
    """The cookie of a member's session at the first site."""
    now, config = int(clock()), gateway.live.now.config
    session = Session("s", Member("lisi"), config.corp_id, config.agent_id, "api", now, now, now + 3600, now, "lisi")
    return {"Cookie": f"theirs=1; wecom_session={gateway.live.now.sessions.seal(session)}"}


def nobody(behind: Behind) -> bool:
    """Whether what arrived names nobody, in no spelling."""
    (received,) = behind.app
    return not [name for name in received.names if IDENTITY.match(name)]


@pytest.mark.parametrize("uri", ["/x", "/ruled/x"])
async def test_passes_as_nobody(ask: Ask, behind: Behind, uri: str) -> None:
    """A preflight reaches the application as it was sent, without an identity, whatever the location's rule."""
    answer = await ask("OPTIONS", f"{uri}?a=1")

    assert answer.status == 200
    assert (behind.app[0].method, behind.app[0].uri) == ("OPTIONS", f"{uri}?a=1")
    assert behind.app[0].header("Access-Control-Request-Method") == "PUT"
    assert nobody(behind)


async def test_a_member_is_nobody_too(ask: Ask, behind: Behind, signed_in: dict[str, str]) -> None:
    """A session that comes along counts for nothing; the same session opens the call that follows."""
    await ask("OPTIONS", "/x", PREFLIGHT | signed_in)
    first, cookie = nobody(behind), behind.app[0].header("Cookie")
    call = await ask("PUT", "/x", signed_in)

    assert (first, cookie) == (True, "theirs=1")
    assert (call.status, behind.app[1].header("X-WeCom-UserId")) == (200, "lisi")


async def test_nobody_can_say_who_they_are(ask: Ask, behind: Behind) -> None:
    """An invented identity does not arrive."""
    names = ("X-WeCom-UserId", "X-WeCom-Account", "X-WeCom-Kind", "X-WeCom-Jwt", "X-WeCom-Name", "X-WeCom-Preflight")
    await ask("OPTIONS", "/x", PREFLIGHT | dict.fromkeys(names, "boss"))

    assert "boss" not in [value for name, value in behind.app[0].headers if name != "X-WeCom-Preflight"]
    assert not {name.lower() for name in names[:-1]} & behind.app[0].names


async def test_a_machine_is_nobody_too(ask: Ask, behind: Behind, gateway: Gateway, clock: Clock) -> None:
    """A token that comes along is not looked at, and does not arrive."""
    config, now = gateway.live.now.config, int(clock())
    values: dict[str, Any] = {"corp_id": config.corp_id, "agent_id": config.agent_id, "site": "", "issued": now, "ends": now + 60}
    token = gateway.live.now.tokens.seal(Token(id="t", name="ci", rules=("user:lisi",), **values))
    await ask("OPTIONS", "/ruled/x", PREFLIGHT | {"Authorization": f"Bearer {token}"})

    assert nobody(behind)
    assert behind.app[0].header("Authorization") is None


@pytest.mark.parametrize(
    "method, headers",
    [
        ("OPTIONS", {}),
        ("OPTIONS", {"Origin": "https://spa.example.com"}),
        ("OPTIONS", {"Access-Control-Request-Method": "PUT"}),
        ("OPTIONS", PREFLIGHT | {"Access-Control-Request-Method": "P T"}),
        ("OPTIONS", PREFLIGHT | {"Origin": ""}),
        ("OPTIONS", {"X-WeCom-Preflight": "1"}),
        ("OPTIONS", PREFLIGHT | {"Upgrade": "websocket", "Connection": "Upgrade"}),
        ("OPTIONS", PREFLIGHT | {"X-HTTP-Method-Override": "GET"}),
        ("OPTIONS", PREFLIGHT | {"X-HTTP-Method": "DELETE"}),
        ("OPTIONS", PREFLIGHT | {"X-Method-Override": "DELETE"}),
        ("GET", PREFLIGHT),
        ("POST", PREFLIGHT),
        ("PUT", PREFLIGHT | {"X-HTTP-Method-Override": "OPTIONS"}),
        ("options", PREFLIGHT),
        ("OPTIONSX", PREFLIGHT),
    ],
    ids=str,
)
async def test_nothing_else_passes(ask: Ask, behind: Behind, method: str, headers: dict[str, str]) -> None:
    """Without a session, whatever is not exactly a preflight is refused and never reaches the application."""
    answer = await ask(method, "/x", headers)

    assert answer.status in (400, 401)
    assert behind.app == []


@pytest.mark.parametrize(
    "query",
    [
        "_method=GET",
        "a=1&_method=GET",
        "%5fm%65THod=GET",
        "a&.method=x",
        "%20_method=",
        "%4Dethod%3Dx",
        "_method%00=GET",  # for PHP a name ends at a NUL
        "_method%00x=GET",
    ],
)
async def test_no_other_method_in_disguise(ask: Ask, behind: Behind, query: str) -> None:
    """An address that tells some applications to take it for another method does not pass, in whatever spelling."""
    assert (await ask("OPTIONS", f"/x?{query}")).status == 401

    assert behind.app == []


@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
async def test_no_other_method_behind_an_empty_one(ask: Ask, behind: Behind, name: str) -> None:
    """nginx before 1.23 sees only the first of two headers of one name: the application gets no other one either."""
    await ask("OPTIONS", "/x", [*PREFLIGHT.items(), (name, ""), (name, "GET")])

    assert "GET" not in [value for received in behind.app for value in received.all(name)]


@pytest.mark.parametrize("query", ["payment_method=card", "q=_method=", "methods=1", "_=method", "%25_method=1"])
async def test_an_ordinary_query_passes(ask: Ask, behind: Behind, query: str) -> None:
    """Other names and values with the word in them are no disguise."""
    assert (await ask("OPTIONS", f"/x?{query}")).status == 200


async def test_off_by_default(ask: Ask, behind: Behind) -> None:
    """At a site without the setting a preflight is an ordinary request without a session."""
    answer = await ask("OPTIONS", "/x", host="oa.test")

    assert (answer.status, answer.header("X-WeCom-Reason")) == (401, "no-session")
    assert behind.app == []


async def test_a_wrong_rule_stays_closed(ask: Ask, behind: Behind) -> None:
    """Where the rule cannot be read, nothing passes."""
    assert (await ask("OPTIONS", "/wrong/x")).status == 403

    assert behind.app == []


async def test_not_our_own_pages(ask: Ask, behind: Behind) -> None:
    """Our own pages answer no preflight: nobody signs out, or calls them, from a page of another host."""
    answer = await ask("OPTIONS", "/_wecom/logout")

    assert answer.status == 404
    assert "Access-Control-Allow-Origin" not in dict(answer.headers)


async def test_no_answer_is_kept_for_another(ask: Ask, behind: Behind, signed_in: dict[str, str]) -> None:
    """With cache.conf, neither opens what the other was let in for: a preflight no call, a member's call no preflight."""
    for _ in range(6):
        assert (await ask("OPTIONS", "/x", PREFLIGHT | signed_in, "cached.test")).status == 200
        assert (await ask("GET", "/x", signed_in, "cached.test")).status == 200
        assert (await ask("GET", "/x", {}, "cached.test")).status == 401
        assert (await ask("OPTIONS", "/x", {}, "cached.test")).status == 401

    members = [(app.method, app.header("X-WeCom-UserId")) for app in behind.app]
    assert members == [("OPTIONS", None), ("GET", "lisi")] * 6


async def test_counted(ask: Ask, gateway: Gateway) -> None:
    """`/metrics` counts them under a word of their own."""
    await ask("OPTIONS", "/x")
    await ask("OPTIONS", "/x", host="oa.test")

    async with aiohttp.ClientSession() as http, http.get(f"http://{gateway.addresses['ops']}/metrics") as answer:
        metrics = await answer.text()
    assert 'wecom_gateway_checks_total{reason="preflight",status="204"} 1.0' in metrics
