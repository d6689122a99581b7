"""A machine's token opens the rules that it names, at its site, until its end or its revocation; nothing else, ever."""

from __future__ import annotations

import base64
import gc
import secrets
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.accounts import Accounts, Holders, Source
from gateway.app import Gateway
from gateway.config import Config
from gateway.errors import Denied, SignInNeeded
from gateway.member import Member, identity_headers
from gateway.rules import Rule
from gateway.sealing import Sealer
from gateway.secret import Secret
from gateway.session import Session
from gateway.standing import Standing
from gateway.tokens import MAX_BYTES, PURPOSE, REMEMBERED, Known, Token, Tokens
from tests.conftest import KEY, Clock

NOW = 1_800_000_000
DAY = 86400
FINANCE = Rule("finance")
TOKEN = Token("t-1", "ci", ("finance", "user:lisi"), "ww1", 1000002, "oa", NOW, NOW + 90 * DAY)
ACTING = replace(TOKEN, id="t-2", member="ZhangSan", member_name="张三", account="10086")


def basic(password: str, name: str = "ci") -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


class Machine:
    """The tokens of one app under a clock of their own, and what stands against them."""

    def __init__(self, *keys: str, standing: Standing | None = None, **app: Any) -> None:
        self.clock = Clock(NOW)
        self.standing = standing or Standing()
        sealer = Sealer([Secret(key) for key in keys or (KEY,)])
        self.sealer = sealer
        self.tokens = Tokens(sealer, self.standing, clock=self.clock, **{"corp_id": "ww1", "agent_id": 1000002} | app)

    def seal(self, token: Token = TOKEN, **changes: Any) -> str:
        return self.tokens.seal(replace(token, **changes))

    def seen(self, credentials: str, *, site: str = "oa", rule: Rule = FINANCE) -> Known:
        return self.tokens.seen(credentials, site=site, rule=rule)

    def reason(self, credentials: str, **where: Any) -> str:
        """Why *credentials* do not open; empty when they do."""
        try:
            self.seen(credentials, **where)
        except (SignInNeeded, Denied) as error:
            return error.reason
        return ""


@pytest.fixture
def machine() -> Machine:
    return Machine()


class TestWhatAToken:
    """Opens, and what not."""

    @pytest.mark.parametrize("wrap", ["Bearer {}", "bearer {}", "BEARER   {}", "Bearer {} "])
    def test_opens_as_bearer(self, machine: Machine, wrap: str) -> None:
        """The scheme's letters do not matter."""
        assert machine.seen(wrap.format(machine.seal())).token == TOKEN

    @pytest.mark.parametrize("name", ["", "ci", "somebody", "名字", "a b", "x" * 300])
    def test_opens_as_the_password_of_any_user(self, machine: Machine, name: str) -> None:
        """The user name of HTTP Basic is whatever the program has."""
        assert machine.seen(basic(machine.seal(), name)).token == TOKEN

    @pytest.mark.parametrize(
        "rule", ["", "Finance", "finance/", "user:zhangsan", "finance/user:lisi", "financ", "user:lisi,zhangsan"]
    )
    def test_opens_its_own_rules_only(self, machine: Machine, rule: str) -> None:
        """To the letter as nginx has them; a bare `/_wecom/auth` is open to no token."""
        assert machine.reason(f"Bearer {machine.seal()}", rule=Rule(rule)) == "rule"

    def test_opens_no_bare_location_by_an_empty_rule(self, machine: Machine) -> None:
        """A token that names the empty rule opens nothing by it."""
        assert machine.reason(f"Bearer {machine.seal(rules=('',))}", rule=Rule("")) == "rule"

    def test_opens_its_own_site_only(self, machine: Machine) -> None:
        """For one site it is nothing at another; for all sites it opens each."""
        assert machine.reason(f"Bearer {machine.seal()}", site="wiki") == "other-site"
        assert machine.reason(f"Bearer {machine.seal(site='')}", site="wiki") == ""

    @pytest.mark.parametrize("app", [{"corp_id": "ww2"}, {"agent_id": 1000003}])
    def test_opens_nothing_of_another_app(self, machine: Machine, app: dict[str, Any]) -> None:
        """Two gateways may share a key: a token is for the app that it was issued for."""
        assert Machine(**app).reason(f"Bearer {machine.seal()}") == "other-site"

    def test_ends(self, machine: Machine) -> None:
        """At its end, to the second, remembered or not."""
        credentials = f"Bearer {machine.seal()}"
        machine.clock.now = TOKEN.ends - 0.001
        assert machine.reason(credentials) == ""

        machine.clock.now = TOKEN.ends
        assert machine.reason(credentials) == "token-expired"
        assert machine.reason(basic(machine.seal())) == "token-expired"

    def test_is_revoked_by_its_id(self, machine: Machine) -> None:
        """From one request to the next, and no other of the same name with it."""
        credentials, other = f"Bearer {machine.seal()}", f"Bearer {machine.seal(id='t-9')}"
        assert machine.reason(credentials) == ""
        machine.standing.revoke_token(TOKEN.id)

        assert (machine.reason(credentials), machine.reason(other)) == ("token-revoked", "")

    def test_survives_a_new_key_and_dies_with_its_own(self, machine: Machine) -> None:
        """A rotated key ends no token until it leaves the list."""
        credentials = f"Bearer {machine.seal()}"

        assert Machine("n" * 43, KEY).reason(credentials) == ""
        assert Machine("n" * 43).reason(credentials) == "token-forged"


