"""What becomes of people when something is wrong with the ledger's file; real files, real limits."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest

from gateway.app import Gateway
from gateway.config import Config
from gateway.errors import ConfigError
from gateway.ledger import LedgerUnavailable, Record
from gateway.ledger.schema import APPLICATION_ID, VERSION
from gateway.ledger.sqlite import SqliteStore
from tests.browser_double import Browser
from tests.patience import PATIENCE_S, in_time, until

HOME = "http://localhost:8080/"
Browse = Callable[..., Browser]
Start = Callable[[Config], Awaitable[Gateway]]
MakeConfig = Callable[..., Config]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the gateways of a test have their ledger."""
    return tmp_path / "ledger.sqlite3"


async def written(file: Path, count: int = 1) -> None:
    """A ledger with entries, nobody having it open."""
    store = SqliteStore(file, time.time)
    await store.open()
    await store.append([Record("signed-in", time.time(), member=f"member{number}", browser="x" * 500) for number in range(count)])
    await store.close()


# ── while it runs ──────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Another process writes, and does not come to an end."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    yield
    connection.close()


@contextmanager
def full(file: Path) -> Iterator[None]:
    """No file of this process may grow beyond what the ledger's log has now, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = Path(f"{file}-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def deleted(file: Path) -> Iterator[None]:
    for each in file.parent.glob("ledger.sqlite3*"):
        each.unlink()
    yield
    file.touch()


@contextmanager
def overwritten(file: Path) -> Iterator[None]:
    """Somebody copied something else over it."""
    size = file.stat().st_size
    kept = {each: each.read_bytes() for each in file.parent.glob("ledger.sqlite3*")}
    for each in kept:
        each.unlink()
    file.write_bytes(b"not a database " * (size // 15))
    yield
    for each, content in kept.items():
        each.with_name(f"new-{each.name}").write_bytes(content)
    for each in kept:
        each.with_name(f"new-{each.name}").replace(each)


@contextmanager
def taken_apart(file: Path) -> Iterator[None]:
    """Somebody takes ``-wal`` and ``-shm`` away, as before a backup is put back; then a copy comes in its place.

    By programs of their own: were the file opened and closed in this process, SQLite's locks would be gone.
    """
    subprocess.run(["rm", f"{file}-wal", f"{file}-shm"], check=True)
    yield
    subprocess.run(["cp", file, f"{file}-copy"], check=True)
    Path(f"{file}-copy").rename(file)


FAULTS = [
    (locked, "is locked"),
    (full, "full"),
    (deleted, "was deleted"),
    (overwritten, "is no SQLite database"),
    (taken_apart, "taken away while it was in use; put its backup, or a copy of it, in its place by `mv`"),
]


@pytest.mark.parametrize("fault, sentence", FAULTS, ids=["locked", "full", "deleted", "overwritten", "taken-apart"])
async def test_while_it_runs(
    gateway: Gateway,
    browse: Browse,
    file: Path,
    caplog: pytest.LogCaptureFixture,
    fault: Callable[[Path], Iterator[None]],
    sentence: str,
) -> None:
    """Whoever is signed in goes on, others can sign in, a revocation fails loudly in bounded time, /readyz says what is wrong.

    What happened meanwhile is in the log, and in the ledger afterwards; nothing needs a restart.
    """
    ledger = gateway.live.now.ledger
    zhangsan = browse("zhangsan")
    await zhangsan.open(HOME)
    await until(lambda: not ledger.queued)
    with fault(file):
        with pytest.raises(Exception, match=sentence):
            await in_time(ledger.append(Record("revoked", gateway.live.now.clock(), member="zhangsan")), 6)
        assert (await zhangsan.get(HOME)).status == 200
        assert (await browse("lisi").open(HOME)).status == 200
        ledger.note(Record("blocked", gateway.live.now.clock(), member="wangwu"))
        await until(lambda: "not stored yet" in caplog.text)
        assert any(sentence in problem and problem.startswith("store: ") for problem in (await ready(gateway))["problems"])
        logged = [line.partition("not stored yet: ")[2] for line in caplog.messages if "not stored yet: " in line]
        assert any(json.loads(line)["member"] == "wangwu" for line in logged)

    await until(lambda: not ledger.problems and not ledger.queued)
    await ledger.append(Record("revoked", gateway.live.now.clock() + 20, member="zhangsan"))
    assert (await zhangsan.get(HOME)).status != 200
    store = SqliteStore(file, time.time)
    await store.open()
    assert {"wangwu", "zhangsan"} <= {record.member for record in (await store.in_force())[0]}
    await store.close()


async def test_nothing_goes_to_a_file_that_was_deleted(file: Path) -> None:
    """What is written to a file that has no name any more would be gone with the process: it is not confirmed."""
    store = SqliteStore(file, time.time)
    await store.open()
    await store.append([Record("blocked", 1.0, member="lisi")])
    file.unlink()

    with pytest.raises(LedgerUnavailable, match="was deleted"):
        await store.append([Record("blocked", 1.0, member="wangwu")])
    assert not file.exists()
    await store.close()


async def ready(gateway: Gateway) -> dict[str, list[str]]:
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"http://{gateway.addresses['ops']}/readyz") as answer,
    ):
        found: dict[str, list[str]] = await answer.json()
        return found


# ── at start ───────────────────────────────────────────────────────────────────────────────────────────────────────


def garbage(file: Path) -> None:
    file.write_bytes(b"this is no ledger at all" * 1000)


def middle_overwritten(file: Path) -> None:
    size = file.stat().st_size
    with file.open("r+b") as handle:
        handle.seek(size // 2)
        handle.write(b"\xff" * 8192)


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def of_something_else(file: Path) -> None:
    file.unlink()
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE song (title TEXT)")
    connection.close()


def of_a_later_release(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute(f"PRAGMA user_version = {VERSION + 2}")
    connection.close()


def a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize(
    "damage, sentence",
    [
        (garbage, "is no SQLite database"),
        (middle_overwritten, "is corrupted"),
        (cut, "is corrupted"),
        (of_something_else, "is a database of something else"),
        (of_a_later_release, "was written by a later release"),
        (a_folder, "ledger.sqlite3"),
    ],
    ids=["garbage", "overwritten", "cut", "something-else", "later-release", "folder"],
)
async def test_a_start_on_a_file_that_cannot_be_trusted(
    start: Start, make_config: MakeConfig, file: Path, damage: Callable[[Path], None], sentence: str
) -> None:
    """The gateway does not start, and names the setting, the file and what is wrong: nobody is let in by half a ledger."""
    await written(file, 500)
    damage(file)

    with pytest.raises(ConfigError, match=f"^store: .*{sentence}"):
        await asyncio.wait_for(start(make_config()), PATIENCE_S)


WRITE = """
import asyncio, os, signal, sys
from pathlib import Path
from gateway.ledger.sqlite import SqliteStore
from gateway.records import Record
async def main():
    store = SqliteStore(Path(sys.argv[1]), lambda: 1.0)
    await store.open()
    await store.append([Record("blocked", 1.0, member="m" * 900) for _ in range(40)])
    for _ in range(900):
        await store.append([Record("blocked", 1.0, member="lisi", browser="x" * 900)])
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def test_a_backup_over_what_a_killed_process_left(
    start: Start, make_config: MakeConfig, file: Path, tmp_path: Path
) -> None:
    """What stands in ``-wal`` is not of the backup: together they are corrupt, and it is said which files to take away."""
    await written(file)
    backup = shutil.copy(file, tmp_path / "backup")
    subprocess.run([sys.executable, "-c", WRITE, str(file)], check=False, timeout=PATIENCE_S)
    shutil.copyfile(backup, file)

    with pytest.raises(ConfigError, match=r"is corrupted .*take away ledger\.sqlite3-wal and -shm"):
        await start(make_config())
    for rest in ("-wal", "-shm"):
        Path(f"{file}{rest}").unlink(missing_ok=True)
    assert (await start(make_config())).live.now.ledger.ready


