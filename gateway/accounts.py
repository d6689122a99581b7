"""The name that an old app knows a member by: where it comes from, and who holds it."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from gateway.member import Member
from gateway.records import Record

MAX_CHARACTERS = 128
_NOTHING: Mapping[str, str] = MappingProxyType({})
_USER_ID = re.compile(r"[0-9A-Za-z_.@-]{1,64}")
_HEADINGS = frozenset({"userid", "user_id", "账号", "帐号", "成员账号", "成员userid"})
_SPOILT = re.compile(r"\d(?:\.\d+)?E\+\d+|#(?:N/A|REF!|VALUE!|NAME\?|DIV/0!|NUM!|NULL!)|=.*")
"""What Excel saves for a long number, for a formula that failed, and for one that it did not take for text."""
_UNSEEN = re.compile(r"[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u20dd-\u20e4\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Variation selectors, fillers, circles around a letter: printable to Python, nothing to see, or to compare, for others."""
_SHOWN = 5  #: mistakes of one file that are told at once


@dataclass(frozen=True, slots=True)
class Source:
    """Where the accounts of a site come from, as the setting ``account`` says it."""

    text: str = "userid"
    attribute: str = ""  #: ``alias`` or ``extattr:…``: what of the member a session must carry; empty where the id is enough
    table: Mapping[str, str] | None = field(default=None, repr=False)  #: case-folded member id -> account, of ``file:``

    @classmethod
    def parse(cls, text: str) -> Source:
        """Read the setting, and the file that it names; ValueError says what is wrong, and in which line."""
        kind, _, name = text.partition(":")
        if text in ("userid", "userid-lower"):
            return cls(text)
        if text == "alias" or (kind == "extattr" and name == name.strip() and name.isprintable() and 0 < len(name) <= 64):
            return cls(text, attribute=text)
        if kind == "file" and name.startswith("/") and name.isprintable():
            return cls(text, table=read(name))
        raise ValueError(
            "one of userid, userid-lower, alias, extattr:NAME (a text field of the address book), file:/PATH.csv is needed, "
            f"not {text[:100]!r}"
        )

    def __str__(self) -> str:
        return self.text if self.table is None else f"{self.text} ({len(self.table)} members)"

    def account(self, user_id: str, attributes: Mapping[str, str]) -> str:
        """Give the account of a member; empty: there is none."""
        if self.table is not None:
            return self.table.get(user_id.casefold(), "")
        if self.attribute:
            return attributes.get(self.attribute, "")
        return user_id.lower() if self.text == "userid-lower" else user_id


class Accounts:
    """The sources of all sites, by the name of the site."""

    def __init__(self, sources: Mapping[str, Source], *, callback: str = "") -> None:
        self._sources = sources
        self._callback = callback
        self._default = Source()

    def source(self, site: str) -> Source:
        return self._sources.get(site, self._default)

    def account(self, site: str, user_id: str, attributes: Mapping[str, str]) -> str:
        """Give the account of a member at *site*; empty: there is none."""
        return self.source(site).account(user_id, attributes)

    def attributes(self, site: str, member: Member) -> dict[str, str]:
        """What of *member* a session at *site* must carry; at the callback host, what the other sites need as well."""
        sites = {site, *self._sources} if site == self._callback else {site}
        keys = {self.source(each).attribute for each in sites} - {""}
        return {key: usable(_attribute(member, key)) for key in sorted(keys)}

    def kept(self, site: str, attributes: Mapping[str, str]) -> dict[str, str]:
        """What of *attributes* a session handed over to *site* needs."""
        return {key: value for key, value in attributes.items() if key == self.source(site).attribute}

    def looked_at(self, site: str, attributes: Mapping[str, str]) -> bool:
        """False for a session made before *site* had its present source: the member has to be read again."""
        attribute = self.source(site).attribute
        return not attribute or attribute in attributes