class TestWhoItIs:
    """What the application is told."""

    def test_a_machine_is_called_by_its_token(self, machine: Machine) -> None:
        """A colon cannot occur in a member's id, so no member is meant."""
        assert identity_headers(machine.seen(f"Bearer {machine.seal()}").identity) == {
            "X-WeCom-UserId": "token:ci",
            "X-WeCom-Account": "token:ci",
            "X-WeCom-Name": "ci",
            "X-WeCom-CorpId": "ww1",
            "X-WeCom-Kind": "token",
        }

    def test_acting_for_a_member_it_has_the_member_s_names(self, machine: Machine) -> None:
        """Id, account and name of the member; the kind tells that no person is there; no department."""
        assert identity_headers(machine.seen(f"Bearer {machine.seal(ACTING)}").identity) == {
            "X-WeCom-UserId": "ZhangSan",
            "X-WeCom-Account": "10086",
            "X-WeCom-Name": "%E5%BC%A0%E4%B8%89",
            "X-WeCom-CorpId": "ww1",
            "X-WeCom-Kind": "token",
        }


class TestActingForAMember:
    """It dies with the member's standing."""

    def test_it_ends_with_the_member_s_sessions(self, machine: Machine) -> None:
        """Revoked after its issue, under any spelling of the id: over."""
        credentials = f"Bearer {machine.seal(ACTING)}"
        assert machine.reason(credentials) == ""
        machine.standing.revoke("zhangsan", NOW + DAY)

        assert machine.reason(credentials) == "token-revoked"

    def test_a_revocation_long_before_is_none_of_its_business(self, machine: Machine) -> None:
        """Issued after the member came back."""
        machine.standing.revoke("zhangsan", NOW - DAY)

        assert machine.reason(f"Bearer {machine.seal(ACTING)}") == ""

    def test_it_ends_with_the_member_s_account(self) -> None:
        """Where another member has the account by now, it announces nobody; a site that knows people by id does not care."""
        holders, accounts = Holders(), Accounts({"oa": Source("alias", attribute="alias")})
        machine = Machine(accounts=accounts, holders=holders)
        credentials = f"Bearer {machine.seal(ACTING, site='')}"
        holders.hold("alias", "10086", "zhangsan", NOW)
        before = machine.reason(credentials)
        holders.release("alias", "zhangsan")
        holders.hold("alias", "10086", "lisi", NOW + 1)

        assert (before, machine.reason(credentials), machine.reason(credentials, site="wiki")) == ("", "no-account", "")

    def test_a_machine_of_its_own_has_no_member_to_lose(self, machine: Machine) -> None:
        """Whatever is revoked of a member with the same name."""
        for user_id in ("ci", "token:ci", ""):
            machine.standing.revoke(user_id, NOW + DAY)

        assert machine.reason(f"Bearer {machine.seal()}") == ""


