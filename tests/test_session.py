"""A session opens for its app and site, until its end; what opened once is remembered, refusals never."""

from __future__ import annotations

import base64
import hmac
import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.accounts import Accounts, Source
from gateway.claims import READABLE_VERSION, VERSION, claims_of
from gateway.errors import LoginFailed, SignInNeeded
from gateway.member import Member, identity_headers
from gateway.sealing import Sealer
from gateway.secret import Secret
from gateway.session import Lifetimes, Session, moment, new_id
from gateway.sessions import HOT, MAX_BYTES, Sessions

NOW = 1_800_000_000
OLD, NEW = Secret("o" * 43), Secret("n" * 43)

MEMBER = Member(
    user_id="ZhangSan",
    name="张三",
    departments=(12, 7),
    leader_of=(7,),
    position="工程师",
    alias="jackzhang",
    email="zhangsan@example.com",
    mobile="13800138000",
    avatar="https://wework.qpic.cn/zhangsan/0",
)
SESSION = Session(
    id="s-1",
    member=MEMBER,
    corp_id="ww1",
    agent_id=1000002,
    site="erp",
    issued=NOW,
    renewed=NOW,
    ends=NOW + 43200,
    read=NOW - 1,
    account="10086",
    departments=(12, 7, 1),
    tags={3: True, 5: False},
    attributes={"extattr:工号": "10086"},
)

NONSENSE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=20) | st.dictionaries(st.text(max_size=3), inner, max_size=6),
    max_leaves=20,
)


class Clock:
    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def sessions(*keys: Secret, clock: Callable[[], float] = lambda: NOW, **changes: Any) -> Sessions:
    settings: dict[str, Any] = {"corp_id": "ww1", "agent_id": 1000002, "lifetimes": Lifetimes(), "clock": clock}
    settings["accounts"] = Accounts({"erp": Source.parse("extattr:工号")})
    return Sessions(Sealer(keys or (NEW,)), **settings | changes)


CLAIMS = (
    "version id user_id corp_id agent_id site issued renewed ends read name departments own leads position alias tags partial"
)
PLACES = {name: place for place, name in enumerate(CLAIMS.split())}


def claims_in(value: str) -> bytes:
    """What anybody can read in a cookie: its claims, unpacked."""
    claims = value.rsplit(".", 2)[0]
    packed = base64.urlsafe_b64decode(claims.lstrip(".") + "===")
    return zlib.decompress(packed) if claims.startswith(".") else packed


def forge(value: str, *more: Any, **changes: Any) -> str:
    """The claims of *value* with *changes* and *more*, under a genuine signature: what another release might have sealed."""
    claims, private = Sealer([NEW]).open("session", value)
    for name, changed in changes.items():
        if name == "private":
            private = changed
        else:
            claims[PLACES[name]] = changed
    return Sealer([NEW]).seal("session", [*claims, *more], private)


def signed(payload: str) -> str:
    """A genuine signature of a session under *payload*, whatever that is."""
    key = hmac.digest(NEW.reveal().encode(), b"wecom-gateway.sign.session", "sha256")
    return f"{payload}.{base64.urlsafe_b64encode(hmac.digest(key, payload.encode(), 'sha256')).decode().rstrip('=')}"


def verdict(opening: Sessions, value: str, **asked: Any) -> str:
    """The reason why *value* does not open, or ``opens``; the same for the check and for the pages.

    But for ``stale``: the check's word for a session whose account is not known, which the pages open to read the member anew.
    """
    reasons = set()
    for reading in (opening.open, opening.seen):
        try:
            reading(value, **{"site": "erp"} | asked)
        except SignInNeeded as needed:
            reasons.add(needed.reason)
        else:
            reasons.add("opens")
    (reason,) = {"stale"} if reasons == {"stale", "opens"} else reasons
    return reason


