"""Chromium, its profiles, and installations to browse."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.browser.stand import Stand, running
from tests.patience import PATIENCE_S

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP *.example.test 127.0.0.1, MAP *.example.org 127.0.0.1, "
    "EXCLUDE localhost, EXCLUDE 127.0.0.1, MAP * ~NOTFOUND",
]

PATIENCE_MS = PATIENCE_S * 1000

NewContext = Callable[..., Awaitable[BrowserContext]]
StartStand = Callable[..., Awaitable[Stand]]


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def browser() -> AsyncIterator[Browser]:
    expect.set_options(timeout=PATIENCE_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="session")
async def start_stand() -> AsyncIterator[StartStand]:
    """Start installations; they end with the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(**how: Any) -> Stand:
            return await stack.enter_async_context(running(**how))

        yield start


@pytest_asyncio.fixture(loop_scope="session")
async def stand(start_stand: StartStand) -> Stand:
    """Sites by plain http, two of them on ports of localhost, which also is the callback host."""
    return await start_stand()


@pytest_asyncio.fixture(loop_scope="session")
async def new_context(browser: Browser) -> AsyncIterator[NewContext]:
    """Make fresh browser profiles; whatever one asks of the internet, and whatever our own policy stops, fails the test."""
    contexts: list[BrowserContext] = []
    troubles: list[str] = []

    async def make(stand: Stand, *, holder: str = "", **options: Any) -> BrowserContext:
        context = await browser.new_context(**({"locale": "zh-CN"} | options))
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        watch(context, stand, troubles)
        if holder:
            await context.add_cookies([{"name": "sandbox_member", "value": holder, "url": stand.sandbox.url}])
        return context

    yield make
    for context in contexts:
        await context.close()
    assert troubles == []


def watch(context: BrowserContext, stand: Stand, troubles: list[str]) -> None:
    """Note what leaves the stand, what our own policy stops, and scripts' errors."""

    def asked(url: str) -> None:
        if url.startswith(("http:", "https:", "ws")) and not stand.is_own(url):
            troubles.append(f"asked of the internet: {url}")

    def said(text: str) -> None:
        if "Content Security" in text:
            troubles.append(text)

    context.on("request", lambda request: asked(request.url))
    context.on("console", lambda message: said(message.text))
    context.on("weberror", lambda error: troubles.append(str(error.error)))


@pytest_asyncio.fixture(loop_scope="session")
async def context(stand: Stand, new_context: NewContext) -> BrowserContext:
    """A desktop browser."""
    return await new_context(stand)


@pytest_asyncio.fixture(loop_scope="session")
async def page(context: BrowserContext) -> Page:
    return await context.new_page()
