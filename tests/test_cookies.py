"""Our cookies as they come back: what a neighbouring host plants is not taken for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from gateway.app import Gateway
from gateway.config import Config
from gateway.cookies import received
from gateway.sandbox import Sandbox
from tests.browser_double import Browser, Cookie

SITE = "https://oa.example.com"
BROWSER = "__Host-wecom_browser"
SIGN_IN = "__Secure-wecom_signin"

Browse = Callable[..., Browser]


@pytest.fixture
async def https(start: Callable[[Config], Awaitable[Gateway]], make_config: Callable[..., Config], sandbox: Sandbox) -> Gateway:
    sandbox.state.app.oauth_domain = "oa.example.com"
    return await start(make_config(site=[{"name": "oa", "public_url": SITE}]))


def plant(browser: Browser, name: str, value: str, path: str = "/") -> None:
    """Set a cookie as any host of the same domain may."""
    browser.jar[".example.com", path, name] = Cookie(name, value, ".example.com", path, True, browser.clock() + 3600)


def cookie(header: str, name: str) -> str:
    return received(make_mocked_request("GET", "/", headers={"Cookie": header}), name)


async def test_sign_in_of_another_person(browse: Browse, https: Gateway) -> None:
    """A neighbouring host cannot sign a person in as somebody else: the browser's own nonce cannot be planted in a value."""
    attacker, victim = browse("lisi", at=https, address="10.0.0.8"), browse("zhangsan", at=https)
    callback = await attacker.bring_code(f"{SITE}/")
    await victim.get(f"{SITE}/")
    plant(victim, SIGN_IN, attacker.cookie(SIGN_IN).value, "/_wecom/callback")
    plant(victim, "theme", f"dark {BROWSER}={attacker.cookie(BROWSER).value}")

    page = await victim.get(callback)

    assert (page.status, page.reason) == (400, "other-browser")
    assert victim.session(SITE + "/") == ""


async def test_browser_nonce_is_soon_forgotten(browse: Browse, https: Gateway) -> None:
    """Behind one address two like browsers get one nonce, so that tabs agree: it lives no longer than the sign-in's cookie."""
    browser = browse("zhangsan", at=https)

    await browser.get(f"{SITE}/")

    assert browser.cookie(BROWSER).attributes["max-age"] == browser.cookie(SIGN_IN).attributes["max-age"] == "3600"


async def test_planted_sign_in_is_in_nobodys_way(browse: Browse, https: Gateway) -> None:
    """A sign-in cookie that a neighbouring host planted on a shorter path does not take the place of the genuine one."""
    browser = browse("zhangsan", at=https)
    callback = await browser.bring_code(f"{SITE}/report")
    plant(browser, SIGN_IN, "planted", "/_wecom/callback")

    page = await browser.get(callback)

    assert page.location.startswith(f"{SITE}/report")
    assert browser.session(SITE + "/")


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("a=1", "1"),
        ("b=2; a=1", "1"),
        ("b=2;a=1;c=3", "1"),
        ("\ta = 1 ; b=2", "1"),
        ("a=1; a=2", "1"),
        ("b=2 a=1", ""),
        ('b="2; a=1', "1"),
        ("a", ""),
        ("aa=1; xa=2", ""),
        ("a=x=y", "x=y"),
        ("", ""),
    ],
)
def test_read_as_browsers_write(header: str, value: str) -> None:
    """Only a semicolon ends a cookie, quotes mean nothing, and the first of a name counts."""
    assert cookie(header, "a") == value


@given(st.text(st.characters(codec="latin-1", exclude_categories=["Cc"], exclude_characters=";"), max_size=60))
def test_no_value_makes_a_cookie(value: str) -> None:
    """Whatever the value of another cookie, it holds none of ours."""
    assert cookie(f"theme={value}; {BROWSER}=genuine", BROWSER) == "genuine"
    assert cookie(f"theme={value} {BROWSER}=planted", BROWSER) == ""
