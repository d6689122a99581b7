"""A static site with an error page and headers of its own, as ``examples/static-site.conf`` has it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.apps.contract import HTML, JSON
from tests.apps.stand import Stand, a_folder, running
from tests.examples import placed

pytestmark = pytest.mark.asyncio(loop_scope="module")

FILES = {"index.html": "首页", "a.html": "A", "404.html": "MISSING", "images/i.png": "PNG", "finance/f.html": "FINANCE"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stand() -> AsyncIterator[Stand]:
    with a_folder() as folder:
        for name, text in FILES.items():
            (folder / "docs" / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / "docs" / name).write_text(text, "utf-8")
        places = {"/var/www/docs": f"{folder}/docs"}
        async with running(placed("static-site.conf", places), folder=folder, hosts=["docs.example.com"]) as stand:
            yield stand


async def test_members_read(stand: Stand) -> None:
    """A page, an index, and the site's own page for what is not there, each with the site's headers."""
    member = await stand.member(uri="/a.html")

    for uri, status, text in (("/a.html", 200, "A"), ("/", 200, "首页"), ("/none", 404, "MISSING")):
        answer = await member.get(uri, HTML)
        assert (answer.status, answer.text) == (status, text)
    assert (await member.get("/a.html")).headers["Cache-Control"] == "private, no-cache"
    assert (await member.get("/a.html")).headers["X-Content-Type-Options"] == "nosniff"


async def test_strangers_sign_in(stand: Stand) -> None:
    """What is there and what is not look the same to them; only the pictures are for everybody."""
    stranger = stand.stranger()

    pages = [await stranger.get(uri, HTML) for uri in ("/a.html", "/none", "/finance/f.html")]
    picture = await stranger.get("/images/i.png")

    assert [page.status for page in pages] == [302, 302, 302]
    assert len({page.headers["Location"].partition("&redirect_uri")[0] for page in pages}) == 1
    assert (picture.status, picture.text) == (200, "PNG")
    assert (await stranger.get("/404.html")).status == 404


async def test_a_folder_with_a_rule(stand: Stand) -> None:
    """Two read it, a third is told why not, by our page and not by the site's error page."""
    assert (await (await stand.member("lisi")).get("/finance/f.html")).text == "FINANCE"

    refused = await (await stand.member("wangwu")).get("/finance/f.html", HTML)
    assert (refused.status, "王五" in refused.text) == (403, True)
    assert "no-store" in refused.headers["Cache-Control"]


async def test_signing_out_ends_it(stand: Stand) -> None:
    """A page that the browser kept is asked for again (`no-cache`), and then refused."""
    member = await stand.member()
    kept = await member.get("/a.html")
    again = {"If-None-Match": kept.headers["ETag"]}

    assert (await member.get("/a.html", again)).status == 304
    await member.sign_out()
    assert (await member.get("/a.html", again | JSON)).status == 401
