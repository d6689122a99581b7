"""What is behind a ``proxy_pass``: an old application, websockets, a single-page application, several hosts, machines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from urllib.parse import quote

import aiohttp
import pytest
import pytest_asyncio

from tests.apps.contract import FORGED, HTML, JSON, Contract
from tests.apps.inside import application
from tests.apps.stand import Person, Stand, a_folder, running
from tests.examples import command, placed, settings

pytestmark = pytest.mark.asyncio(loop_scope="module")

APP = "http://127.0.0.1:3000"
MACHINE = "127.0.0.9"  #: of the loopback addresses, the one that is a machine's
FILES = {"index.html": "SPA", "assets/app.4f2a.js": "JS"}
HOSTS = {
    "legacy-app.conf": ["oa.example.com"],
    "websocket-app.conf": ["chat.example.com"],
    "spa-api.conf": ["spa.example.com"],
    "many-hosts.conf": ["oa.example.com", "erp.example.com"],
    "machines.conf": ["api.example.com"],
}


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=HOSTS)
async def stand(request: pytest.FixtureRequest) -> AsyncIterator[Stand]:
    example = request.param
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(a_folder())
        places = {APP: await stack.enter_async_context(application(folder))}
        if example == "many-hosts.conf":
            places["http://127.0.0.1:3001"] = await stack.enter_async_context(application(folder, "other"))
        if example == "machines.conf":
            places["10.20.30.0/24"] = f"{MACHINE}/32"
        if example == "spa-api.conf":
            places["/var/www/spa"] = f"{folder}/spa"
            for name, text in FILES.items():
                (folder / "spa" / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / "spa" / name).write_text(text, "utf-8")
        how = {name: value for name, value in settings(example).items() if name != "site"}
        yield await stack.enter_async_context(running(placed(example, places), folder=folder, hosts=HOSTS[example], **how))


@pytest.mark.parametrize("stand", ["legacy-app.conf"], indirect=True)
class TestLegacyApp(Contract):
    """An application that reads a header."""


@pytest.mark.parametrize("stand", ["websocket-app.conf"], indirect=True)
class TestWebsocket:
    """A websocket opens for members, and the application knows whose it is."""

    async def test_opens_with_a_session(self, stand: Stand) -> None:
        """Words travel both ways, and forged headers do not."""
        member = await stand.member()
        url = f"http://{stand.host}/ws/echo"

        async with stand.client() as http, http.ws_connect(url, headers=[("Cookie", member.cookie), *FORGED]) as channel:
            greeting = await channel.receive_str()
            await channel.send_str("你好")
            answer = await channel.receive_str()

        assert (greeting, answer) == ("zhangsan 张三", "echo 你好")

    async def test_is_refused_without(self, stand: Stand) -> None:
        """A stranger, and somebody who signed out, get 401 and no websocket."""
        left = await stand.member()
        await left.sign_out()

        for cookie in ("", left.cookie):
            async with stand.client() as http:
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await http.ws_connect(
                        f"http://{stand.host}/ws/echo", headers={"Cookie": cookie, "Origin": f"http://{stand.host}"}
                    )
            assert refused.value.status == 401

    async def test_one_that_is_open_outlives_the_sign_out(self, stand: Stand) -> None:
        """As the example says: the question is asked when it opens."""
        member = await stand.member()
        url = f"http://{stand.host}/ws/echo"

        async with stand.client() as http, http.ws_connect(url, headers={"Cookie": member.cookie}) as channel:
            await channel.receive_str()
            await member.sign_out()
            await channel.send_str("still")
            answer = await channel.receive_str()

        assert answer == "echo still"


@pytest.mark.parametrize("stand", ["spa-api.conf"], indirect=True)
class TestSinglePage:
    """Pages are led to the sign-in, scripts are told."""

    async def test_a_member_gets_page_files_and_api(self, stand: Stand) -> None:
        """Any path that is no file is the page; the API knows who asks."""
        member = await stand.member()

        deep = await member.get("/orders/17?tab=2", HTML)
        asset = await member.get("/assets/app.4f2a.js")
        told = await member.told("/api/items")

        assert (deep.status, deep.text, deep.headers["Cache-Control"]) == (200, "SPA", "private, no-cache")
        assert (asset.text, "immutable" in asset.headers["Cache-Control"]) == ("JS", True)
        assert (told.user, told.name) == ("zhangsan", "张三")

    async def test_a_script_is_told_where_to_sign_in(self, stand: Stand) -> None:
        """401 with a login_url that leads back to the page that asked."""
        page = f"http://{stand.host}/orders/17?tab=2"

        answer = await stand.stranger().get("/api/items", JSON | {"Referer": page})

        assert (answer.status, answer.json["reason"]) == (401, "no-session")
        assert answer.json["login_url"] == f"http://{stand.host}/_wecom/login?return_to={quote(page)}"

    async def test_no_file_without_a_session(self, stand: Stand) -> None:
        """Neither the page nor its parts: a page asks for the sign-in, a part is refused."""
        deep = await stand.stranger().get("/orders/17", HTML)
        asset = await stand.stranger().get("/assets/app.4f2a.js", {"Accept": "*/*", "Referer": f"http://{stand.host}/"})

        assert (deep.status, asset.status) == (302, 401)
        assert (await stand.stranger().get("/assets/none.js", JSON)).status == 401
        assert (await (await stand.member()).get("/assets/none.js")).status == 404


@pytest.mark.parametrize("stand", ["many-hosts.conf"], indirect=True)
class TestManyHosts:
    """Two sites, one callback host."""

    async def test_the_settings_in_its_header_are_these(self, stand: Stand) -> None:
        """Names, addresses and callback host of the example's own comment are those that it is tried with."""
        stated = settings("many-hosts.conf")

        assert stated["site"] == [{"name": str(site.name), "public_url": str(site.public_url)} for site in stand.config.site]
        assert stated["callback_site"] == stand.config.callback.name

    async def test_each_has_its_session(self, stand: Stand) -> None:
        """A member signs in at the second site by way of the first; neither's session opens the other."""
        first = await stand.member(host="oa.example.com")
        second = await stand.member(host="erp.example.com")

        assert (await first.told("/")).user == "zhangsan"
        assert (await second.get("/", host="erp.example.com")).told.user == "zhangsan"
        for person, host in ((first, "erp.example.com"), (second, "oa.example.com")):
            answer = await person.get("/", JSON, host=host)
            assert (answer.status, answer.headers["X-WeCom-Reason"]) == (401, "other-site")


