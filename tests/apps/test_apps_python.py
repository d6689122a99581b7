"""Python: plain WSGI and Django, under uWSGI (``examples/wsgi-app.conf``) and gunicorn (``examples/django.conf``)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from tests.apps.contract import JSON, Contract
from tests.apps.servers import gunicorn, uwsgi
from tests.apps.stand import Stand, a_folder, running
from tests.examples import placed

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNDER_UWSGI = ("wsgi-app.conf", "/run/uwsgi/app.sock", "wsgi.example.com")
UNDER_GUNICORN = ("django.conf", "/run/django/gunicorn.sock", "django.example.com")
KINDS = {
    "wsgi under uwsgi": (uwsgi, "wsgi", "app", {}, UNDER_UWSGI),
    "wsgi under gunicorn": (gunicorn, "wsgi", "app", {"WHO": "HTTP_X_WECOM_ACCOUNT"}, UNDER_GUNICORN),
    "django under uwsgi": (uwsgi, "django", "site_wsgi", {}, UNDER_UWSGI),
    "django under gunicorn": (gunicorn, "django", "site_wsgi", {"HEADER": "HTTP_X_WECOM_ACCOUNT"}, UNDER_GUNICORN),
}


async def started(stack: AsyncExitStack, kind: str) -> Stand:
    server, where, module, env, (example, socket, host) = KINDS[kind]
    folder = stack.enter_context(a_folder())
    await stack.enter_async_context(server(folder, where, module, **env))
    places = {socket: f"{folder}/app.sock"}
    if example == "django.conf":
        (folder / "static").mkdir()
        (folder / "static" / "site.css").write_text("body {}", "utf-8")
        places["/var/www/django/static/"] = f"{folder}/static/"
    return await stack.enter_async_context(running(placed(example, places), folder=folder, hosts=[host]))


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=KINDS)
async def stand(request: pytest.FixtureRequest) -> AsyncIterator[Stand]:
    async with AsyncExitStack() as stack:
        yield await started(stack, request.param)


class TestPython(Contract):
    """The same application each time, by REMOTE_USER or by a header."""

    async def test_a_public_path_does_not_become_a_protected_one(self, stand: Stand) -> None:
        """The path that the application acts on is the one that nginx judged, although gunicorn would believe SCRIPT_NAME."""
        told = await stand.stranger().told("/public/finance/", {"SCRIPT_NAME": "/public", "PATH_INFO": "/finance/"})

        assert (told.raw("SCRIPT_NAME") or b"", told.raw("PATH_INFO")) == (b"", b"/public/finance/")


@pytest.mark.parametrize("stand", ["django under uwsgi", "django under gunicorn"], indirect=True)
class TestDjango:
    """What is Django's own."""

    async def test_its_session_follows_ours(self, stand: Stand) -> None:
        """Django's session of zhangsan, kept in the same browser, opens nothing for lisi as zhangsan."""
        first = await (await stand.member()).get("/")
        kept = re.findall("sessionid=([a-z0-9]+)", str(first.headers))[0]
        lisi = await stand.member("lisi")

        told = await lisi.told("/", {"Cookie": f"sessionid={kept}; {lisi.cookie}"})

        assert (first.told.user, told.user) == ("zhangsan", "lisi")

    async def test_nobody_announced_is_nobody_in_django(self, stand: Stand) -> None:
        """In public Django's session of a member is not taken for a sign-in."""
        first = await (await stand.member()).get("/")
        kept = re.findall("sessionid=([a-z0-9]+)", str(first.headers))[0]

        told = await stand.stranger().told("/public/", {"Cookie": f"sessionid={kept}"})

        assert (first.told.user, told.user) == ("zhangsan", "")


@pytest.mark.parametrize("stand", ["django under gunicorn"], indirect=True)
class TestStatic:
    """Files beside the application."""

    async def test_are_for_members(self, stand: Stand) -> None:
        """What collectstatic gathered is served by nginx, to members."""
        assert (await (await stand.member()).get("/static/site.css")).text == "body {}"
        assert (await stand.stranger().get("/static/site.css", JSON)).status == 401