class Holders:
    """Which member holds which account: WeCom lets two members have one alias or attribute.

    Only for values that members carry; those of a file and of ids cannot occur twice. The first to come holds it, in every
    process: ``account`` records tell the others.
    """

    def __init__(self) -> None:
        self._members: dict[tuple[str, str], tuple[float, str, str]] = {}  #: since when, who, and the account as it was told
        self._accounts: dict[tuple[str, str], str] = {}

    def holder(self, attribute: str, account: str) -> str:
        """The member who holds *account*, empty: nobody."""
        return self._members.get((attribute, same(account)), (0, "", ""))[1]

    def hold(self, attribute: str, account: str, user_id: str, at: float) -> bool:
        """Note that *user_id* has *account* since *at*, and no longer another; False: somebody else had it before."""
        key, member = (attribute, same(account)), user_id.casefold()
        if self._accounts.get((attribute, member)) == key[1]:
            return True
        self.release(attribute, user_id)
        since, holder, _ = self._members.get(key, (at, "", ""))
        if holder and since <= at:
            return False
        self.release(attribute, holder)
        self._members[key] = (at, user_id, account)
        self._accounts[attribute, member] = key[1]
        return True

    def release(self, attribute: str, user_id: str) -> None:
        """Note that *user_id* has no account any more."""
        before = self._accounts.pop((attribute, user_id.casefold()), None)
        if before is not None:
            del self._members[attribute, before]

    def heard(self, record: Record) -> None:
        """Apply a record of the ledger; of any other kind, or of another shape, it says nothing."""
        attribute, account, instead = (record.details.get(name) for name in ("attribute", "account", "instead_of"))
        if record.kind != "account" or not isinstance(attribute, str) or not isinstance(account, str):
            return
        if isinstance(instead, str) and self.holder(attribute, account).casefold() == instead.casefold():
            self.release(attribute, instead)
        self.hold(attribute, account, record.member, record.at)

    def records(self) -> list[Record]:
        """Who holds what, as records that bring about the same elsewhere."""
        held = ((attribute, *held) for (attribute, _), held in self._members.items())
        return [
            Record("account", at, user_id, details={"attribute": attribute, "account": account, "instead_of": ""})
            for attribute, at, user_id, account in held
        ]


def same(account: str) -> str:
    """What two accounts have in common that an app, or MySQL for it, may take for one: whatever the case, width and accents.

    What nobody sees tells nothing apart either: a member who may write the own alias must not be another by it.
    """
    if account.isascii():
        return account.lower()
    letters = _UNSEEN.sub("", unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", account).casefold()))
    return "".join(letter for letter in letters if not unicodedata.combining(letter)).strip()


def usable(value: str) -> str:
    """Give *value* as an account, or nothing: too long, with characters that no header may hold, or a machine's name."""
    text = value.strip()
    if len(text) > MAX_CHARACTERS or not text.isprintable() or not (known := same(text)) or known.startswith("token:"):
        return ""
    return text


def read(path: str) -> dict[str, str]:
    """Read a CSV file of member id and account, UTF-8, a heading or none; ValueError names each line that is wrong."""
    try:
        text = Path(path).read_text("utf-8-sig")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8; in Excel, save it as “CSV UTF-8”") from None
    table: dict[str, str] = {}
    seen: dict[str, int] = {}
    problems: list[str] = []
    for line, cells in _lines(path, text):
        user_id, account = cells[0].strip(), usable(cells[1]) if len(cells) > 1 else ""
        problem = _problem(user_id, account, cells, line)
        for key, what in ((f"m {user_id.casefold()}", user_id), (f"a {same(account)}", account)):
            if not problem and (before := seen.setdefault(key, line)) != line:
                problem = f"{what!r} stands in line {before} already"
        if problem:
            problems.append(f"line {line}: {problem}")
        table[user_id.casefold()] = account
    if problems:
        more = [f"and {len(problems) - _SHOWN} more"] if len(problems) > _SHOWN else []
        raise ValueError(f"{path}: {'; '.join(problems[:_SHOWN] + more)}")
    if not table:
        raise ValueError(f"{path} names nobody: nobody could sign in")
    return table


def _lines(path: str, text: str) -> Iterator[tuple[int, list[str]]]:
    """Each line that says something, with its number; the heading left out."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = next((each for each in "\t;," if each in first), ",")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    heading = True
    try:
        for cells in rows:
            if any(cell.strip() for cell in cells):
                if not (heading and cells[0].strip().casefold() in _HEADINGS):
                    yield rows.line_num, cells
                heading = False
    except csv.Error as error:
        raise ValueError(f"{path}: line {rows.line_num}: {error}") from None


def _problem(user_id: str, account: str, cells: list[str], line: int) -> str:
    if len(cells) < 2 or any(cell.strip() for cell in cells[2:]):
        return "two columns are needed, member id and account"
    if not _USER_ID.fullmatch(user_id):
        heading = f" (a heading begins with {', '.join(sorted(_HEADINGS))})" if line == 1 else ""
        return f"{user_id[:64]!r} is no member id of WeCom{heading}"
    if not account:
        return f"{user_id} has no account of 1 to {MAX_CHARACTERS} printable characters (nor one that begins with token:)"
    if _SPOILT.fullmatch(account):
        return f"{account[:64]!r} is what Excel makes of a long number or a formula: fill a column that is formatted as text"
    return ""


def _attribute(member: Member, key: str) -> str:
    return member.alias if key == "alias" else member.extattr.get(key.removeprefix("extattr:"), "")