@pytest.mark.parametrize("stand", ["machines.conf"], indirect=True)
class TestMachines:
    """`satisfy any`: by address, or by a session."""

    async def test_a_machine_needs_no_session_and_is_nobody(self, stand: Stand) -> None:
        """Whoever comes from the subnet passes without an identity, forged or real."""
        member = await stand.member()

        nobody = await stand.stranger(MACHINE).told("/api/", FORGED)
        signed_in = await Person(stand, member.session, MACHINE).told("/api/")

        assert (nobody.user, nobody.identity) == ("", {})
        assert (signed_in.user, signed_in.identity, signed_in.raw("HTTP_COOKIE")) == ("", {}, None)

    async def test_from_elsewhere_a_session_is_needed(self, stand: Stand) -> None:
        """A person signs in and is announced; a stranger is led to the sign-in, a script told."""
        member = await stand.member(uri="/api/")

        told = await member.told("/api/", FORGED)
        page = await stand.stranger().get("/api/", HTML)
        script = await stand.stranger().get("/api/", JSON | {"X-Real-IP": MACHINE, "X-Forwarded-For": MACHINE})

        assert told.identity["USERID"] == "zhangsan"
        assert (page.status, script.status, script.json["reason"]) == (302, 401, "no-session")

    async def test_a_token_is_a_machine_with_a_name(self, stand: Stand) -> None:
        """As Bearer or as a password it opens the location whose rule it names, and the application does not see it."""
        token = await stand.issued(command("machines.conf"))

        for sent in (f"Bearer {token}", aiohttp.encode_basic_auth("anything", token)):
            told = await stand.stranger().told("/reports/", [*FORGED, ("Authorization", sent)])
            elsewhere = await stand.stranger().get("/", JSON | {"Authorization": sent})

            assert (told.identity["USERID"], told.identity["KIND"]) == ("token:ci", "token")
            assert (told.raw("HTTP_AUTHORIZATION"), elsewhere.status) == (None, 403)

    async def test_a_program_is_asked_for_its_password(self, stand: Stand) -> None:
        """Who comes to the location without one gets a challenge; a browser the sign-in; a member whom the rule names enters."""
        program = await stand.stranger().get("/reports/", {"Accept": "*/*"})
        browser = await stand.stranger().get("/reports/", HTML)
        elsewhere = await stand.stranger().get("/api/", JSON)

        assert (program.status, program.headers["WWW-Authenticate"].partition(" ")[0]) == (401, "Basic")
        assert (browser.status, "WWW-Authenticate" in browser.headers) == (302, False)
        assert (elsewhere.status, "WWW-Authenticate" in elsewhere.headers) == (401, False)
        assert (await (await stand.member()).told("/reports/")).user == "zhangsan"
        assert (await (await stand.member("lisi")).get("/reports/", JSON)).status == 403

    async def test_the_subnet_opens_nothing_else(self, stand: Stand) -> None:
        """Outside the location that says so, a machine is asked like everybody."""
        assert (await stand.stranger(MACHINE).get("/", JSON)).status == 401