def altered(text: str, at: int) -> str:
    return text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]


class TestForgeries:
    """Whatever is not whole and ours is `token-forged`, costs little and leaves nothing behind."""

    def test_a_token_with_any_character_changed(self, machine: Machine) -> None:
        """Every character of payload and signature counts, but for the last one's unused bits."""
        text = machine.seal()
        reasons = {machine.reason(f"Bearer {altered(text, at)}") for at in range(len(text) - 1)}

        assert reasons == {"token-forged"}

    def test_a_truncated_token(self, machine: Machine) -> None:
        """Cut anywhere, in front or behind."""
        text = machine.seal()
        cut = [text[:at] for at in range(len(text))] + [text[at:] for at in range(1, len(text))]

        assert {machine.reason(wrap) for part in cut for wrap in (f"Bearer {part}", basic(part))} == {"token-forged"}

    def test_what_was_sealed_for_another_purpose(self, machine: Machine) -> None:
        """A session's claims, signed by us, are no token; nor is a token a session."""
        claims = machine.sealer.verify(PURPOSE, machine.seal().removeprefix("wgt_"))

        assert machine.reason("Bearer wgt_" + machine.sealer.sign("session", claims)) == "token-forged"

    @pytest.mark.parametrize(
        "claims", [None, [], "", 1, {}, {"v": 3}, {"v": 1}, {"v": "x"}, {"v": 1, "t": 5}, {"v": 1, "i": "", "n": "", "t": [1]}]
    )
    def test_genuine_nonsense(self, machine: Machine, claims: Any) -> None:
        """Signed by us and still no token: of a later version, or of a bug."""
        assert machine.reason("Bearer wgt_" + machine.sealer.sign(PURPOSE, claims)) == "token-forged"

    def test_a_token_of_the_next_release(self, machine: Machine) -> None:
        """Release N reads N+1: a rollback ends no token, whatever it says more."""
        claims = machine.sealer.verify(PURPOSE, machine.seal().removeprefix("wgt_")) | {"v": 2, "new": 1}

        assert machine.seen("Bearer wgt_" + machine.sealer.sign(PURPOSE, claims)).token == TOKEN

    @given(st.text(max_size=60) | st.sampled_from(["wgt_", "wgt_.", "wgt_..", "forged", "x" * 100_000]))
    @example("\udc80")
    def test_any_text_at_all(self, text: str) -> None:
        """No text of any kind is anything but forged, whichever way it comes."""
        machine = Machine()
        encoded = base64.b64encode(f"ci:{text}".encode("utf-8", "surrogatepass")).decode()
        for credentials in (text, f"Bearer {text}", f"Basic {text}", f"Basic {encoded}", f"Digest {text}"):
            assert machine.reason(credentials) == "token-forged"

    def test_forty_thousand_of_them_leave_nothing_behind(self, machine: Machine) -> None:
        """Refusals are not remembered."""
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(40_000):
            machine.reason(f"Bearer wgt_{secrets.token_urlsafe(60)}")
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()

        assert len(machine.tokens) == 0
        assert grown < 100_000

    def test_genuine_ones_are_remembered_within_bounds(self, machine: Machine) -> None:
        """One token under thousands of user names takes no more memory than so many."""
        text = machine.seal()
        for number in range(3 * REMEMBERED):
            assert machine.reason(basic(text, f"user{number}")) == ""

        assert 0 < len(machine.tokens) <= REMEMBERED

    def test_too_many_rules_make_no_token(self, machine: Machine) -> None:
        """What nginx would not pass on is not issued."""
        with pytest.raises(ValueError, match=f"bytes of {MAX_BYTES}: give it fewer rules"):
            machine.seal(rules=tuple(secrets.token_hex(30) for _ in range(20)))


