"""Events reach the app's callback: encrypted, signed, and only those the real WeCom would send."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import pytest
from aiohttp import web

from gateway.sandbox.crypto import Envelope

TOKEN, AES_KEY = "sandboxToken1", "kWxPEV2UEDyxWpmPdKC3F4dgPDmOvfKX1HGnEUDS1aR"


@dataclass
class Receiver:
    """A callback that answers as it is told to; ``echo`` turns what was decrypted into the answer."""

    envelope: Envelope
    url: str = ""
    statuses: list[int] = field(default_factory=list)
    events: list[dict[str, str]] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)
    echo: object = staticmethod(lambda text: text)

    async def check(self, request: web.Request) -> web.Response:
        self.queries.append(request.raw_path)
        query = {name: values[0] for name, values in parse_qs(request.raw_path.partition("?")[2]).items()}
        signature = self.envelope.sign(query["timestamp"], query["nonce"], query["echostr"])
        assert signature == query["msg_signature"]
        return web.Response(text=self.echo(self.envelope.decrypt(query["echostr"])))

    async def take(self, request: web.Request) -> web.Response:
        body, query = await request.text(), request.query
        encrypted = re.search(r"<Encrypt><!\[CDATA\[(.*?)\]\]></Encrypt>", body)[1]
        assert self.envelope.sign(query["timestamp"], query["nonce"], encrypted) == query["msg_signature"]
        self.bodies.append(body)
        message = self.envelope.decrypt(encrypted)
        parts = re.findall(r"<(\w+)>(?:<!\[CDATA\[(.*?)\]\]>|(\d+))</\1>", message.removeprefix("<xml>"))
        self.events.append({name: text or number for name, text, number in parts})
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)


@pytest.fixture
async def receiver(aiohttp_server, sandbox):
    """A callback registered for the sample app."""
    receiver = Receiver(Envelope(TOKEN, AES_KEY, sandbox.state.corp_id))
    app = web.Application()
    app.add_routes([web.get("/events", receiver.check), web.post("/events", receiver.take)])
    server = await aiohttp_server(app)
    receiver.url = str(server.make_url("/events"))
    return receiver


async def register(client, receiver, app="app", **changed):
    body = {"url": receiver.url, "token": TOKEN, "aes_key": AES_KEY} | changed
    return await client.control("PUT", f"{app}/callback", body)


async def patched(client, sandbox, path, body=None, method="PATCH"):
    status, answer = await client.control(method, path, body)
    assert status == 200, answer
    await sandbox.outbox.settle()


def kinds(receiver):
    return [(event["Event"], event["FromUserName"]) for event in receiver.events]


async def test_url_check(client, sandbox, receiver):
    """Saving a callback makes a signed check with a percent-encoded echostr of 23 digits, and keeps it."""
    status, _ = await register(client, receiver)

    assert (status, sandbox.state.app.callback_url) == (200, receiver.url)
    assert re.fullmatch(r"/events\?msg_signature=[0-9a-f]{40}&timestamp=\d+&nonce=\d+&echostr=[\w%.-]+", receiver.queries[0])


@pytest.mark.parametrize("echo", ["{}\n", '"{}"', "\ufeff{}", ""], ids=["newline", "quotes", "bom", "empty"])
async def test_url_check_to_the_byte(client, sandbox, receiver, echo):
    """An answer that differs by a byte is not saved."""
    receiver.echo = echo.format
    status, answer = await register(client, receiver)

    assert (status, sandbox.state.app.callback_url) == (400, "")
    assert "instead of 200" in answer["error"]


@pytest.mark.parametrize(
    "changed",
    [{"url": "http://127.0.0.1:1/"}, {"url": "file:///x"}, {"token": "a-b"}, {"token": "a" * 33}, {"aes_key": "short"}],
    ids=str,
)
async def test_url_check_refuses(client, sandbox, receiver, changed):
    """A URL that does not answer, and a token or key that is none, are not saved."""
    status, _ = await register(client, receiver, **changed)

    assert (status, sandbox.state.app.callback_url) == (400, "")


async def test_slow_url_check(client, sandbox, receiver):
    """An answer after more than a second is too late."""
    late = asyncio.Event()

    async def never(request: web.Request) -> web.Response:
        await late.wait()
        return web.Response()

    app = web.Application()
    app.add_routes([web.get("/", never)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    status, answer = await register(client, receiver, url=url)
    late.set()
    await runner.cleanup()

    assert (status, "within 1 s" in answer["error"]) == (400, True)


async def test_leaving_the_scope(client, sandbox, receiver, clock):
    """A member moved out of the scope is unsubscribed, in WeCom's envelope and fields."""
    await register(client, receiver)
    await patched(client, sandbox, "members/zhangsan", {"department": [8]})

    assert receiver.events == [
        {
            "ToUserName": "ww0123456789abcdef",
            "FromUserName": "zhangsan",
            "CreateTime": str(int(clock.now)),
            "MsgType": "event",
            "Event": "unsubscribe",
            "AgentID": "1000002",
        }
    ]
    assert receiver.bodies[0].startswith(
        "<xml><ToUserName><![CDATA[ww0123456789abcdef]]></ToUserName><AgentID><![CDATA[1000002]]></AgentID><Encrypt>"
    )


