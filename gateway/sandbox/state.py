"""Everything the sandbox knows: one State, changed by API calls, pages and the control port."""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from gateway.sandbox.crypto import Envelope
from gateway.sandbox.faults import Fault
from gateway.sandbox.limits import Counters, Limits

CODE_S = 300
TOKEN_S = 7200
TICKET_S = 1800
CONSENT_S = 30 * 86400
QR_S = 300
OLD_APPS_UNTIL = 1655726400.0
"""2022-06-20 20:00 in China: apps created before still read mobile and e-mail, and need no trusted IP."""

SENSITIVE = ("gender", "avatar", "mobile", "email", "biz_mail", "qr_code", "address")


@dataclass(frozen=True, slots=True)
class Member:
    """A member in WeCom's own words; ``order`` and ``is_leader_in_dept`` run parallel to ``department``."""

    userid: str
    name: str
    department: tuple[int, ...]
    main_department: int = 0
    order: tuple[int, ...] = ()
    is_leader_in_dept: tuple[int, ...] = ()
    direct_leader: tuple[str, ...] = ()
    position: str = ""
    telephone: str = ""
    alias: str = ""
    english_name: str = ""
    status: int = 1
    hide_mobile: int = 0
    extattr: dict[str, Any] = field(default_factory=lambda: {"attrs": []})
    gender: str = "0"
    avatar: str = ""
    mobile: str = ""
    email: str = ""
    biz_mail: str = ""
    qr_code: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Outsider:
    """Somebody who is no member: of a linked corp (``userid`` is ``CorpId/userid``), or known by ``openid`` only."""

    name: str
    userid: str = ""
    openid: str = ""
    external_userid: str = ""
    follower: str = ""

    @property
    def key(self) -> str:
        """The name by which pages and the ``sandbox_member`` cookie choose this person."""
        return self.userid or self.openid


@dataclass(frozen=True, slots=True)
class Department:
    """A department in WeCom's own words; the root has id 1 and parent 0."""

    id: int
    name: str
    parentid: int
    name_en: str = ""
    department_leader: tuple[str, ...] = ()
    order: int = 100000000


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag in WeCom's own words."""

    tagid: int
    tagname: str
    userlist: tuple[str, ...] = ()
    partylist: tuple[int, ...] = ()


@dataclass(slots=True)
class App:
    """A self-built app, or the contact-sync assistant (``kind`` "sync"); domains are host[:port]."""

    corp_id: str
    agent_id: int
    name: str
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    kind: str = "self-built"
    enabled: bool = True
    created_at: float = 1700000000.0
    allow_users: tuple[str, ...] = ()
    allow_departments: tuple[int, ...] = ()
    allow_tags: tuple[int, ...] = ()
    oauth_domain: str = ""
    weblogin_domain: str = ""
    trusted_ips: tuple[str, ...] = ("127.0.0.1", "::1")
    sensitive_fields: tuple[str, ...] = SENSITIVE
    callback_url: str = ""
    callback_token: str = ""
    callback_aes_key: str = ""

    @property
    def old(self) -> bool:
        """Whether the app dates from before private fields were withdrawn."""
        return self.created_at < OLD_APPS_UNTIL

    @property
    def envelope(self) -> Envelope:
        """What encrypts and signs this app's events."""
        return Envelope(self.callback_token, self.callback_aes_key, self.corp_id)


@dataclass(slots=True)
class Token:
    """An access token of one app."""

    app: App
    expires_at: float
    revoked: bool = False


