"""The ledger as an audit trail, read on the command line of the machine."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import cli
from gateway.ledger import Entry, Record
from gateway.ledger.sqlite import SqliteStore

SETTINGS = """
corp_id = "ww0123456789abcdef"
agent_id = 1000002
app_secret = "secret"
signing_key = "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
public_url = "https://oa.example.com"
store = "sqlite://{path}"
"""
NOW = time.time()
RECORDS = [
    Record("signed-in", NOW - 9 * 86400, member="ZhangSan", site="erp", address="10.0.0.7", browser="evil\x1b[2Jbrowser"),
    Record("revoked", NOW - 3 * 86400, member="zhangsan", reason="left", details={"by": "root"}),
    Record("signed-in", NOW - 60, member="lisi", site="erp"),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "gateway.toml").write_text(SETTINGS.format(path=tmp_path / "ledger.sqlite3"), "utf-8")
    return tmp_path / "ledger.sqlite3"


@pytest.fixture
def entries(file: Path) -> list[Entry]:
    """A ledger with three entries."""

    async def write() -> list[Entry]:
        store = SqliteStore(file, time.time)
        await store.open()
        written = await store.append(RECORDS)
        await store.close()
        return written

    return asyncio.run(write())


def run(file: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["ledger", *arguments, "--config", str(file.parent / "gateway.toml")])


def tamper(file: Path, statement: str) -> None:
    connection = sqlite3.connect(file)
    with connection:
        connection.execute(statement)
    connection.close()


class TestShow:
    """``ledger show``"""

    def test_json(self, file: Path, entries: list[Entry]) -> None:
        """One object a line, with position and digest: the whole record can be had back from it."""
        lines = [json.loads(line) for line in run(file, "show", "--json").stdout.splitlines()]

        assert [Record.of(line) for line in lines] == RECORDS
        assert [(line["position"], line["digest"]) for line in lines] == [(entry.position, entry.digest) for entry in entries]

    @pytest.mark.parametrize(
        "options, expected",
        [
            (["--member", "zhangsan"], [0, 1]),
            (["--kind", "signed-in"], [0, 2]),
            (["--kind", "signed-in", "--kind", "revoked"], [0, 1, 2]),
            (["--since", "4d"], [1, 2]),
            (["--until", "4d"], [0]),
            (["--since", "4d", "--until", "12h"], [1]),
            (["--since", time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(NOW - 3600))], [2]),
            (["--member", "nobody"], []),
        ],
        ids=["member", "kind", "kinds", "since", "until", "between", "since-time", "nobody"],
    )
    def test_a_part(self, file: Path, entries: list[Entry], options: list[str], expected: list[int]) -> None:
        """Entries can be chosen by member whatever the letter case, by kind, and by time."""
        lines = run(file, "show", "--json", *options).stdout.splitlines()

        assert [Record.of(json.loads(line)) for line in lines] == [RECORDS[index] for index in expected]

    def test_a_kind_that_there_is_not(self, file: Path, entries: list[Entry]) -> None:
        """A kind that was mistyped is told, with those there are: nothing found must not pass for nothing happened."""
        result = run(file, "show", "--kind", "revoke")

        assert (result.exit_code, result.stdout) == (2, "")
        assert "'revoke' is not one of" in result.stderr
        assert "revoked" in result.stderr

    def test_whom_an_entry_names_within(self, file: Path) -> None:
        """Among a member's entries is the end of one session of theirs, and that they were held among others."""
        ended = Record("revoked", NOW, session="abc", details={"member": "LiSi"})
        held = Record("held", NOW, details={"members": ["x", "lisi"]})
        others = [Record("held", NOW, details={"members": ["x"]}), Record("revoked", NOW, session="d", details={"member": 5})]

        async def write() -> None:
            store = SqliteStore(file, time.time)
            await store.open()
            await store.append([ended, held, *others])
            await store.close()

        asyncio.run(write())
        lines = run(file, "show", "--json", "--member", "lisi").stdout.splitlines()

        assert [Record.of(json.loads(line)) for line in lines] == [ended, held]

    def test_for_people(self, file: Path, entries: list[Entry]) -> None:
        """A line says who and what; what a browser sent cannot command the terminal."""
        lines = run(file, "show").stdout.splitlines()

        assert len(lines) == 3
        assert "revoked zhangsan reason=left by=root" in lines[1]
        assert "\x1b" not in lines[0]
        assert r"evil\x1b[2Jbrowser" in lines[0]

    def test_who_wrote_into_the_store(self, file: Path, entries: list[Entry]) -> None:
        """Nor can what stands in a ledger that somebody else has written into."""
        tamper(file, """UPDATE record SET details = '{"a\\u001b[2J": {"\\u009b2J": "\\u001b]0;x"}}' WHERE id = 2""")

        told = run(file, "show").stdout + run(file, "show", "--json").stdout + run(file, "verify").stderr

        assert told.count("[2J") >= 2
        assert not {letter for letter in told if not letter.isprintable()} - {"\n"}

    def test_a_time_that_is_none(self, file: Path, entries: list[Entry]) -> None:
        """A time that cannot be read is a mistake of usage."""
        result = run(file, "show", "--since", "yesterday")

        assert result.exit_code == 2
        assert "'yesterday'" in result.stderr