class TestSealAndOpen:
    """What was sealed opens unchanged."""

    @pytest.mark.parametrize(
        "session",
        [
            SESSION,
            replace(SESSION, member=Member("lisi", name="李四"), departments=(), tags={}),
            replace(SESSION, member=replace(MEMBER, email="", mobile="", avatar=""), departments=(12, 7)),
            replace(SESSION, member=replace(MEMBER, email="", mobile="", avatar=""), account="", attributes={}),
            replace(SESSION, member=replace(MEMBER, name="\ud83d半个", mobile="\udcff")),
            replace(SESSION, member=replace(MEMBER, departments=tuple(range(1, 300))), departments=tuple(range(1, 400))),
            replace(SESSION, departments=(1, 12, 7)),
            replace(SESSION, departments=(12,)),
        ],
        ids=["full", "bare", "no-details", "nothing-private", "broken-emoji", "packed", "own-last", "own-unseen"],
    )
    def test_all_of_it_comes_back(self, session: Session) -> None:
        """Every field comes back, whatever was granted and whatever was not."""
        assert sessions().open(sessions().seal(session), site="erp") == session

    @given(
        st.builds(
            Member,
            user_id=st.from_regex(r"[0-9A-Za-z][0-9A-Za-z_.@-]{0,63}", fullmatch=True),
            name=st.text(max_size=40),
            departments=st.lists(st.integers(1, 2**31), max_size=20).map(tuple),
            leader_of=st.lists(st.integers(1, 2**31), max_size=5).map(tuple),
            position=st.text(max_size=30),
            alias=st.text(max_size=30),
            email=st.text(max_size=40),
            mobile=st.text(max_size=20),
            avatar=st.text(max_size=40),
        )
    )
    def test_any_member_comes_back(self, member: Member) -> None:
        """Whatever WeCom holds of a member survives the cookie."""
        session = replace(SESSION, member=member, departments=member.departments)

        assert sessions().open(sessions().seal(session), site="erp") == session

    @given(st.integers(NOW - 10**6, NOW), st.integers(0, 10**6), st.floats(NOW - 10**6, NOW + 10**6))
    @example(NOW, 0, NOW + 0.001)
    @example(NOW - 1, 1, NOW - 0.999)
    def test_any_time_comes_back(self, issued: int, later: int, read: float) -> None:
        """Of a reading to the millisecond, exactly: what was read before a change must not seem to be read after it."""
        session = replace(SESSION, issued=issued, renewed=issued + later, read=moment(read))

        assert sessions().open(sessions().seal(session), site="erp") == session

    def test_the_value_fits_nginx(self) -> None:
        """The value consists of what nginx's map lets through."""
        assert re.fullmatch(r"[A-Za-z0-9_.-]{1,4000}", sessions().seal(SESSION))

    @pytest.mark.parametrize(
        "private",
        ["13800138000", "zhangsan@example.com", "wework.qpic.cn"],
        ids=["mobile", "email", "avatar"],
    )
    def test_private_details_cannot_be_read(self, private: str) -> None:
        """A cookie in a log reveals neither phone number nor address; it does reveal the member's id."""
        value = sessions().seal(SESSION)
        encrypted = value.split(".")[1]

        assert private.encode() not in claims_in(value)
        assert private.encode() not in base64.urlsafe_b64decode(encrypted + "===")
        assert b"ZhangSan" in claims_in(value)

    def test_private_details_cannot_be_moved(self) -> None:
        """The encrypted part of another cookie makes the whole forged, of ours or, even signed, of another key."""
        claims, private, signature = sessions().seal(SESSION).split(".")
        _, another, _ = sessions().seal(replace(SESSION, member=replace(MEMBER, mobile="13900139000"))).split(".")
        _, foreign, _ = sessions(OLD).seal(SESSION).split(".")

        assert verdict(sessions(), signed(f"{claims}.{private}")) == "opens"
        assert verdict(sessions(), f"{claims}.{another}.{signature}") == "forged"
        assert verdict(sessions(), f"{claims}..{signature}") == "forged"
        assert verdict(sessions(), signed(f"{claims}.{foreign}")) == "forged"

    def test_identity_headers_are_made_with_it(self) -> None:
        """What opens carries the headers that announce its member."""
        opened = sessions().seen(sessions().seal(SESSION), site="erp")

        assert identity_headers(opened.identity)["X-WeCom-UserId"] == "ZhangSan"
        assert identity_headers(opened.identity)["X-WeCom-Name"] == "%E5%BC%A0%E4%B8%89"

    def test_names_can_stay_raw(self) -> None:
        """With ``raw_headers`` names stay in UTF-8."""
        opened = sessions(raw_headers=True).seen(sessions().seal(SESSION), site="erp")

        assert identity_headers(opened.identity)["X-WeCom-Name"] == "张三"