@dataclass(slots=True)
class Code:
    """What an authorisation ended with; ``agent_id`` 0 when the URL named no app."""

    person: Member | Outsider
    corp_id: str
    agent_id: int
    domain: str
    issued_at: float
    private_fields: tuple[str, ...] | None = None
    used: bool = False


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ``user_ticket``: which fields the member let the app see."""

    app: App
    userid: str
    fields: tuple[str, ...]
    issued_at: float


@dataclass(frozen=True, slots=True)
class Consent:
    """What a member answered on the consent page; no fields: refused."""

    fields: tuple[str, ...]
    at: float


@dataclass(slots=True)
class QrLogin:
    """One QR code on one login page."""

    app: App
    redirect_uri: str
    state: str
    query: str
    created_at: float
    status: str = "QRCODE_SCAN_NEVER"
    person: Member | Outsider | None = None
    code: str = ""


@dataclass(frozen=True, slots=True)
class Logged:
    """One request as it arrived; ``raw_query`` and ``redirect_uri`` undecoded, ``errcode`` None for pages."""

    at: float
    method: str
    path: str
    raw_query: str
    redirect_uri: str
    query: dict[str, str]
    headers: dict[str, str]
    body: str
    remote: str
    status: int
    errcode: int | None


@dataclass(slots=True)
class Switches:
    """Behaviours of the real WeCom that differ from place to place, or that are not documented."""

    auto_consent: bool = False
    """Answer the consent page at once, with every field."""
    refused_consent: str = "ticket"
    """After a refusal: "ticket" without fields, "no-code", or "nothing" (a page, no callback)."""
    privateinfo_without_agentid: str = "downgrade"
    """"downgrade" to the base scope, or "error"."""
    strict_state: bool = True
    """Refuse a state that is not 0 to 128 letters and digits."""
    nested_urls: bool = True
    """Accept an http(s) URL inside redirect_uri; other schemes are never accepted."""
    stop_disabled: bool = False
    """Do not let a member whose status is not 1 through the pages."""
    any_browser: bool = False
    """Treat every browser as the WeCom client, for looking at the in-app pages."""
    check_fragment: bool = False
    """Answer authorize by a page whose script looks for #wechat_redirect."""
    double_callback: bool = False
    """Come back twice with one code, 20 ms apart, dropping the first connection."""
    extra_callback_query: str = ""
    """Appended to every callback, e.g. "uin=1&key=2"."""
    cancel_redirects: bool = True
    """A refused QR login comes back with the state only; else a page says cancelled."""
    rotate_tokens: bool = False
    """A repeated gettoken gives a new token; the old one stays good."""
    expired_token_errcode: int = 42001
    """42001 or 40014: both are seen."""
    unknown_member_errcode: int = 60111
    """60111 or 60011: both are seen."""
    unknown_fields: bool = False
    """Add fields nobody knows to every answer."""
    other_case: bool = False
    """Give user ids in swapped letter case."""


@dataclass(slots=True)
class State:
    """The live sandbox; ``clock`` gives Unix seconds, ``offset`` is what the control port advanced it by."""

    clock: Callable[[], float]
    apps: list[App]
    members: dict[str, Member]
    outsiders: dict[str, Outsider]
    departments: dict[int, Department]
    tags: dict[int, Tag]
    offset: float = 0.0
    suspended: bool = False
    switches: Switches = field(default_factory=Switches)
    limits: Limits = field(default_factory=Limits)
    counters: Counters = field(default_factory=Counters)
    faults: list[Fault] = field(default_factory=list)
    requests: deque[Logged] = field(default_factory=lambda: deque(maxlen=10000))
    tokens: dict[str, Token] = field(default_factory=dict)
    codes: dict[str, Code] = field(default_factory=dict)
    tickets: dict[str, Ticket] = field(default_factory=dict)
    consents: dict[tuple[str, int], Consent] = field(default_factory=dict)
    qr_logins: dict[str, QrLogin] = field(default_factory=dict)

    def now(self) -> float:
        """Unix seconds by the sandbox's own clock."""
        return self.clock() + self.offset

    @property
    def app(self) -> App:
        """The sample app."""
        return self.apps[0]

    @property
    def corp_id(self) -> str:
        return self.app.corp_id

    @property
    def agent_id(self) -> int:
        return self.app.agent_id

    @property
    def secret(self) -> str:
        return self.app.secret

    def find_app(self, corp_id: str, agent_id: int) -> App | None:
        return next((app for app in self.apps if (app.corp_id, app.agent_id) == (corp_id, agent_id)), None)

    def member(self, userid: str) -> Member | None:
        """Find a member whatever the letter case."""
        return self.members.get(userid.lower())

    def person(self, key: str) -> Member | Outsider | None:
        """Find a member or outsider by what a page or a cookie calls them."""
        return self.member(key) or self.outsiders.get(key)

    def count(self, path: str) -> int:
        """How many requests came for this path; ``gettoken`` and ``/cgi-bin/gettoken`` are the same."""
        wanted = path if path.startswith("/") else f"/cgi-bin/{path}"
        return sum(1 for request in self.requests if request.path == wanted)

    def fault(self, path: str = "*", **how: Any) -> Fault:
        """Add a fault: ``fault("user/get", errcode=-1, times=2)``, ``fault("gettoken", kind="hang")``."""
        fault = Fault(path=path, **how)
        self.faults.append(fault)
        return fault

    def new_code(self, code: Code) -> str:
        value = secrets.token_urlsafe(32)
        self.codes[value] = code
        return value

    def revoke_tokens(self) -> None:
        """End every access token early, as WeCom reserves the right to."""
        for token in self.tokens.values():
            token.revoked = True


def plain(record: Any) -> dict[str, Any]:
    """Turn one of the dataclasses above into JSON."""
    return asdict(record)
