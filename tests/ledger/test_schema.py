"""The file of an earlier release opens in this one, and that of the next as well; one after that is refused."""

from __future__ import annotations

import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from gateway.cli.storing import entries
from gateway.ledger import LedgerBroken, Record
from gateway.ledger.chain import verify
from gateway.ledger.schema import STEPS, VERSION, prepare
from gateway.ledger.sqlite import SqliteStore

OLD = Path(__file__).with_name("version1.sqlite3")
"""Written by the release whose schema was version 1; never to be made anew."""

NEXT = (
    *STEPS,
    (
        "ALTER TABLE record ADD COLUMN device TEXT NOT NULL DEFAULT ''",
        "CREATE TABLE device (id TEXT PRIMARY KEY)",
        "UPDATE record SET device = 'phone'",
    ),
)
"""What the next release might do."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return Path(shutil.copy(OLD, tmp_path / "ledger.sqlite3"))


def version(file: Path) -> int:
    connection = sqlite3.connect(file)
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    return found


def upgraded(file: Path) -> None:
    connection = sqlite3.connect(file, isolation_level=None)
    prepare(connection, file, NEXT)
    connection.close()


async def test_an_old_file(file: Path) -> None:
    """What version 1 wrote is read, its chain holds, and the file is of this release's version afterwards."""
    store = SqliteStore(file, time.time)
    await store.open()
    found = [entry.record for entry in await store.read()]
    await store.append([Record("unblocked", 1_800_000_100.0, member="lisi")])

    assert [record.kind for record in found] == ["signed-in", "blocked", "token-issued", "of-a-later-release"]
    assert found[0].browser == "Mozilla/5.0 企业微信"
    assert found[2].details == {"token": "ci", "id": "t-1", "ends": 1_900_000_000, "new": {"field": [1]}}
    assert (await verify(entries(store))).count == 5
    assert (await verify(entries(store))).holds
    assert await store.mark("syslog") == (await store.read())[1].position
    await store.close()
    assert version(file) == VERSION


async def test_a_file_that_the_next_release_wrote(file: Path) -> None:
    """An upgrade can be taken back: this release reads and writes what the next one left, new columns and tables and all."""
    upgraded(file)
    store = SqliteStore(file, time.time)
    await store.open()
    await store.append([Record("blocked", 1_800_000_100.0, member="wangwu")])
    found = await verify(entries(store))
    await store.close()

    assert (found.count, found.holds) == (5, True)
    assert version(file) == VERSION + 1


def test_an_upgrade_is_done_once(file: Path) -> None:
    """A file that is up to date is left alone, whoever opens it."""
    upgraded(file)
    upgraded(file)

    assert version(file) == VERSION + 1


def test_an_upgrade_that_fails_changes_nothing(file: Path) -> None:
    """A step that fails half way leaves the file as it was."""
    connection = sqlite3.connect(file, isolation_level=None)
    with pytest.raises(sqlite3.OperationalError):
        prepare(connection, file, (*STEPS, ("CREATE TABLE half (id TEXT)", "no SQL at all")))
    connection.close()

    assert version(file) == VERSION
    upgraded(file)


async def test_a_release_after_the_next(file: Path) -> None:
    """A file of a release after the next is refused by name and number, and not touched."""
    connection = sqlite3.connect(file)
    connection.execute(f"PRAGMA user_version = {VERSION + 2}")
    connection.close()
    store = SqliteStore(file, time.time)

    with pytest.raises(LedgerBroken, match=rf"was written by a later release \(version {VERSION + 2}; this one reads up to"):
        await store.open()
    await store.close()
    assert version(file) == VERSION + 2