class TestSize:
    """A cookie is at most 3 kB and never cut."""

    def test_too_big_is_verdict(self) -> None:
        """What would not fit is refused at sign-in, with the member, the size and what to do."""
        noise = "".join(f"{number * 7919 % 99991:05}" for number in range(900))
        session = replace(SESSION, member=replace(MEMBER, position=noise))

        with pytest.raises(LoginFailed, match=rf"session cookie of ZhangSan: \d+ bytes of {MAX_BYTES}.*details") as caught:
            sessions().seal(session)
        assert (caught.value.reason, caught.value.user_id) == ("session-too-big", "ZhangSan")

    def test_headers_too_long_are_verdict(self) -> None:
        """A session that fits packed is refused where its headers would not fit through nginx and into an app."""
        session = replace(SESSION, member=replace(MEMBER, position="工程师" * 600))

        with pytest.raises(LoginFailed, match=r"identity headers of ZhangSan: \d+ bytes of 8192") as caught:
            sessions().seal(session)
        assert caught.value.reason == "session-too-big"

    def test_a_large_membership_fits(self) -> None:
        """A member of a hundred departments fits."""
        departments = tuple(range(1_000_000, 1_000_100))
        value = sessions().seal(replace(SESSION, member=replace(MEMBER, departments=departments), departments=departments))

        assert len(value) <= MAX_BYTES