class TestTheCheck:
    """A running gateway's listener, asked as nginx asks it."""

    @pytest.fixture
    async def ask(self, gateway: Gateway) -> Any:
        async with aiohttp.ClientSession() as http:

            async def asked(rule: str = "user:lisi", **headers: str) -> tuple[int, str, str]:
                sent = {"Host": "localhost:8080"} | {f"X-WeCom-{name.title()}": value for name, value in headers.items()}
                url = f"http://{gateway.addresses['check']}/_wecom/auth{rule and '/'}{rule}"
                async with http.get(url, headers=sent) as answer:
                    told = answer.headers
                    return answer.status, told.get("X-WeCom-Reason", ""), told.get("X-WeCom-UserId", "")

            yield asked

    @pytest.fixture
    def text(self, gateway: Gateway, clock: Clock) -> str:
        config = gateway.live.now.config
        token = Token("t", "ci", ("user:lisi",), config.corp_id, config.agent_id, "default", int(clock.now), int(clock.now) + DAY)
        return gateway.live.now.tokens.seal(token)

    async def test_lets_a_token_in(self, ask: Any, text: str) -> None:
        """By either scheme, where its rule is the location's."""
        assert await ask(token=f"Bearer {text}") == (204, "", "token:ci")
        assert await ask(token=basic(text)) == (204, "", "token:ci")

    @pytest.mark.parametrize(
        "rule, status, reason", [("", 403, "rule"), ("user:lisi,zhangsan", 403, "rule"), ("no such rule", 403, "bad-rule")]
    )
    async def test_lets_it_in_nowhere_else(self, ask: Any, text: str, rule: str, status: int, reason: str) -> None:
        """Not where any member may enter, and not by a rule that does not exist."""
        assert await ask(rule, token=f"Bearer {text}") == (status, reason, "")

    async def test_a_session_beside_a_token_does_not_count(self, gateway: Gateway, ask: Any, text: str) -> None:
        """A token that is refused is refused, however welcome the session is that came along."""
        session = signed_in(gateway)
        assert await ask(session=session) == (204, "", "lisi")

        assert await ask(session=session, token="forged") == (401, "token-forged", "")
        assert await ask(session=session, token=f"Bearer {text}") == (204, "", "token:ci")
        assert await ask("", session=session, token=f"Bearer {text}") == (403, "rule", "")

    async def test_an_ageing_or_absent_session_does_not_matter(self, ask: Any, text: str) -> None:
        """A token is not renewed and not sent anywhere, whatever kind of request it is."""
        assert await ask(token=f"Bearer {text}", navigation="1", session="x.y") == (204, "", "token:ci")

    async def test_each_answer_has_headers_of_its_own(self, ask: Any, text: str) -> None:
        """What aiohttp adds to one answer is not in the next."""
        assert {await ask(token=f"Bearer {text}") for _ in range(3)} == {(204, "", "token:ci")}

    async def test_a_reload_with_other_keys_ends_it(
        self, gateway: Gateway, ask: Any, text: str, make_config: Callable[..., Config]
    ) -> None:
        """What was remembered is forgotten with the key that signed it."""
        assert (await ask(token=f"Bearer {text}"))[0] == 204
        await gateway.reload(make_config(signing_keys=["n" * 43], listen=listen(gateway)))

        assert await ask(token=f"Bearer {text}") == (401, "token-forged", "")


def signed_in(gateway: Gateway) -> str:
    """The cookie of a member who has just signed in."""
    parts = gateway.live.now
    now = int(parts.clock())
    app = parts.config.corp_id, parts.config.agent_id
    return parts.sessions.seal(Session("s", Member("lisi"), *app, "default", now, now, now + DAY, now, "lisi"))


def listen(gateway: Gateway) -> dict[str, str]:
    return dict(gateway.addresses)
