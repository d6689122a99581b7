"""The chain of digests: whatever is done to an entry afterwards shows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from gateway.ledger import Entry, Record
from gateway.ledger.chain import BEGINNING, canonical, digest, verify

T = 1_800_000_000.0


def chain(count: int, first: str = BEGINNING) -> list[Entry]:
    entries, previous = [], first
    for number in range(1, count + 1):
        record = Record("revoked", T + number, member=f"member{number}", details={"n": number})
        previous = digest(previous, record)
        entries.append(Entry(str(number), record, previous))
    return entries


async def each(entries: Sequence[Entry]) -> AsyncIterator[Entry]:
    for entry in entries:
        yield entry


def changed(entries: list[Entry]) -> None:
    entries[2] = entries[2]._replace(record=entries[2].record._replace(member="somebodyelse"))


def changed_with_its_digest(entries: list[Entry]) -> None:
    changed(entries)
    entries[2] = entries[2]._replace(digest=digest(entries[1].digest, entries[2].record))


def removed(entries: list[Entry]) -> None:
    del entries[2]


def put_in(entries: list[Entry]) -> None:
    record = Record("unblocked", T, member="member1")
    entries.insert(2, Entry("2b", record, digest(entries[1].digest, record)))


def moved(entries: list[Entry]) -> None:
    entries[2], entries[3] = entries[3], entries[2]


def first_removed(entries: list[Entry]) -> None:
    del entries[0]


def details_changed(entries: list[Entry]) -> None:
    entries[2] = entries[2]._replace(record=entries[2].record._replace(details={"n": 4}))


def made_unreadable(entries: list[Entry]) -> None:
    entries[2] = entries[2]._replace(record=entries[2].record._replace(details={"n": object()}))


async def test_a_whole_chain_holds() -> None:
    """What nobody touched holds, and its head is the last digest."""
    entries = chain(5)
    found = await verify(each(entries))

    assert found.holds
    assert (found.count, found.head) == (5, entries[-1])


async def test_nothing_holds() -> None:
    """An empty ledger is whole."""
    found = await verify(each([]))

    assert found.holds
    assert (found.count, found.head) == (0, None)


@pytest.mark.parametrize(
    "tamper, where",
    [
        (changed, "3"),
        (changed_with_its_digest, "4"),
        (details_changed, "3"),
        (made_unreadable, "3"),
        (removed, "4"),
        (first_removed, "2"),
        (put_in, "3"),
        (moved, "4"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
async def test_tampering_shows(tamper: Callable[[list[Entry]], None], where: str) -> None:
    """An entry changed, removed, put in or moved breaks the chain there, and only there and next to it."""
    entries = chain(9)
    tamper(entries)

    found = await verify(each(entries))

    assert not found.holds
    assert found.broken[0].position == where
    assert len(found.broken) <= 3


class TestTrimmed:
    """The oldest entries go in time; a ``trimmed`` record says from where on the chain is kept."""

    @staticmethod
    def trimmed(after: Entry, last: Entry) -> Entry:
        record = Record("trimmed", T, details={"position": after.position, "digest": after.digest, "count": 3})
        return Entry("t", record, digest(last.digest, record))

    async def test_holds(self) -> None:
        """A chain whose first kept entry follows from the last one trimmed is whole."""
        entries = chain(9)
        kept = [*entries[3:], self.trimmed(entries[2], entries[-1])]

        assert (await verify(each(kept))).holds

    async def test_no_more_may_be_missing(self) -> None:
        """One more entry gone than was trimmed shows at the first that is left."""
        entries = chain(9)
        kept = [*entries[4:], self.trimmed(entries[2], entries[-1])]

        assert [entry.position for entry in (await verify(each(kept))).broken] == ["5"]


class TestExpected:
    """Only a digest written down elsewhere shows that the end was cut off, or everything written anew."""

    async def test_it_is_found(self) -> None:
        """Any digest of the chain is found, that of the last one trimmed too."""
        entries = chain(9)
        kept = [*entries[3:], TestTrimmed.trimmed(entries[2], entries[-1])]

        for entry in (entries[2], entries[5], kept[-1]):
            assert (await verify(each(kept), entry.digest)).expected

    @pytest.mark.parametrize("left", [chain(8), chain(9, "another beginning")], ids=["cut-off", "written-anew"])
    async def test_it_is_missed(self, left: list[Entry]) -> None:
        """It is missed where the chain was cut before it or made anew."""
        assert not (await verify(each(left), chain(9)[-1].digest)).expected


def test_the_digest_is_what_it_says() -> None:
    """Anybody can recompute it: SHA-256 of the digest before, a line feed, and the record as sorted JSON in ASCII."""
    record = Record("blocked", 1.5, member="张三", details={"b": 1, "a": [None]})

    assert canonical(record) == '{"at":1.5,"details":{"a":[null],"b":1},"kind":"blocked","member":"\\u5f20\\u4e09"}'
    assert digest("", record) == "e229c2629d933a5d3d1249596813f9c8b51f44d59cb7745490857fe895de8cce"