class TestRefusals:
    """Every refusal has its own reason."""

    def test_nothing_is_no_session(self) -> None:
        """An empty value is ``no-session``."""
        assert verdict(sessions(), "") == "no-session"

    @given(
        st.text(st.characters(), min_size=1, max_size=300)
        | st.from_regex(r"\.?[A-Za-z0-9_-]{1,300}\.[A-Za-z0-9_-]{43}", fullmatch=True)
        | st.binary(min_size=1, max_size=300).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
    )
    @example(" ")
    @example("\x00")
    @example("." * 4000)
    @example("A" * 100_000)
    @example("\ud800")
    @example("null")
    def test_garbage_is_forged(self, value: str) -> None:
        """Anything that we did not sign is ``forged``."""
        assert verdict(sessions(NEW, OLD), value) == "forged"

    @given(st.data())
    def test_a_changed_value_is_forged(self, data: st.DataObject) -> None:
        """A genuine value with one character changed, removed or added is ``forged``, also while it is remembered."""
        opening = sessions()
        value = opening.seal(SESSION)
        opening.seen(value, site="erp")
        at = data.draw(st.integers(0, len(value) - 2))
        letter = data.draw(st.sampled_from("ABCDEFabcdef0123456789_-."))
        rest = data.draw(st.sampled_from([letter + value[at + 1 :], value[at + 1 :], letter + value[at:]]))
        changed = value[:at] + rest

        if changed != value:
            assert verdict(opening, changed) == "forged"

    def test_a_borrowed_signature_is_forged(self) -> None:
        """The signature of a remembered session under other claims is ``forged``."""
        opening = sessions()
        value = opening.seal(SESSION)
        opening.seen(value, site="erp")
        boss = opening.seal(replace(SESSION, member=Member("boss")))
        payload, signature = boss.rpartition(".")[0], value.rpartition(".")[2]

        assert verdict(opening, f"{payload}.{signature}") == "forged"

    @given(NONSENSE, NONSENSE)
    @example([1] * len(PLACES), None)
    def test_signed_nonsense_is_forged(self, claims: Any, private: Any) -> None:
        """Claims that are no session are ``forged`` even under a genuine signature, and nothing else is raised."""
        assert verdict(sessions(), Sealer([NEW]).seal("session", claims, private)) == "forged"
        assert verdict(sessions(), Sealer([NEW]).sign("session", claims)) == "forged"

    @given(
        st.sampled_from([*PLACES, "private"]),
        st.none()
        | st.floats()
        | st.lists(st.text(max_size=3), max_size=5)
        | st.dictionaries(st.text(max_size=3), st.text(max_size=3)),
    )
    @example("version", float("inf"))
    @example("version", 10**400)
    @example("issued", float("inf"))
    @example("ends", float("inf"))
    @example("agent_id", float("nan"))
    @example("own", [float("-inf")])
    @example("own", -1)
    @example("own", 10**400)
    @example("renewed", None)
    @example("read", 10**400)
    @example("read", float("nan"))
    @example("tags", {"1": 1, "x": 0})
    @example("private", "AAAA")
    @example("private", ["AAAA"])
    @example("private", ["", "", "", "AAAA"])
    def test_one_wrong_claim_never_breaks_the_check(self, claim: str, wrong: Any) -> None:
        """A session with one claim of another shape opens or is refused; nothing else is raised."""
        value = forge(sessions().seal(SESSION), **{claim: wrong})

        assert verdict(sessions(), value) in {"opens", "forged", "other-site", "expired", "stale"}

    @pytest.mark.parametrize("claim", PLACES)
    def test_every_claim_is_needed(self, claim: str) -> None:
        """A signed value that lacks a claim is ``forged``."""
        claims, private = Sealer([NEW]).open("session", sessions().seal(SESSION))
        del claims[PLACES[claim]]

        assert verdict(sessions(), Sealer([NEW]).seal("session", claims, private)) == "forged"

    @pytest.mark.parametrize("place", range(4))
    def test_every_private_claim_is_needed(self, place: int) -> None:
        """A signed value whose private part lacks a claim is ``forged``."""
        claims, private = Sealer([NEW]).open("session", sessions().seal(SESSION))
        del private[place]

        assert verdict(sessions(), Sealer([NEW]).seal("session", claims, private)) == "forged"

    @pytest.mark.parametrize("purpose", ["sign-in", "begin", "rounds"])
    def test_another_purpose_is_forged(self, purpose: str) -> None:
        """The same claims signed for another purpose are no session."""
        sealed = Sealer([NEW]).open("session", sessions().seal(SESSION))

        assert verdict(sessions(), Sealer([NEW]).seal(purpose, *sealed)) == "forged"

    @pytest.mark.parametrize("app", [{"corp_id": "ww2"}, {"agent_id": 1000003}], ids=["corp", "agent"])
    def test_another_app_is_other_site(self, app: dict[str, Any]) -> None:
        """A session of another app under the same key is ``other-site``."""
        assert verdict(sessions(**app), sessions().seal(SESSION)) == "other-site"

    def test_another_site_is_other_site(self) -> None:
        """A session of another site is ``other-site``, also where its own site has just opened it."""
        opening = sessions()
        value = opening.seal(SESSION)
        opening.seen(value, site="erp")

        assert verdict(opening, value, site="wiki") == "other-site"


