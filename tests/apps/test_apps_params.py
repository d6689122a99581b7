"""``fastcgi.conf`` and ``uwsgi.conf`` among an operator's own lines, and what a real php-fpm and uWSGI make of it."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.apps.contract import FORGED
from tests.apps.servers import SERVED, php_fpm, uwsgi
from tests.apps.stand import Stand, a_folder, running

SNIPPETS = Path(__file__).resolve().parents[2] / "nginx"

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVERS = """
    server {
        listen 80;
        server_name odd.example.com;
        include wecom/gateway.conf;
        root FOLDER/www;

        KIND_param X_OUTER yes;

        location / { include wecom/protect.conf; include wecom/KIND.conf; PASS }
        location /before/ { include wecom/protect.conf; OWN include wecom/KIND.conf; PASS }
        location /after/ { include wecom/protect.conf; include wecom/KIND.conf; OWN PASS }
        location /off/ { KIND_pass_request_headers off; include wecom/protect.conf; include wecom/KIND.conf; PASS }
        location /machine/ {
            satisfy any;
            allow 127.0.0.1;
            deny all;
            include wecom/protect.conf;
            OWN include wecom/KIND.conf;
            PASS
        }
        location /public/ { include wecom/public.conf; OWN include wecom/KIND.conf; PASS }
        location /tls/ { set $wecom_upstream_proto https; include wecom/protect.conf; include wecom/KIND.conf; PASS }
        location ~ ^/captured/([^/]+)/(.+)$ {
            include wecom/protect.conf;
            KIND_param X_ONE $1;
            include wecom/KIND.conf;
            KIND_param X_BOTH "$2-$1";
            PASS
        }
        location ~ ^/opened/([^/]+)/(.+)$ {
            include wecom/public.conf;
            KIND_param X_ONE $1;
            include wecom/KIND.conf;
            KIND_param X_BOTH "$2-$1";
            PASS
        }
        location /outer/ {
            include wecom/protect.conf;
            include wecom/KIND.conf;
            SCRIPT
            location /outer/inner/ { TARGET }
            location /outer/bare/ { include /etc/nginx/KIND_params; SCRIPT TARGET }
        }
    }
"""

OWN = """
    include /etc/nginx/KIND_params;
    KIND_param REMOTE_USER $remote_user;
    KIND_param HTTP_COOKIE $http_cookie;
    KIND_param HTTP_AUTHORIZATION $http_authorization;
    KIND_param HTTP_HOST $http_host;
"""

SCRIPT = {"fastcgi": "fastcgi_param SCRIPT_FILENAME $document_root/index.php;", "uwsgi": ""}
TARGET = {"fastcgi": "fastcgi_pass unix:FOLDER/php.sock;", "uwsgi": "uwsgi_pass unix:FOLDER/app.sock;"}
BOSS = {"Authorization": aiohttp.encode_basic_auth("boss", "x")}


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=TARGET)
async def stand(request: pytest.FixtureRequest) -> AsyncIterator[Stand]:
    kind = request.param
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(a_folder())
        shutil.copytree(SERVED / "php", folder / "www")
        await stack.enter_async_context(php_fpm(folder) if kind == "fastcgi" else uwsgi(folder, "wsgi", "app"))
        words = {"OWN": OWN, "PASS": "SCRIPT TARGET", "SCRIPT": SCRIPT[kind], "TARGET": TARGET[kind], "KIND": kind}
        servers = SERVERS
        for word, text in (words | {"FOLDER": str(folder)}).items():
            servers = servers.replace(word, text)
        yield await stack.enter_async_context(running(servers, folder=folder, hosts=["odd.example.com"]))


async def test_below_other_params_ours_count(stand: Stand) -> None:
    """After an operator's own lines for the same names, a member is the member and our session stays with us."""
    member = await stand.member()

    told = await member.told("/before/", [*FORGED, *BOSS.items()])

    assert (told.user, told.identity["USERID"]) == ("zhangsan", "zhangsan")
    assert not told.raw("HTTP_COOKIE")
    assert "forged" not in told.identity.values()


async def test_a_token_of_ours_stays_with_us(stand: Stand) -> None:
    """Also where an operator passes HTTP_AUTHORIZATION by a line of his own, above ours."""
    told = await stand.stranger().told("/public/", {"Authorization": "Bearer wgt_abc"})

    assert not told.raw("HTTP_AUTHORIZATION")


async def test_above_other_params_they_count(stand: Stand) -> None:
    """Why the include belongs below: the last REMOTE_USER counts, and $remote_user is what a client says. Headers stay ours."""
    member = await stand.member()

    told = await member.told("/after/", [*FORGED, *BOSS.items()])

    assert told.user == "boss"
    assert told.identity == (await member.told("/")).identity


