"""Rows that are compared closely differ in what they name and in nothing else."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gateway import loading
from tests.bench import proc
from tests.bench.requests import PLACE, Sealed
from tests.bench.rows import ROWS, Row
from tests.bench.site import Ports, Site
from tests.bench.stage import Stage
from tests.patience import until

ROW = {row.name: row for row in ROWS}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, Ports())
    site.prepare([])
    yield site
    shutil.rmtree(site.cache, ignore_errors=True)


@pytest.mark.parametrize("name", [ROW["ledger"].answerer, ROW["twin"].answerer])
def test_two_gateways_and_their_nginx_are_set_up_alike(site: Site, name: str) -> None:
    """But for names and ports, the settings and every file of nginx are those of the gateway that answers ``seen``."""

    def files(answerer: str) -> dict[str, str]:
        path = site.settings(answerer)
        conf = site.front(answerer, [f"127.0.0.1:{site.ports[f'{answerer}-check']}"], loading.load(path, {}))
        texts = {"settings": path} | {str(file.relative_to(conf.parent)): file for file in conf.parent.rglob("*.conf")}
        return {each: _anonymous(file.read_text("utf-8"), site, answerer) for each, file in texts.items()}

    ours = files(ROW["seen"].answerer)

    assert len(ours) > 5
    assert files(name) == ours


def _anonymous(text: str, site: Site, name: str) -> str:
    text = text.replace(f"{site.folder}", "FOLDER").replace(f"nginx-{name}.log", "LOG").replace(f"/{name}.sqlite3", "/STORE")
    return re.sub(r"127\.0\.0\.1:\d+", "PORT", text)


async def test_a_rule_changes_nothing_but_the_question(site: Site) -> None:
    """The page behind 50 alternatives is the page without: status, headers, length; and it is refused to a forged session."""
    sealed, seen, rule = Sealed(site.folder), ROW["seen"], ROW["rule"]
    sealed.write(loading.load(site.settings("gateway"), {}), {"one": 1})
    async with AsyncExitStack() as stack:
        stage = Stage(site, sealed, stack, {}, {}, 1, remembered=10, revoked=0, say=lambda _: None)
        await stage.start([seen, rule])

        answers = [await _answer(stage, row) for row in (seen, rule)]
        refused = await _answer(stage, rule, session="forged")

    assert answers[0].startswith("HTTP/1.1 200 ")
    assert answers[0] == answers[1]
    assert refused.startswith("HTTP/1.1 401 ")


async def test_a_cache_is_measured_once_nginx_has_read_its_folder(site: Site) -> None:
    """Before, each question it does not know costs a look there; the process that will read it is there, and ends then."""
    async with AsyncExitStack() as stack:
        stage = Stage(site, Sealed(site.folder), stack, {}, {}, 1, remembered=10, revoked=0, say=lambda _: None)
        await stage.start([ROW["cache"]])
        await until(lambda: stage.reading_caches() == ["nginx-gateway-cached"])
        loader = next(pid for pid in proc.tree(stage.pids["nginx-gateway-cached"]) if "loader" in proc.title(pid))
        os.kill(loader, signal.SIGQUIT)

        await stage.caches_read()

    assert stage.reading_caches() == []


async def _answer(stage: Stage, row: Row, session: str = "") -> str:
    """The head of the answer, without what tells the time."""
    load = stage.load(row)
    value = session or load.sessions.read_text("ascii").strip()
    port = int(load.url.split(":")[2].partition("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(load.request.read_text("ascii").replace(PLACE, value).encode("ascii"))
        head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
    finally:
        writer.close()
        await writer.wait_closed()
    return re.sub(r"(?m)^(Date|Last-Modified|ETag): .*\r\n", "", head)