class TestTime:
    """Ends, idleness and renewal are looked at on every request, against our own clock."""

    @pytest.mark.parametrize("late, opens", [(-1, True), (-0.001, True), (0, False), (1, False)])
    def test_it_ends_at_its_end(self, late: float, opens: bool) -> None:
        """A session opens until ``ends`` and is ``expired`` from then on, remembered or not."""
        clock = Clock()
        opening = sessions(clock=clock)
        value = opening.seal(SESSION)
        opening.seen(value, site="erp")
        clock.now = SESSION.ends + late

        if opens:
            assert opening.open(value, site="erp") == SESSION
        else:
            assert verdict(opening, value) == "expired"

    @pytest.mark.parametrize(
        "passed, navigation, reason",
        [(1799, True, ""), (1800, True, "renew"), (1800, False, ""), (43199, False, ""), (43200, True, "expired")],
        ids=["young", "due", "due-but-image", "old-but-image", "over"],
    )
    def test_only_navigations_are_asked_to_renew(self, passed: int, navigation: bool, reason: str) -> None:
        """Past ``renew_after`` a navigation is ``renew``; everything else goes on until the end."""
        opening = sessions(clock=Clock(NOW + passed))
        value = opening.seal(SESSION)

        if reason:
            assert verdict(opening, value, navigation=navigation) == reason
        else:
            assert opening.open(value, site="erp", navigation=navigation)

    @pytest.mark.parametrize("passed, reason", [(3599, ""), (3600, "idle")], ids=["used", "idle"])
    def test_idle_sessions_end(self, passed: int, reason: str) -> None:
        """Where ``idle`` is set, a session not renewed for so long is ``idle``, whatever is asked."""
        opening = sessions(clock=Clock(NOW + passed), lifetimes=Lifetimes(idle_s=3600))
        value = opening.seal(SESSION)

        if reason:
            assert verdict(opening, value) == reason
            assert verdict(opening, value, navigation=True) == reason
        else:
            assert opening.open(value, site="erp")

    def test_idle_is_off_by_default(self) -> None:
        """Without ``idle`` a session lives to its end unused."""
        assert sessions(clock=Clock(SESSION.ends - 1)).open(sessions().seal(SESSION), site="erp")

    def test_a_clock_behind_does_no_harm(self) -> None:
        """A session issued by a host one second ahead opens here."""
        assert sessions(clock=Clock(NOW - 1)).open(sessions().seal(SESSION), site="erp", navigation=True)

    @pytest.mark.parametrize(
        "now, ends", [(NOW, NOW + 43200), (NOW + 6 * 86400, NOW + 6 * 86400 + 43200), (NOW + 7 * 86400 - 5, NOW + 7 * 86400)]
    )
    def test_no_renewal_passes_the_ceiling(self, now: int, ends: int) -> None:
        """A renewal gives a new lifetime, never past ``issued + max_lifetime``."""
        assert Lifetimes().ends(NOW, now) == ends

    def test_a_renewal_put_off_is_due_five_minutes_later(self) -> None:
        """Where WeCom does not answer, renewal is due again 5 minutes later and the end stays."""
        lifetimes, later = Lifetimes(), NOW + 2000
        put_off = lifetimes.put_off(SESSION, later)

        assert put_off.ends == SESSION.ends
        assert not lifetimes.renewal_due(put_off, later + 299)
        assert lifetimes.renewal_due(put_off, later + 300)


