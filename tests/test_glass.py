"""Break-glass: the session behind an operator's link, and what it is not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.app import Gateway
from gateway.config import Config
from gateway.glass import LINK_S, Glass
from tests.browser_double import Browser, Page
from tests.conftest import Clock

HOME = "http://localhost:8080/"
SESSION = "wecom_session_8080"
ABOUT = {"name": "张三", "own": [6], "departments": [6, 2, 1], "tags": {"7": True}, "leader_of": [6]}

Browse = Callable[..., Browser]
Start = Callable[[Config], Awaitable[Gateway]]
MakeConfig = Callable[..., Config]


@pytest.fixture
def glass(clock: Clock) -> Glass:
    now = int(clock())
    return Glass("glass-session", now + LINK_S, "zhangsan", "default", "localhost", 60, now, ABOUT)


def url_of(gateway: Gateway, glass: Glass) -> str:
    return f"{HOME}_wecom/glass/{glass.seal(gateway.live.now.sealer)}"


@pytest.fixture
async def entered(browse: Browse, gateway: Gateway, glass: Glass) -> Browser:
    """A browser that used the link."""
    browser = browse()
    page = await browser.post(url_of(gateway, glass))
    assert (page.status, page.location) == (303, HOME)
    return browser


async def test_rules_see_what_the_ledger_knew(entered: Browser) -> None:
    """Departments, tags and leadership of the last sign-in count for rules."""
    answers = [
        (await entered.check(HOME, rule=rule)).status for rule in ("", "department:1", "leader", "user:zhangsan", "user:lisi")
    ]

    assert answers == [204, 204, 204, 204, 403]


async def test_it_is_never_renewed(entered: Browser, clock: Clock) -> None:
    """Opened all the time it still ends after its minutes, and WeCom is never asked."""
    statuses, copy = [], entered.cookie_header(HOME)
    for _ in range(4):
        clock.advance(15 * 60)
        statuses.append((await entered.check(HOME, cookie=copy)).status)
    last = await entered.check(HOME, cookie=copy)

    assert statuses == [204, 204, 204, 401]
    assert last.headers["X-WeCom-Reason"] == "expired"


async def test_a_change_is_not_smoothed_over(entered: Browser, gateway: Gateway, clock: Clock) -> None:
    """Once WeCom says that departments changed, a sign-in is due: the cookie is not renewed with more time."""
    clock.advance(60)
    gateway.live.now.standing.outdate("zhangsan", clock())
    page = await entered.get(HOME)

    assert (page.status, page.reason) == (503, "wecom-unreachable")
    assert SESSION not in page.cookies_set


async def test_it_holds_while_nobody_can_be_read(entered: Browser, browse: Browse, gateway: Gateway, clock: Clock) -> None:
    """Where sessions are refused because WeCom is silent for long, this one is what the operator gave it for."""
    other = browse("lisi")
    await other.open(HOME)
    clock.advance(60)
    gateway.live.now.sessions.presence.unread_before = clock()
    verdicts = [await browser.check(HOME) for browser in (entered, other)]

    assert [verdict.headers.get("X-WeCom-Reason", "") for verdict in verdicts] == ["", "unverified"]


async def test_an_old_link(browse: Browse, gateway: Gateway, glass: Glass, clock: Clock) -> None:
    """After ten minutes the link opens nothing, neither looked at nor used."""
    clock.advance(LINK_S)
    url = url_of(gateway, glass)
    pages = [await browse().page(url), await browse().post(url)]

    assert [(page.status, page.reason) for page in pages] == [(400, "break-glass")] * 2


@pytest.mark.parametrize("change", [{"site": "other"}, {"host": "elsewhere.internal"}], ids=["site", "host"])
async def test_a_link_for_elsewhere(browse: Browse, gateway: Gateway, glass: Glass, change: dict[str, str]) -> None:
    """A link opens at its own site and host only."""
    page = await browse().post(url_of(gateway, replace(glass, **change)))

    assert (page.status, page.reason) == (400, "break-glass")


@pytest.mark.parametrize("purpose", ["hand-over", "session-private", "outcome"])
async def test_sealed_for_something_else(browse: Browse, gateway: Gateway, purpose: str) -> None:
    """What we sealed for another purpose is no link."""
    text = gateway.live.now.sealer.encrypt(purpose, ["a", 2**40, "zhangsan", "default", "localhost", 60, 0, {}])
    page = await browse().post(f"{HOME}_wecom/glass/{text}")

    assert (page.status, page.reason) == (400, "break-glass")


async def test_revoked_before_it_was_used(browse: Browse, gateway: Gateway, glass: Glass, clock: Clock) -> None:
    """A member revoked after the link was given does not get in by it."""
    gateway.live.now.standing.revoke("zhangsan", clock())
    page: Page = await browse().post(url_of(gateway, glass))

    assert (page.status, page.reason) == (403, "revoked")
    assert SESSION not in page.cookies_set


async def test_a_use_that_cannot_be_recorded(browse: Browse, gateway: Gateway, glass: Glass, tmp_path: Path) -> None:
    """Without the store nobody gets in by a link: that it opens once, and for whom it opened, could not be told."""
    (tmp_path / "ledger.sqlite3").rename(tmp_path / "away")
    page = await browse().post(url_of(gateway, glass))
    (tmp_path / "away").rename(tmp_path / "ledger.sqlite3")

    assert (page.status, page.reason) == (400, "break-glass")
    assert SESSION not in page.cookies_set


async def test_it_goes_to_other_sites_with_its_end(browse: Browse, start: Start, make_config: MakeConfig, glass: Glass) -> None:
    """Handed over to another site the session ends when it would have ended, and is renewed there no more than here."""
    sites = [{"name": "default", "public_url": "http://localhost:8080"}, {"name": "wiki", "public_url": "http://wiki.internal"}]
    gateway = await start(make_config(site=sites))
    browser = browse(at=gateway)
    await browser.post(url_of(gateway, glass))
    page = await browser.open("http://wiki.internal/")
    session = gateway.live.now.sessions.genuine(browser.session("http://wiki.internal/"))

    assert (page.status, session.user_id) == (200, "zhangsan")
    assert (session.ends, session.renewable) == (glass.issued + 3600, False)
