"""The signed proof through nginx: it arrives whole, nobody invents one, and the keys are where the application looks."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import joserfc.jwt
import pytest
from joserfc.jwk import KeySet

from gateway.app import Gateway
from gateway.config import Config
from gateway.member import Member
from gateway.session import Session
from gateway.sessions import MAX_HEADER_BYTES
from tests.conftest import Clock
from tests.nginx.conftest import Answer, Behind, Nginx

SERVERS = """
server {
    listen LISTEN;
    server_name localhost;
    add_header Cache-Control no-store;
    expires 1y;
    proxy_hide_header Cache-Control;
    include wecom/gateway.conf;
    location / { include wecom/protect.conf; include wecom/identity.conf; proxy_pass http://APP; }
    location /public/ { include wecom/public.conf; proxy_pass http://APP; }
}
"""
URL = "http://localhost:8080"

Ask = Callable[..., Awaitable[Answer]]
Start = Callable[[Config], Awaitable[Gateway]]


@pytest.fixture
async def gateway(start: Start, make_config: Callable[..., Config]) -> Gateway:
    return await start(make_config(jwt=True))


@pytest.fixture
async def ask(gateway: Gateway, behind: Behind, start_nginx: Callable[..., Nginx]) -> AsyncIterator[Ask]:
    """Ask nginx in front of the running gateway."""
    ports = {name: int(address.rpartition(":")[2]) for name, address in gateway.addresses.items()}
    nginx = start_nginx(SERVERS, cookie_name="wecom_session_8080", **ports)

    async def asked(uri: str, headers: Mapping[str, str]) -> Answer:
        return await asyncio.to_thread(nginx.get, uri, headers, host="localhost")

    yield asked
    assert not re.search(r"\[(alert|emerg|crit)\]", nginx.log())


def signed_in(gateway: Gateway, clock: Clock, departments: tuple[int, ...] = (6, 5)) -> dict[str, str]:
    now, config = int(clock()), gateway.live.now.config
    session = Session(
        *("s", Member("zhangsan", name="张三"), config.corp_id, config.agent_id, "default"),
        *(now, now, now + 3600, now, "zhangsan", departments),
    )
    return {"Cookie": f"wecom_session_8080={gateway.live.now.sessions.seal(session)}"}


async def test_arrives_and_verifies(ask: Ask, behind: Behind, gateway: Gateway, clock: Clock) -> None:
    """What the application receives verifies with the keys that it finds at the site, and says what the headers say."""
    await ask("/x", signed_in(gateway, clock) | {"X-WeCom-Jwt": "forged"})
    keys = KeySet.import_key_set(json.loads((await ask("/_wecom/jwks.json", {})).body))

    claims = joserfc.jwt.decode(behind.app[0].header("X-WeCom-Jwt") or "", keys, algorithms=["ES256"]).claims

    assert (claims["sub"], claims["name"], claims["departments"]) == ("zhangsan", "张三", [6, 5])
    assert claims["iss"] == claims["aud"] == URL


async def test_nobody_invents_one(ask: Ask, behind: Behind) -> None:
    """In a public location none arrives, whatever the client sends."""
    await ask("/public/x", {"X-WeCom-Jwt": "forged", "X_WeCom_Jwt": "forged"})

    assert not [name for name in behind.app[0].names if "jwt" in name]


async def test_the_largest_arrives(ask: Ask, behind: Behind, gateway: Gateway, clock: Clock) -> None:
    """Headers of all the size that a sign-in allows still pass nginx's buffers."""
    departments = tuple(range(100_000, 100_455))

    answer = await ask("/x", signed_in(gateway, clock, departments))

    told = behind.app[0]
    size = sum(len(name) + len(value) + 4 for name, value in told.headers if name.startswith("X-WeCom-"))
    assert answer.status == 200
    assert MAX_HEADER_BYTES * 0.9 < size <= MAX_HEADER_BYTES


async def test_keys_may_be_kept_for_a_while(ask: Ask) -> None:
    """The keys say how long they may be kept, whatever the operator says of the rest of the site."""
    answer = await ask("/_wecom/jwks.json", {})

    assert (answer.status, answer.all("Content-Type")) == (200, ["application/json; charset=utf-8"])
    assert answer.all("Cache-Control") == ["public, max-age=300"]
    assert not answer.all("Set-Cookie")
