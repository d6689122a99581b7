"""Rules beside a location, with a real gateway and a real nginx: who passes where, and that nothing a client sends changes it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.config import Config
from gateway.locations import find
from gateway.sandbox import Sandbox
from gateway.verdicts import judge
from tests.browser_double import Browser
from tests.conftest import Clock
from tests.nginx.conftest import Answer, Nginx, as_json

HOST = "localhost:8080"
COOKIE = "wecom_session_8080"
HOME = f"http://{HOST}/"
PLACES = ("finance", "technology", "named", "tagged", "open")
CONFIG = """
server {
    listen LISTEN;
    server_name localhost;
    include wecom/gateway.conf;

    location /open/ { include wecom/protect.conf; include wecom/identity.conf; proxy_pass http://APP; }
    location /either/ {
        satisfy any;
        auth_basic old;
        auth_basic_user_file PREFIX/passwords;
        auth_request /_wecom/auth/department:2;
        include wecom/member.conf;
        include wecom/identity.conf;
        proxy_pass http://APP;
    }
    location /shelf/ { include wecom/protect.conf; root PREFIX; dav_methods COPY; }
    location /closed/ { auth_request /_wecom/auth/user:nobody; include wecom/member.conf; root PREFIX; dav_methods COPY; }
RULES
}
"""
RULE = """
    location /PLACE/ {
        auth_request "/_wecom/auth/RULE";
        include wecom/member.conf;
        include wecom/identity.conf;
        proxy_pass http://APP;
    }
"""
LONG = ",".join(f"somebody{number}" for number in range(280)) + ",lisi"
"""A parameter of nginx takes 4 kB."""
RULES = {
    "finance": "department:2",
    "technology": "department:5",
    "named": "财务",
    "tagged": "tag:1/user:LISI",
    "unreadable": "group:2/user:lisi",
    "unknown": "nosuch",
    "unseen": "department:8",
    "long": f"user:{LONG}",
    "nothing": "",
    "escaped": "user%3Alisi",
    "asking": "user:lisi?x",
    "named-in-chinese": "财务",
}
NAVIGATION = {"Accept": "text/html", "User-Agent": "curl/8", "Accept-Language": "zh"}
SCRIPT = {"Accept": "application/json", "X-Requested-With": "XMLHttpRequest"}

Start = Callable[[Config], Awaitable[Gateway]]
Browse = Callable[..., Browser]


@dataclass(frozen=True, slots=True)
class Site:
    """A gateway behind an nginx, and browsers that sign in at it."""

    nginx: Nginx
    gateway: Gateway
    browse: Browse
    clock: Clock

    async def session(self, member: str) -> str:
        browser = self.browse(member, at=self.gateway)
        await browser.open(HOME)
        return browser.session(HOME)

    async def get(self, path: str, session: str = "", headers: dict[str, str] = SCRIPT) -> Answer:
        sent = {**headers, "Cookie": f"{COOKIE}={session}"} if session else headers
        return await asyncio.to_thread(partial(self.nginx.get, path, sent, host=HOST))

    async def anew(self, path: str, session: str) -> str:
        """The session that the next page gives, the member read again; what took WeCom's 2 s on a busy machine is put off."""
        found, fresh = self.gateway.live.now.sessions.open, session
        for _ in range(9):
            page = await self.get(path, fresh, NAVIGATION)
            fresh = page.header("Set-Cookie").partition(f"{COOKIE}=")[2].partition(";")[0] or fresh
            assert page.status == 302 or "wecom-unreachable" in page.text
            if found(fresh, site="default").read > found(session, site="default").read:
                return fresh
            self.clock.advance(301)
        raise AssertionError("put off again and again")

    async def entered(self, session: str, headers: dict[str, str] | None = None) -> set[str]:
        """The places that let this session in."""
        return {place for place in PLACES if (await self.get(f"/{place}/", session, SCRIPT | (headers or {}))).status == 200}


@pytest.fixture
async def site(
    start: Start, make_config: Callable[..., Config], browse: Browse, start_nginx: Callable[..., Nginx], clock: Clock
) -> Site:
    rules = {"财务": {"any": ["department:财务部", "tag:项目负责人"], "not": "user:nobody"}}
    gateway = await start(make_config(rules=rules, tags=[1]))
    written = "".join(RULE.replace("PLACE", place).replace("RULE", rule) for place, rule in RULES.items())
    config = CONFIG.replace("RULES", written)
    ports = {name: int(gateway.addresses[name].rpartition(":")[2]) for name in ("check", "pages")}
    return Site(await asyncio.to_thread(partial(start_nginx, config, cookie_name=COOKIE, **ports)), gateway, browse, clock)


@pytest.mark.parametrize(
    "member, places",
    [
        ("lisi", {"finance", "named", "tagged", "open"}),
        ("zhangsan", {"technology", "open"}),
        ("wangwu", {"technology", "named", "tagged", "open"}),
        ("Li.Na@Example", {"finance", "named", "open"}),
    ],
)
async def test_each_member_enters_where_the_rule_lets_them(site: Site, member: str, places: set[str]) -> None:
    """Two rules and more in one server, by includes only: the right member passes each, nobody else does."""
    session = await site.session(member)
    assert session

    assert await site.entered(session) == places
    assert await site.entered("") == set()


async def test_the_wrong_member_sees_a_page(site: Site) -> None:
    """A refusal is a 403 page that says who, why and what is asked for, and no redirect."""
    answer = await site.get("/finance/report", await site.session("zhangsan"), NAVIGATION)

    assert (answer.status, answer.all("Location")) == (403, [])
    for told in ("张三 (zhangsan)", "部门 管理中心 (2) 及其下级部门的成员", "<code>department:2</code>", "<code>rule</code>"):
        assert told in answer.text


async def test_a_refusal_beside_a_password_is_no_loop(site: Site) -> None:
    """With ``satisfy any`` and auth_basic, nginx says 401 where we refuse: still a page, 403, and no way back to the sign-in."""
    refused, let_in = await site.session("zhangsan"), await site.session("lisi")

    page, script = await site.get("/either/", refused, NAVIGATION), await site.get("/either/", refused)

    assert (page.status, page.all("Location"), "<code>department:2</code>" in page.text) == (403, [], True)
    assert (script.status, as_json(script)["reason"]) == (403, "rule")
    assert (await site.get("/either/", let_in)).status == 200
    assert [(await site.get("/either/", "", headers)).status for headers in (SCRIPT, NAVIGATION)] == [401, 302]


@pytest.mark.parametrize("place, status", [("unreadable", 403), ("unknown", 403), ("unseen", 403), ("long", 200)])
async def test_rules_with_mistakes(site: Site, place: str, status: int) -> None:
    """A rule that does not parse, is not known, or speaks of what the app does not see is a 403 page; one of 4 kB is read."""
    answer = await site.get(f"/{place}/", await site.session("lisi"), NAVIGATION)

    assert answer.status == status
    assert ("<code>bad-rule</code>" in answer.text) is (status == 403)


@pytest.mark.parametrize("member", ["lisi", "zhangsan"])
async def test_check_reads_a_rule_as_nginx_asks_it(site: Site, member: str) -> None:
    """What ``check --uri`` finds in nginx.conf, and says of it, is the live answer, for rules with mistakes as well."""
    session, now = await site.session(member), site.gateway.live.now
    who = now.sessions.open(session, site="default")

    for place in ("open", *RULES):
        rule = find(site.nginx.prefix / "nginx.conf", f"/{place}/", "localhost").rule
        assert rule is not None
        live, told = await site.get(f"/{place}/", session), judge(now.rules, rule, who)
        assert (live.status == 200) is told.passes, place
        assert live.status == 200 or as_json(live)["reason"] == told.reason, place


async def test_moving_to_another_department(site: Site, sandbox: Sandbox, clock: Clock) -> None:
    """Who moves to another department loses the old place and gets the new one, without a QR, once the member is read again."""
    session = await site.session("zhangsan")
    before = await site.entered(session)
    sandbox.change_member("zhangsan", {"department": [4], "order": [0], "is_leader_in_dept": [0]})
    clock.advance(1801)
    fresh = await site.anew("/open/", session)

    assert before == {"technology", "open"}
    assert await site.entered(fresh) == {"finance", "named", "open"}


async def test_a_rule_newer_than_the_session(site: Site, make_config: Callable[..., Config], clock: Clock) -> None:
    """A session that did not look at a tag is 401 ``stale`` there, and the next page reads the member again: no QR."""
    config = site.gateway.live.now.config
    await site.gateway.reload(make_config(listen=vars_of(config)))
    old = await site.session("wangwu")
    await site.gateway.reload(config)
    clock.advance(1)

    script = await site.get("/tagged/", old)
    fresh = await site.anew("/tagged/", old)

    assert (script.status, script.header("X-WeCom-Reason")) == (401, "stale")
    assert (await site.get("/tagged/", fresh)).status == 200


def vars_of(config: Config) -> dict[str, Any]:
    return {name: str(getattr(config.listen, name)) for name in ("check", "pages", "ops")}


READ = (
    *("X-WeCom-Session", "X-WeCom-Site", "X-WeCom-Navigation", "X-WeCom-Preflight", "X-WeCom-Window", "X-WeCom-Method"),
    "X-WeCom-Packed",
    *("X-WeCom-Original-Uri", "X-WeCom-Reason", "X-WeCom-Rule", "X-WeCom-Address", "X-WeCom-Cookie-Name", "X-WeCom-Token"),
    *("X-WeCom-UserId", "X-WeCom-Departments", "X-WeCom-Kind", "X-Original-URI", "X-Original-URL", "X-Rewrite-URL"),
    *("X-Forwarded-Uri", "X-Forwarded-Prefix", "X-Forwarded-Host", "X-HTTP-Method-Override", "Authorization", "Referer"),
    *("Origin", "Cookie", "Content-Type", "Accept-Language", "Sec-Fetch-Dest", "Sec-Fetch-Mode"),
)
VALUES = ("user:zhangsan", "/_wecom/auth", "/_wecom/auth/user:zhangsan", "department:5", "zhangsan", "1")


@pytest.mark.parametrize("spelling", ["as it is", "underscores"])
async def test_nothing_a_client_sends_changes_a_rule(site: Site, spelling: str) -> None:
    """Every header that the gateway reads, and every other that such software has read, leaves the answer as it is."""
    session = await site.session("zhangsan")
    names = [name if spelling == "as it is" else name.replace("-", "_") for name in READ]

    for value in VALUES:
        for name in names:
            sent = (
                {name: f"{COOKIE}={session}; x={value}"} if name == "Cookie" else {name: value, "Cookie": f"{COOKIE}={session}"}
            )
            answer = await site.get("/finance/", "", sent)
            assert answer.status == 403, (name, value)
    everything = dict.fromkeys(names, VALUES[2]) | {"Cookie": f"{COOKIE}={session}"}
    assert (await site.get("/finance/", "", everything)).status == 403


async def test_a_destination_of_webdav_is_asked_by_no_rule(site: Site) -> None:
    """Reading goes by the rule, but COPY writes where its header says: why a WebDAV tree has one rule for all of it."""
    for name in ("shelf", "closed"):
        folder = site.nginx.prefix / name
        folder.mkdir()
        folder.chmod(0o777)
        (folder / name).write_text(name, "utf-8")
    session = await site.session("zhangsan")

    async def copy(source: str, target: str) -> int:
        headers = [*SCRIPT.items(), ("Cookie", f"{COOKIE}={session}"), ("Destination", f"http://{HOST}{target}")]
        return (await asyncio.to_thread(partial(site.nginx.ask, "COPY", source, headers, host=HOST))).status

    assert await copy("/closed/closed", "/shelf/read") == 403
    assert await copy("/shelf/shelf", "/closed/written") == 204
    assert [path.name for path in sorted((site.nginx.prefix / "closed").iterdir())] == ["closed", "written"]


OUTSIDE = (
    "/_wecom/auth/user:me",
    "/_wecom/auth",
    "/_wecom/auth/",
    "/_wecom//auth/user:me",
    "/_wecom/%61uth/user:me",
    "/_wecom/x/../auth/user:me",
    "/x/../_wecom/auth/user:me",
    "/_wecom/auth%2Fuser:me",
    "/_wecom/auth/%2e%2e/auth/user:me",
    "//_wecom/auth/user:me",
    "/_wecom/auth/user:me?/_wecom/me",
    "/_wecom/./auth/department:2",
)


async def test_a_browser_cannot_ask_the_question(site: Site) -> None:
    """The question is nginx's alone: from outside it is 404, signed in or not, however it is spelled."""
    session = await site.session("lisi")

    for path in OUTSIDE:
        assert [(await site.get(path, value, NAVIGATION)).status for value in ("", session)] == [404, 404], path


WINDING = ("/finance/../open/", "/open/..%2ffinance/", "/open/%2e%2e/finance/", "//finance//", "/finance/.", "/%66inance/")


async def test_a_path_that_winds_is_asked_by_where_it_ends(site: Site) -> None:
    """Dots, slashes and percent signs in the page's address lead to the rule of the location that answers."""
    session = await site.session("zhangsan")

    for path in WINDING:
        assert (await site.get(path, session)).status == (200 if path == "/finance/../open/" else 403), path