@pytest.mark.parametrize("uri", ["/machine/", "/public/"])
async def test_who_was_not_asked_is_nobody(stand: Stand, uri: str) -> None:
    """REMOTE_USER is set and empty, so that no line above fills it from a password that nobody looked at."""
    told = await stand.stranger().told(uri, [*FORGED, *BOSS.items()])

    assert (told.user, told.raw("REMOTE_USER"), told.identity) == ("", b"", {})


async def test_without_the_client_s_headers(stand: Stand) -> None:
    """`…_pass_request_headers off` takes the client's headers away, and not ours."""
    member = await stand.member()

    told = await member.told("/off/", [*FORGED, ("X-Own", "1")])

    assert (told.user, told.name) == ("zhangsan", "张三")
    assert told.raw("HTTP_X_OWN") is None


async def test_tls_that_ends_before_nginx(stand: Stand) -> None:
    """`set $wecom_upstream_proto https;` tells the application in every way there is; without it nothing says https."""
    member = await stand.member()

    behind, plain = await member.told("/tls/"), await member.told("/")

    names = ("HTTPS", "REQUEST_SCHEME", "HTTP_X_FORWARDED_PROTO")
    assert [behind.raw(name) for name in names] == [b"on", b"https", b"https"]
    assert [plain.raw(name) for name in names] == [None, b"http", b"http"]


@pytest.mark.parametrize("kind", TARGET)
async def test_has_all_that_nginx_s_own_file_has(kind: str) -> None:
    """So that it can stand in its place: each name of Debian's file, with the same value but for what is ours."""
    theirs, ours = (
        dict(re.findall(rf"^{kind}_param\s+(\w+)\s+([^;]+?)(?:\s+if_not_empty)?;", path.read_text("utf-8"), re.MULTILINE))
        for path in (Path(f"/etc/nginx/{kind}_params"), SNIPPETS / f"{kind}.conf")
    )

    assert theirs.keys() <= ours.keys()
    assert {name for name, value in theirs.items() if ours[name] != value} <= {
        "REMOTE_USER",
        "REQUEST_SCHEME",
        "HTTPS",
        "HTTP_HOST",
    }


async def test_the_host_is_the_one_that_nginx_goes_by(stand: Stand) -> None:
    """With a host in the request line, another one in the Host header does not reach the application."""
    member = await stand.member()
    lines = [f"GET http://{stand.host}/ HTTP/1.1", "Host: evil.test", f"Cookie: {member.cookie}", "Connection: close", "", ""]
    reader, writer = await asyncio.open_connection("127.0.0.1", stand.port)
    writer.write("\r\n".join(lines).encode())
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()

    assert b"zhangsan" in answer
    assert (f'"HTTP_HOST":"{stand.host}"'.encode() in answer.replace(b": ", b":"), b"evil.test" in answer) == (True, False)


async def test_what_a_location_captured_stays(stand: Stand) -> None:
    """`$1` and `$2` beside our include are those of the location, whatever cookies and passwords a client sends."""
    member = await stand.member()
    sent = {"Cookie": f"a={'x' * 300}; {member.cookie}; b=2", **BOSS}

    told = await member.told("/captured/one/two/", sent)

    assert (told.raw("X_ONE"), told.raw("X_BOTH")) == (b"one", b"two/-one")
    assert (told.user, told.raw("HTTP_COOKIE")) == ("zhangsan", f"a={'x' * 300}; b=2".encode())


@pytest.mark.parametrize("where", ["captured", "opened"])
@pytest.mark.parametrize("one", ["%0A", "a%0Ab", f"a{'%0A' * 10}evil.test%0Aevil.test%0A__Host-wecom_session;x=1"])
async def test_a_line_feed_in_what_a_location_captured(stand: Stand, where: str, one: str) -> None:
    """A path that would shift one field into the next is refused."""
    answer = await (await stand.member()).get(f"/{where}/{one}/two/", {"Cookie": "a=1"})

    assert answer.status == 400


async def test_params_of_the_server_are_dropped(stand: Stand) -> None:
    """As the file's header says: one line in the location, and those above it are gone."""
    assert (await (await stand.member()).told("/")).raw("X_OUTER") is None


async def test_a_nested_location_keeps_them(stand: Stand) -> None:
    """Without a line of its own it inherits all of them."""
    told = await (await stand.member()).told("/outer/inner/", FORGED)

    assert (told.user, told.identity["USERID"], told.raw("HTTP_COOKIE")) == ("zhangsan", "zhangsan", b"")


async def test_a_nested_location_with_a_line_of_its_own_loses_them(stand: Stand) -> None:
    """Why the include belongs into it as well: the check runs, but the client's own headers and our cookie arrive."""
    member = await stand.member()

    told = await member.told("/outer/bare/", FORGED)

    assert (told.user, told.identity["USERID"], told.raw("HTTP_COOKIE")) == ("", "forged", member.cookie.encode())