@pytest.mark.parametrize(
    ("method", "path", "body", "expected"),
    [
        ("PATCH", "members/zhangsan", {"status": 2}, [("unsubscribe", "zhangsan")]),
        ("PATCH", "members/zhangsan", {"status": 5}, [("unsubscribe", "zhangsan")]),
        ("DELETE", "members/zhangsan", None, [("unsubscribe", "zhangsan")]),
        ("PATCH", "members/zhaoliu", {"department": [3]}, [("subscribe", "zhaoliu")]),
        ("PATCH", "members/qianqi", {"status": 1}, [("subscribe", "qianqi")]),
        ("PUT", "members/new", {"name": "新人", "department": [6]}, [("subscribe", "new")]),
        ("PATCH", "app", {"allow_departments": [5]}, [("unsubscribe", "lisi")]),
        ("PATCH", "departments/6", {"parentid": 8}, [("unsubscribe", "zhangsan")]),
        ("PATCH", "members/zhangsan", {"department": [3]}, []),
        ("PATCH", "members/zhangsan", {"name": "张三丰"}, []),
        ("PATCH", "members/zhaoliu", {"status": 2}, []),
        ("PATCH", "members/zhangsan", {"userid": "zs"}, [("unsubscribe", "zhangsan"), ("subscribe", "zs")]),
    ],
    ids=lambda value: str(value),
)
async def test_who_hears_what(client, sandbox, receiver, method, path, body, expected):
    """The app hears of members who enter or leave its scope or their activity, and of nothing else."""
    await register(client, receiver)
    await patched(client, sandbox, path, body, method)

    assert kinds(receiver) == expected


async def test_tag_in_the_scope(client, sandbox, receiver):
    """A tag that is in the app's scope subscribes and unsubscribes its members."""
    sandbox.state.app.allow_tags = (1,)
    await register(client, receiver)
    await patched(client, sandbox, "tags/1", {"userlist": ["wangwu"]})

    assert kinds(receiver) == [("unsubscribe", "zhaoliu")]


async def test_no_callback_no_delivery(client, sandbox):
    """Without a callback nothing is sent."""
    await patched(client, sandbox, "members/zhangsan", {"status": 2})

    assert sandbox.outbox.deliveries == []


async def test_callback_removed(client, sandbox, receiver):
    """A removed callback hears nothing more."""
    await register(client, receiver)
    await client.control("DELETE", "app/callback")
    await patched(client, sandbox, "members/zhangsan", {"status": 2})

    assert receiver.events == []


async def test_changes_in_the_same_process(client, sandbox, receiver):
    """A test in the same process changes and removes members with the same events."""
    await register(client, receiver)
    sandbox.change_member("zhangsan", {"status": 2})
    await sandbox.outbox.settle()
    sandbox.remove_member("lisi")
    await sandbox.outbox.settle()

    assert kinds(receiver) == [("unsubscribe", "zhangsan"), ("unsubscribe", "lisi")]