class TestKeysAndVersions:
    """Rotation and rollback sign nobody out."""

    def test_rotation_signs_nobody_out(self) -> None:
        """A session signed by a retired key still opens, private details included."""
        assert sessions(NEW, OLD).open(sessions(OLD).seal(SESSION), site="erp") == SESSION

    def test_a_removed_key_ends_its_sessions(self) -> None:
        """A session of a key that is out of the list is ``forged``."""
        assert verdict(sessions(NEW), sessions(OLD).seal(SESSION)) == "forged"

    @pytest.mark.parametrize("version", [VERSION, VERSION + 1])
    def test_this_and_the_next_version_open(self, version: int) -> None:
        """This release reads its own version and the next one, with claims it does not know."""
        value = forge(sessions().seal(SESSION), "new claim", version=version)

        assert sessions().open(value, site="erp") == SESSION

    @pytest.mark.parametrize("version", [-1, 0, VERSION - 1, VERSION + 2, 99, "x", None])
    def test_other_versions_do_not(self, version: Any) -> None:
        """The version after the next one, and nonsense, is ``forged``."""
        assert READABLE_VERSION == VERSION + 1
        assert verdict(sessions(), forge(sessions().seal(SESSION), version=version)) == "forged"


class TestMemory:
    """The memory holds genuine values only, and is bounded."""

    def test_a_value_is_read_once(self) -> None:
        """The second request with a value gives the very object of the first."""
        opening = sessions()
        value = opening.seal(SESSION)

        assert opening.seen(value, site="erp") is opening.seen(value, site="erp")

    def test_it_is_bounded(self) -> None:
        """However many sessions come, no more than the set number is remembered, and all still open."""
        opening = sessions(remembered=10)
        values = [opening.seal(replace(SESSION, id=f"s-{number}")) for number in range(100)]
        for value in values:
            opening.seen(value, site="erp")

        assert 0 < len(opening) <= 10
        assert all(opening.seen(value, site="erp").id == f"s-{number}" for number, value in enumerate(values))

    def test_what_is_used_stays(self) -> None:
        """A session in use is not pushed out by others that come once."""
        opening = sessions(remembered=10)
        value = opening.seal(SESSION)
        first = opening.seen(value, site="erp")
        for number in range(100):
            opening.seen(opening.seal(replace(SESSION, id=f"s-{number}")), site="erp")
            assert opening.seen(value, site="erp") is first

    def test_more_sessions_in_use_than_are_found_without_a_digest(self) -> None:
        """Whoever takes turns with more than ``HOT`` others is still found, and as the right one."""
        opening = sessions()
        values = [opening.seal(replace(SESSION, id=f"s-{number}")) for number in range(HOT + 10)]

        for _ in range(2):
            assert [opening.seen(value, site="erp").id for value in values] == [f"s-{number}" for number in range(HOT + 10)]

    def test_refusals_are_never_remembered(self) -> None:
        """Garbage, other apps' sessions and unreadable versions leave nothing behind."""
        opening = sessions()
        value = opening.seal(SESSION)
        other_app = sessions(corp_id="ww2").seal(replace(SESSION, corp_id="ww2"))
        for number in range(100):
            verdict(opening, f"{value}{number}")
            verdict(opening, f"garbage-{number}")
        verdict(opening, other_app)
        verdict(opening, forge(value, version=9))
        verdict(opening, "")

        assert len(opening) == 0

    def test_it_can_be_emptied(self) -> None:
        """After ``forget`` every signature is checked again."""
        opening = sessions()
        value = opening.seal(SESSION)
        first = opening.seen(value, site="erp")
        opening.forget()

        assert len(opening) == 0
        assert opening.seen(value, site="erp") is not first


class TestHandOver:
    """What travels between our hosts is all of the session."""

    def test_claims_come_back(self) -> None:
        """The claims of a session give the session."""
        assert sessions().from_claims(claims_of(SESSION)) == SESSION

    @pytest.mark.parametrize("claims", [None, [], {}, "x", {"v": 1}], ids=str)
    def test_nonsense_is_forged(self, claims: Any) -> None:
        """Claims that are no session are ``forged``."""
        with pytest.raises(SignInNeeded) as caught:
            sessions().from_claims(claims)
        assert caught.value.reason == "forged"


def test_ids_can_be_typed() -> None:
    """A session's id is an argument of `sessions revoke`, never an option: it holds letters and digits only."""
    assert all(new_id().isalnum() and len(new_id()) == 16 for _ in range(1000))
