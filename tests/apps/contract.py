"""What every application behind the gateway may rely on: one suite, run against each."""

from __future__ import annotations

import io
import itertools
from collections.abc import AsyncIterator
from urllib.parse import unquote

import aiohttp
import pytest

from tests.apps.stand import Stand

JSON = {"Accept": "application/json"}
HTML = {"Accept": "text/html"}
NAMES = ("UserId", "Account", "Name", "CorpId", "Departments", "Email", "Mobile", "Avatar", "Position", "Alias", "Kind", "Jwt")
FORGED = [
    (case("".join(("X", first, "WeCom", second, name))), "forged")
    for name in NAMES
    for first, second in itertools.product("-_", "-_")
    for case in (str, str.lower, str.upper)
]
"""Each identity header in every spelling that CGI or WSGI would read as ours."""

OTHERS = b'sid=0123; theme=dark; q="a b"; utf=\xe5\xbc\xa0; eq=a=b==; empty=; wecom_sessionx=1; x__Host-wecom_session=2'
DIVERTING = dict.fromkeys(["X-Original-URL", "X-Rewrite-URL", "SCRIPT_NAME", "PATH_INFO", "Proxy"], "/secret")
MEGABYTE = 1 << 20


class Contract:
    """An application with a page at ``page``, the same without sign-in below ``public``, for some members below ``finance``."""

    page = "/"
    public = "/public/"
    finance = "/finance/"

    async def test_the_member_and_the_name(self, stand: Stand) -> None:
        """The application knows zhangsan, and its language's one line makes 张三 of the name."""
        told = await (await stand.member()).told(self.page)

        assert (told.user, told.name) == ("zhangsan", "张三")
        assert told.identity | {"DEPARTMENTS": ""} == {
            "USERID": "zhangsan",
            "ACCOUNT": "zhangsan",
            "NAME": "%E5%BC%A0%E4%B8%89",
            "CORPID": "ww0123456789abcdef",
            "DEPARTMENTS": "",
            "KIND": "member",
        }

    async def test_a_stranger_is_sent_to_wecom(self, stand: Stand) -> None:
        """A page leads to the sign-in, a script is told; neither reaches the application."""
        page = await stand.stranger().get(self.page, HTML)
        script = await stand.stranger().get(self.page, JSON)

        assert page.status == 302
        assert page.headers["Location"].startswith(stand.sandbox.url) or "/_wecom/" in page.headers["Location"]
        assert (script.status, script.headers["X-WeCom-Reason"]) == (401, "no-session")

    async def test_forged_identity_does_not_arrive(self, stand: Stand) -> None:
        """A member who sends every identity header in every spelling is still nobody else."""
        member = await stand.member()

        told = await member.told(self.page, FORGED)

        assert (told.user, told.name) == ("zhangsan", "张三")
        assert told.identity == (await member.told(self.page)).identity

    async def test_forged_identity_does_not_arrive_in_public(self, stand: Stand) -> None:
        """Where nobody is asked nobody is announced, whatever is sent, by a stranger or a member."""
        for person in (stand.stranger(), await stand.member()):
            told = await person.told(self.public, FORGED)

            assert (told.user, told.name, told.identity) == ("", "", {})

    async def test_a_password_makes_nobody_of_another_name(self, stand: Stand) -> None:
        """nginx's $remote_user, which anybody types into a password prompt, is not who the application thinks is there."""
        basic = {"Authorization": aiohttp.encode_basic_auth("boss", "x")}

        assert (await (await stand.member()).told(self.page, basic)).user == "zhangsan"
        assert (await stand.stranger().told(self.public, basic)).user == ""

    async def test_the_application_keeps_its_passwords(self, stand: Stand) -> None:
        """Another's Authorization passes as it is; a token of ours never does."""
        member = await stand.member()

        for theirs in (aiohttp.encode_basic_auth("boss", "x"), "Bearer other"):
            told = await stand.stranger().told(self.public, {"Authorization": theirs})
            assert told.raw("HTTP_AUTHORIZATION") == theirs.encode()
        for ours in (aiohttp.encode_basic_auth("boss", "wgt_abc"), "Bearer wgt_abc"):
            told = await stand.stranger().told(self.public, {"Authorization": ours})
            assert (told.raw("HTTP_AUTHORIZATION") or None, told.password) == (None, ":")
        assert (await member.told(self.page, {"Authorization": "Bearer other"})).raw("HTTP_AUTHORIZATION") == b"Bearer other"

    async def test_every_cookie_but_ours_arrives_byte_for_byte(self, stand: Stand) -> None:
        """Wherever our session stands among them, the application gets the others as they were, and not ours."""
        member = await stand.member()
        others, ours = OTHERS.decode("utf-8"), member.cookie
        first, second = others.split("; ", 1)

        for sent in (f"{ours}; {others}", f"{others}; {ours}", f"{first}; {ours}; {second}"):
            told = await member.told(self.page, {"Cookie": sent})
            assert told.raw("HTTP_COOKIE") == OTHERS
        assert not (await member.told(self.page)).raw("HTTP_COOKIE")
        assert (await member.told(self.public, {"Cookie": f"{others}; {ours}"})).raw("HTTP_COOKIE") == OTHERS

    async def test_many_cookies(self, stand: Stand) -> None:
        """Seven kilobytes of an old application's cookies arrive."""
        member = await stand.member()
        others = "; ".join(f"c{number}={'x' * 100}" for number in range(65))

        assert (await member.told(self.page, {"Cookie": f"{others}; {member.cookie}"})).raw("HTTP_COOKIE") == others.encode()

    async def test_no_other_path_and_no_proxy_by_header(self, stand: Stand) -> None:
        """The headers by which old frameworks take another path than nginx checked do not arrive, nor `Proxy`."""
        harmless = {"HTTP_SCRIPT_NAME", "HTTP_PATH_INFO"}
        for told in (
            await stand.stranger().told(self.public, DIVERTING),
            await (await stand.member()).told(self.page, DIVERTING),
        ):
            assert not [name for name, value in told.environ.items() if unquote(value) == "/secret" and name not in harmless]

    async def test_where_the_request_came_from(self, stand: Stand) -> None:
        """Host, the client's address and the scheme are nginx's words."""
        sent = {"X-Real-IP": "1.2.3.4", "X-Forwarded-Proto": "gopher", "X-Forwarded-For": "192.0.2.9"}

        told = await (await stand.member()).told(self.page, sent)

        assert told.raw("HTTP_HOST") == stand.host.encode()
        assert told.raw("HTTP_X_REAL_IP") == b"127.0.0.1"
        assert told.raw("HTTP_X_FORWARDED_FOR") == b"192.0.2.9, 127.0.0.1"
        assert told.raw("HTTP_X_FORWARDED_PROTO") == b"http"

    async def test_the_rule_lets_some_in(self, stand: Stand) -> None:
        """Members whom the rule names open the page, another gets the page that says why not, a stranger signs in."""
        allowed = await (await stand.member("lisi")).told(self.finance)
        refused = await (await stand.member("wangwu")).get(self.finance, HTML)
        script = await (await stand.member("wangwu")).get(self.finance, JSON)

        assert (allowed.user, allowed.name) == ("lisi", "李四")
        assert (refused.status, "王五" in refused.text) == (403, True)
        assert (script.status, script.json["reason"]) == (403, "rule")
        assert (await stand.stranger().get(self.finance, JSON)).status == 401

    @pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
    async def test_the_application_s_own_errors_are_its_own(self, stand: Stand, status: int) -> None:
        """What the application answers is shown as it is: no sign-in, no page of ours."""
        answer = await (await stand.member()).get(f"{self.page}?status={status}", HTML)

        assert (answer.status, answer.told.user) == (status, "zhangsan")

    async def test_signing_out_ends_it(self, stand: Stand) -> None:
        """After the sign-out even a kept copy of the cookie opens nothing."""
        member = await stand.member()
        await member.told(self.page)

        assert (await member.sign_out()).status in (302, 303)

        answer = await member.get(self.page, JSON)
        assert (answer.status, answer.headers["X-WeCom-Reason"]) == (401, "signed-out")

    async def test_an_upload_of_50_mb(self, stand: Stand) -> None:
        """A member's file arrives whole; a stranger's is refused."""
        body = b"x" * (50 * MEGABYTE)

        sent = await (await stand.member()).ask(
            "POST", self.page, {"Content-Type": "application/octet-stream"}, body=io.BytesIO(body)
        )
        refused = await stand.stranger().ask("POST", self.page, JSON, body=b"x" * MEGABYTE)

        assert (sent.status, sent.told.length, sent.told.user) == (200, len(body), "zhangsan")
        assert refused.status == 401

    async def test_an_upload_of_unknown_length(self, stand: Stand) -> None:
        """In the chunked coding, too."""

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(64):
                yield b"x" * (1 << 14)

        sent = await (await stand.member()).ask("POST", self.page, {"Content-Type": "application/octet-stream"}, body=chunks())

        assert (sent.status, sent.told.length) == (200, 64 << 14)