async def test_delivery_is_retried(client, sandbox, receiver):
    """A delivery that is not answered 200 is repeated, byte for byte."""
    await register(client, receiver)
    receiver.statuses = [500, 302]
    await patched(client, sandbox, "members/zhangsan", {"status": 2})
    (delivery,) = sandbox.outbox.deliveries

    assert (delivery.answers, delivery.done) == (["500", "302", "200"], True)
    assert len(set(receiver.bodies)) == 1


async def test_delivery_is_given_up(client, sandbox, receiver):
    """After three retries a delivery is given up."""
    await register(client, receiver)
    receiver.statuses = [500] * 9
    await patched(client, sandbox, "members/zhangsan", {"status": 2})

    assert sandbox.outbox.deliveries[0].answers == ["500"] * 4


async def test_delivery_without_a_listener(client, sandbox):
    """A callback that is gone is noted by its error."""
    app = sandbox.state.app
    app.callback_url, app.callback_token, app.callback_aes_key = "http://127.0.0.1:1/", TOKEN, AES_KEY
    await patched(client, sandbox, "members/zhangsan", {"status": 2})

    assert sandbox.outbox.deliveries[0].answers == ["ClientConnectorError"] * 4


async def test_duplicate_and_other_events(client, sandbox, receiver):
    """A delivery can be sent again, and an event of one's own made; an unknown number is 404."""
    await register(client, receiver)
    await patched(client, sandbox, "outbox", {"event": "enter_agent", "userid": "lisi"}, "POST")
    await patched(client, sandbox, "outbox", {"again": 1}, "POST")
    unknown = await client.control("POST", "outbox", {"again": 7})

    assert kinds(receiver) == [("enter_agent", "lisi")] * 2
    assert receiver.bodies[0] == receiver.bodies[1]
    assert unknown[0] == 404


async def test_sync_assistant_hears_reduced_changes(client, sandbox, receiver):
    """The sync assistant hears of ids and departments, not of names or status, from ``sys``."""
    await register(client, receiver, "apps/2000002")
    steps = [
        ("PATCH", "members/zhangsan", {"status": 2, "name": "张三丰"}),
        ("PATCH", "members/zhangsan", {"department": [3, 6]}),
        ("PATCH", "members/zhangsan", {"userid": "zs"}),
        ("DELETE", "members/zs", None),
        ("PUT", "members/new", {"department": [6]}),
        ("PUT", "departments/9", {"parentid": 2}),
        ("PATCH", "departments/9", {"parentid": 5}),
        ("PATCH", "departments/9", {"name": "只是改名"}),
        ("DELETE", "departments/9", None),
        ("PATCH", "tags/1", {"userlist": ["wangwu", "lisi"], "partylist": [3]}),
        ("DELETE", "tags/2", None),
    ]
    for method, path, body in steps:
        await patched(client, sandbox, path, body, method)
    changes = [{k: v for k, v in event.items() if k not in COMMON} for event in receiver.events]

    assert all(event["FromUserName"] == "sys" and event["Event"] == "change_contact" for event in receiver.events)
    assert changes == [
        {"ChangeType": "update_user", "UserID": "zhangsan", "Department": "3,6"},
        {"ChangeType": "update_user", "UserID": "zhangsan", "Department": "3,6", "NewUserID": "zs"},
        {"ChangeType": "delete_user", "UserID": "zs"},
        {"ChangeType": "create_user", "UserID": "new", "Department": "6"},
        {"ChangeType": "create_party", "Id": "9", "ParentId": "2"},
        {"ChangeType": "update_party", "Id": "9", "ParentId": "5"},
        {"ChangeType": "delete_party", "Id": "9"},
        {"ChangeType": "update_tag", "TagId": "1", "AddUserItems": "lisi", "DelUserItems": "zhaoliu", "AddPartyItems": "3"},
        {"ChangeType": "update_tag", "TagId": "2", "DelUserItems": "zhangsan", "DelPartyItems": "3"},
    ]


COMMON = ("ToUserName", "FromUserName", "CreateTime", "MsgType", "Event")