class TestVerify:
    """``ledger verify``"""

    def test_whole(self, file: Path, entries: list[Entry]) -> None:
        """A whole ledger is exit status 0, and its head is printed to be written down."""
        result = run(file, "verify")

        assert result.exit_code == 0
        assert "3 entries" in result.stdout
        assert f"head {entries[-1].digest}" in result.stdout

    def test_empty(self, file: Path) -> None:
        """A ledger without entries is whole."""
        assert run(file, "verify").exit_code == 0

    @pytest.mark.parametrize(
        "statement, where",
        [
            ("UPDATE record SET member = 'lisi' WHERE id = 2", 1),
            ("UPDATE record SET at = at + 1 WHERE id = 2", 1),
            ("UPDATE record SET kind = 'signed-in' WHERE id = 2", 1),
            ('UPDATE record SET details = \'{"by":"nobody"}\' WHERE id = 2', 1),
            ("DELETE FROM record WHERE id = 2", 2),
            ("DELETE FROM record WHERE id = 1", 1),
            ("UPDATE record SET at = 'never' WHERE id = 2", 1),
        ],
    )
    def test_changed(self, file: Path, entries: list[Entry], statement: str, where: int) -> None:
        """An entry changed or taken out is exit status 1, and the place is named."""
        tamper(file, statement)

        result = run(file, "verify")

        assert result.exit_code == 1
        assert f"broken at {entries[where].position} " in result.stderr

    def test_details_that_are_no_json(self, file: Path, entries: list[Entry]) -> None:
        """What no release would have written is exit status 1, and the entry is named."""
        tamper(file, "UPDATE record SET details = 'x' WHERE id = 2")

        result = run(file, "verify")

        assert result.exit_code == 1
        assert "entry 2 is damaged" in result.stderr

    def test_the_end_cut_off(self, file: Path, entries: list[Entry]) -> None:
        """The end cut off shows only against a head written down before."""
        tamper(file, "DELETE FROM record WHERE id = 3")

        assert run(file, "verify").exit_code == 0
        result = run(file, "verify", "--head", entries[-1].digest)
        assert result.exit_code == 1
        assert "--head is not in the ledger" in result.stderr

    def test_json(self, file: Path, entries: list[Entry]) -> None:
        """Scripts read what was found."""
        tamper(file, "UPDATE record SET member = 'lisi' WHERE id = 2")

        result = run(file, "verify", "--json", "--head", entries[-1].digest.upper())

        assert result.exit_code == 1
        assert json.loads(result.stdout) == {
            "entries": 3,
            "holds": False,
            "head": entries[-1].digest,
            "expected_found": True,
            "broken": [entries[1].position],
        }