async def test_a_file_of_another_company(start: Start, make_config: MakeConfig) -> None:
    """Two companies' members may have the same ids: a second company's gateway does not start on the first one's file."""
    await start(make_config())
    await start(make_config(agent_id=1000077))

    with pytest.raises(ConfigError, match=r"^store: .*is the ledger of ww.*; give ww9999999999999999 one of its own"):
        await start(make_config(corp_id="ww9999999999999999"))


async def test_a_folder_that_is_not_there(start: Start, make_config: MakeConfig, tmp_path: Path) -> None:
    """A folder that is missing is a mistake in the settings."""
    with pytest.raises(
        ConfigError,
        match=r"^store: /.*/nowhere/ledger.sqlite3 cannot be made: no such file or directory; .*/nowhere must be there",
    ):
        await start(make_config(store=f"sqlite://{tmp_path}/nowhere/ledger.sqlite3"))


OPEN = """
import asyncio, os, sys, time
from pathlib import Path
from gateway.ledger import LedgerBroken
from gateway.ledger.sqlite import SqliteStore
if os.geteuid() == 0:
    os.setuid(65534)
try:
    asyncio.run(SqliteStore(Path(sys.argv[1]), time.time).open())
except LedgerBroken as error:
    print(error)
"""


@pytest.mark.parametrize("place", ["file", "folder"])
async def test_a_place_that_may_not_be_written(file: Path, place: str) -> None:
    """A file or folder that the gateway's user may not write is a mistake that is named with the user's number."""
    await written(file)
    for folder in (file.parent, *file.parent.parents[:2]):
        folder.chmod(0o755)
    wrong = file if place == "file" else file.parent
    wrong.chmod(0o444 if place == "file" else 0o555)
    file.chmod(0o444 if place == "file" else 0o666)
    somebody = 65534 if os.geteuid() == 0 else os.geteuid()

    said = subprocess.run(
        [sys.executable, "-c", OPEN, str(file)], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )

    assert f"{wrong} cannot be read and written by user {somebody}" in said.stdout, said.stderr


async def test_a_new_file_is_for_its_owner_only(file: Path) -> None:
    """Who signed in when, from where, is nobody else's business on the machine."""
    await written(file)

    assert {each.stat().st_mode & 0o777 for each in file.parent.glob("ledger.sqlite3*")} == {0o600}
    connection = sqlite3.connect(file)
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    connection.close()


async def test_what_root_makes_is_left_to_the_folders_owner(file: Path) -> None:
    """A command given as root, before the gateway ever ran, makes no file that the gateway cannot open."""
    if os.geteuid() == 0:
        os.chown(file.parent, 65534, 65534)
    store = SqliteStore(file, time.time)
    await store.open()
    await store.append([Record("blocked", 1.0, member="lisi")])
    made = {each.name: each.stat().st_uid for each in file.parent.glob("ledger.sqlite3*")}
    await store.close()

    assert made == dict.fromkeys([f"ledger.sqlite3{end}" for end in ("", "-wal", "-shm")], file.parent.stat().st_uid)
