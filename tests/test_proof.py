"""X-WeCom-Jwt: verified by the README's own example and by another library; refused for another site, later, or made up."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import joserfc.jwt
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from gateway.app import Gateway
from gateway.config import Config
from gateway.errors import LoginFailed
from gateway.member import JWT, Member, identity_headers
from gateway.proof import AGAIN_S, LIFETIME_S, Proof, Prover
from gateway.rules import Rules
from gateway.sandbox import Sandbox
from gateway.sealing import Sealer
from gateway.secret import Secret
from gateway.session import Lifetimes, Session
from gateway.sessions import Sessions
from gateway.standing import Standing
from gateway.tokens import Token, Tokens
from tests.browser_double import Browser
from tests.conftest import KEY, Clock, free_port
from tests.patience import PATIENCE_S

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
ERP = "http://localhost:8099"
NOW = 1_800_000_000
URL = "https://oa.example.com"

Browse = Callable[..., Browser]
Start = Callable[[Config], Awaitable[Gateway]]
MakeConfig = Callable[..., Config]
Who = Callable[[str], Awaitable[dict[str, Any]]]


@pytest.fixture
def clock() -> Clock:
    """Verifiers look at the real clock."""
    return Clock(time.time())


@pytest.fixture
def site() -> str:
    """A site whose public URL is where the pages are, so that the README's example finds the keys."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.fixture
async def gateway(start: Start, make_config: MakeConfig, sandbox: Sandbox, site: str) -> Gateway:
    sandbox.state.app.oauth_domain = site.removeprefix("http://")
    pages = {"pages": site.removeprefix("http://")}
    sites = [{"name": "oa", "public_url": site}, {"name": "erp", "public_url": ERP, "account": "extattr:工号"}]
    return await start(make_config(site=sites, jwt=True, listen=pages))


def example(site: str) -> Who:
    """The README's Python example, for *site*; it is blocking, so each call has a thread."""
    (code,) = re.findall(r"```python\n(import jwt.*?)```", README, re.DOTALL)
    code = code.replace('"https://oa.example.com"', repr(site))
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    return lambda header: asyncio.to_thread(names["who"], header)


@pytest.fixture
def who(site: str) -> Who:
    return example(site)


async def proof_of(browse: Browse, member: str, url: str) -> str:
    page = await browse(member).open(url)
    assert page.status == 200
    return page.headers["X-WeCom-Jwt"]


async def keys_at(site: str) -> dict[str, Any]:
    async with aiohttp.ClientSession() as http, http.get(f"{site}/_wecom/jwks.json") as answer:
        assert (answer.status, answer.headers["Cache-Control"]) == (200, "public, max-age=300")
        keys: dict[str, Any] = await answer.json()
    return keys


def parts_of(token: str) -> list[dict[str, Any]]:
    return [json.loads(base64.urlsafe_b64decode(part + "===")) for part in token.split(".")[:2]]


def signed(header: dict[str, Any], claims: dict[str, Any], sign: Callable[[bytes], bytes]) -> str:
    """A JWT made by hand: no library would make these."""
    parts = [base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=") for each in (header, claims)]
    text = b".".join(parts)
    return (text + b"." + base64.urlsafe_b64encode(sign(text)).rstrip(b"=")).decode()


# ── what it says ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_example_knows_who_it_is(browse: Browse, gateway: Gateway, who: Who, site: str, clock: Clock) -> None:
    """The README's example gives the claims: who it is, in plain UTF-8, for this site, for five minutes."""
    claims = await who(await proof_of(browse, "zhangsan", f"{site}/"))

    now = int(clock())
    assert claims == {
        "iss": site,
        "aud": site,
        "sub": "zhangsan",
        "name": "张三",
        "account": "zhangsan",
        "corp_id": "ww0123456789abcdef",
        "departments": claims["departments"],
        "kind": "member",
        "iat": now,
        "exp": now + 300,
    }
    assert claims["departments"][0] == 6


async def test_an_independent_library_agrees(browse: Browse, gateway: Gateway, site: str) -> None:
    """Another library verifies it by the published keys alone."""
    token = await proof_of(browse, "lisi", f"{site}/")
    keys = KeySet.import_key_set(await keys_at(site))
    rules = joserfc.jwt.JWTClaimsRegistry(iss={"essential": True, "value": site}, aud={"essential": True, "value": site})

    decoded = joserfc.jwt.decode(token, keys, algorithms=["ES256"])
    rules.validate(decoded.claims)

    assert (decoded.claims["sub"], decoded.header["alg"]) == ("lisi", "ES256")


async def test_each_site_has_its_own(browse: Browse, gateway: Gateway, who: Who) -> None:
    """A proof for another site is refused, by either library; there it is good, with that site's account."""
    token = await proof_of(browse, "zhangsan", f"{ERP}/")
    _, claims = parts_of(token)

    with pytest.raises(jwt.PyJWTError):
        await who(token)

    assert (claims["iss"], claims["aud"], claims["account"]) == (ERP, ERP, "10001")


@pytest.mark.parametrize("claim", ["iss", "aud"])
async def test_audience_and_issuer_each_suffice(gateway: Gateway, who: Who, site: str, claim: str) -> None:
    """A genuine signature with one of the two wrong is refused: neither check hangs on the other."""
    keys = [Secret(KEY)]
    genuine = Prover(keys, {"oa": site}, corp_id="ww0123456789abcdef", agent_id=1000002)
    member = Session("s", Member("lisi"), "ww0123456789abcdef", 1000002, "oa", 0, 0, 0, 0)
    proof = genuine.proof("oa", member, kind="member", ends=time.time() + 60)
    assert proof
    control = proof.at(time.time())
    proof._claims = proof._claims.replace(f'"{claim}":"{site}"', f'"{claim}":"{ERP}"')

    assert (await who(control))["sub"] == "lisi"
    with pytest.raises(jwt.PyJWTError):
        await who(proof.at(time.time() + AGAIN_S))


@pytest.mark.parametrize("age, good", [(LIFETIME_S - PATIENCE_S, True), (LIFETIME_S + 20, False)])
async def test_it_ends(browse: Browse, gateway: Gateway, who: Who, site: str, clock: Clock, age: int, good: bool) -> None:
    """Five minutes after it was made it is refused, by either library."""
    clock.now -= age
    token = await proof_of(browse, "lisi", f"{site}/")
    keys = KeySet.import_key_set(await keys_at(site))
    decoded = joserfc.jwt.decode(token, keys, algorithms=["ES256"])

    if good:
        assert (await who(token))["sub"] == "lisi"
        joserfc.jwt.JWTClaimsRegistry().validate(decoded.claims)
    else:
        with pytest.raises(jwt.ExpiredSignatureError):
            await who(token)
        with pytest.raises(JoseError):
            joserfc.jwt.JWTClaimsRegistry().validate(decoded.claims)


# ── made up ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_no_algorithm(browse: Browse, gateway: Gateway, who: Who, site: str) -> None:
    """``alg: none``, in any spelling, is refused by the README's example."""
    header, claims = parts_of(await proof_of(browse, "lisi", f"{site}/"))

    for none in ("none", "None", "NONE", "nOnE", ""):
        with pytest.raises(jwt.PyJWTError):
            await who(signed(header | {"alg": none}, claims | {"sub": "boss"}, lambda _: b""))


async def test_key_confusion(browse: Browse, gateway: Gateway, who: Who, site: str) -> None:
    """Whoever takes the public key for a shared secret (HS256) is refused by the README's example."""
    header, claims = parts_of(await proof_of(browse, "lisi", f"{site}/"))
    (published,) = (await keys_at(site))["keys"]
    key = jwt.PyJWK(published).key
    secrets = [
        key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        json.dumps(published).encode(),
        published["x"].encode(),
    ]

    for secret in secrets:
        for algorithm in ("HS256", "HS384", "ES256"):

            def sign(text: bytes, secret: bytes = secret) -> bytes:
                return hmac.digest(secret, text, "sha256")

            with pytest.raises(jwt.PyJWTError):
                await who(signed(header | {"alg": algorithm}, claims | {"sub": "boss"}, sign))


async def test_another_key(browse: Browse, gateway: Gateway, who: Who, site: str) -> None:
    """A signature of somebody else's key is refused, under our key's name, under its own, and with the key brought along."""
    header, claims = parts_of(await proof_of(browse, "lisi", f"{site}/"))
    own = ec.generate_private_key(ec.SECP256R1())
    public = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(own.public_key()))

    for extra in ({}, {"kid": "own"}, {"kid": ""}, {"jwk": public}, {"jku": "http://127.0.0.1:1/", "kid": "own"}):
        forged = jwt.encode(claims | {"sub": "boss"}, own, algorithm="ES256", headers={"kid": header["kid"]} | extra)
        with pytest.raises(jwt.PyJWTError):
            await who(forged)


async def test_altered(browse: Browse, gateway: Gateway, who: Who, site: str) -> None:
    """A proof with other claims, cut short, or nonsense is refused."""
    token = await proof_of(browse, "lisi", f"{site}/")
    head, claims, signature = token.split(".")
    boss = base64.urlsafe_b64encode(json.dumps(parts_of(token)[1] | {"sub": "boss"}).encode()).rstrip(b"=").decode()

    for text in (f"{head}.{boss}.{signature}", f"{head}.{claims}.", token[:-4], f"{head}.{claims}", "", "..", "a.b.c"):
        with pytest.raises(jwt.PyJWTError):
            await who(text)


# ── keys ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def prover(*keys: str, sites: dict[str, str] | None = None, agent_id: int = 1000002) -> Prover:
    secrets = [Secret(key) for key in keys or (KEY,)]
    return Prover(secrets, {"oa": URL} if sites is None else sites, corp_id="ww1", agent_id=agent_id)


def session(**changes: Any) -> Session:
    fields: dict[str, Any] = {"issued": NOW, "renewed": NOW, "ends": NOW + 43200, "read": NOW, "account": "zhangsan"}
    member = Member("zhangsan", name="张三")
    return Session(**{"id": "s", "member": member, "corp_id": "ww1", "agent_id": 1000002, "site": "oa"} | fields | changes)


def proof(by: Prover, **changes: Any) -> Proof:
    made = by.proof("oa", session(**changes), kind="member", ends=NOW + 43200)
    assert made
    return made


def key_ids(of: Prover) -> list[str]:
    return [key["kid"] for key in of.published]


class TestKeys:
    """Derived from the signing keys, so that every process has the same, and none of them is secret from another."""

    def test_every_process_has_the_same(self) -> None:
        """The same setting gives the same keys, in this release and the next."""
        assert key_ids(prover()) == key_ids(prover()) == ["pHOhhTFS1Bro348RnkbK01vzqWWGzlZfNd6A3TE7V9M"]

    def test_another_app_has_others(self) -> None:
        """Two gateways that share a signing key but not an app do not share these."""
        assert not set(key_ids(prover())) & set(key_ids(prover(agent_id=1000003)))

    def test_an_id_is_the_thumbprint(self) -> None:
        """``kid`` is what RFC 7638 says, by another library; nothing private is published."""
        (published,) = prover().published

        assert KeySet.import_key_set({"keys": [published]}).keys[0].thumbprint() == published["kid"]
        assert set(published) == {"crv", "kty", "x", "y", "alg", "use", "kid"}
        assert (published["alg"], published["use"]) == ("ES256", "sig")

    def test_rotation(self) -> None:
        """The first key signs, all are published: what another process still signs, or already signs, verifies."""
        old, both, new = prover("o" * 43), prover("n" * 43, "o" * 43), prover("n" * 43)

        header, _ = parts_of(proof(both).at(NOW))

        assert key_ids(both) == key_ids(new) + key_ids(old)
        assert header == {"alg": "ES256", "kid": key_ids(new)[0], "typ": "JWT"}

    def test_nothing_is_loaded_where_no_site_asks(self) -> None:
        """Without the setting no library for it is loaded, nothing is published, and no session has a proof."""
        code = (
            "import sys, gateway.app\nfrom gateway.proof import Prover\nfrom gateway.secret import Secret\n"
            "prover = Prover([Secret('k' * 43)], {}, corp_id='ww1', agent_id=1)\n"
            "assert not prover.published and prover.proof('oa', None, kind='member', ends=0) is None\n"
            "sys.exit('jwt' in sys.modules)"
        )

        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_off_by_default(browse: Browse, start: Start, make_config: MakeConfig, sandbox: Sandbox) -> None:
    """Without the setting there is no header and no page of keys."""
    gateway = await start(make_config())
    sandbox.state.app.oauth_domain = "localhost:8080"

    page = await browse("lisi", at=gateway).open("http://localhost:8080/")
    keys = await browse(at=gateway).get("http://localhost:8080/_wecom/jwks.json")

    assert page.headers["X-WeCom-UserId"] == "lisi"
    assert "X-WeCom-Jwt" not in page.headers
    assert keys.status == 404


async def test_one_site_only(browse: Browse, start: Start, make_config: MakeConfig, sandbox: Sandbox) -> None:
    """A site that asks for none gets none; the keys are the same page at every host, for whoever asks."""
    sites = [{"name": "oa", "public_url": "http://localhost:8080"}, {"name": "erp", "public_url": ERP, "jwt": True}]
    gateway = await start(make_config(site=sites))
    sandbox.state.app.oauth_domain = "localhost:8080"
    browser = browse("lisi", at=gateway)

    there, here = await browser.open(f"{ERP}/"), await browser.open("http://localhost:8080/")

    assert "X-WeCom-Jwt" in there.headers
    assert "X-WeCom-Jwt" not in here.headers
    assert here.headers["X-WeCom-UserId"] == "lisi"
    assert (await keys_at(f"http://{gateway.addresses['pages']}"))["keys"] == gateway.live.now.prover.published


# ── how often ──────────────────────────────────────────────────────────────────────────────────────────────────────


class TestOften:
    """Signed once a session and minute, not once a request."""

    def counted(self, ends: float = NOW + 43200) -> tuple[Proof, list[bytes]]:
        calls: list[bytes] = []

        def sign(claims: bytes) -> str:
            calls.append(claims)
            return f"proof {len(calls)}"

        return Proof(sign, '{"sub":"zhangsan"', ends), calls

    def test_once_a_minute(self) -> None:
        """A thousand requests of one minute are one signature; the next minute's first is another."""
        proof, calls = self.counted()

        texts = {proof.at(NOW + number * 0.0599) for number in range(1000)}
        later = proof.at(NOW + AGAIN_S)

        assert texts == {"proof 1"}
        assert later == "proof 2"
        assert [json.loads(call)["iat"] for call in calls] == [NOW, NOW + AGAIN_S]

    def test_a_clock_set_back(self) -> None:
        """After the clock was set back a new one is made: nobody accepts one from the future."""
        proof, calls = self.counted()
        proof.at(NOW)

        proof.at(NOW - 3600)

        assert [json.loads(call)["iat"] for call in calls] == [NOW, NOW - 3600]

    def test_never_past_the_session(self) -> None:
        """A proof ends with its session, if that is sooner."""
        proof, calls = self.counted(ends=NOW + 40)

        proof.at(NOW)

        assert json.loads(calls[0])["exp"] == NOW + 40

    def test_remembered_with_the_session(self) -> None:
        """What the check remembers of a session holds its proof; a renewed session has another."""
        sessions = sessions_with(prover())
        value = sessions.seal(session())
        renewed = sessions.seal(session(renewed=NOW + 1, member=Member("zhangsan", name="张三丰")))

        seen, again, other = (sessions.seen(each, site="oa") for each in (value, value, renewed))

        assert seen.proof
        assert again.proof
        assert other.proof
        assert seen.proof.at(NOW) is again.proof.at(NOW + 59)
        assert parts_of(other.proof.at(NOW))[1]["name"] == "张三丰"


def sessions_with(by: Prover) -> Sessions:
    lifetimes = Lifetimes()
    return Sessions(
        Sealer([Secret(KEY)]), corp_id="ww1", agent_id=1000002, lifetimes=lifetimes, clock=lambda: NOW, prover=by
    )  # fmt: skip


@pytest.mark.parametrize(
    "name", ["", "🧑‍💻 emoji", 'quote " and \\', "\x00\r\nX-WeCom-UserId: boss", "half \ud83d", "</script>", "x" * 900], ids=ascii
)
def test_any_name_is_claims(name: str) -> None:
    """Whatever a member is called, the proof is one line of ASCII that decodes to the name."""
    by = prover()

    token = proof(by, member=Member("zhangsan", name=name)).at(NOW)

    key = jwt.PyJWK(by.published[0]).key
    claims = jwt.decode(token, key, algorithms=["ES256"], audience=URL, options={"verify_exp": False, "verify_iat": False})
    assert claims["name"] == name.encode("utf-8", "replace").decode()
    assert re.fullmatch(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", token)


def test_it_counts_as_a_header() -> None:
    """A session whose headers are too long with the proof, and were not without, is refused at sign-in."""
    big = session(departments=tuple(range(100_000, 100_000 + 600)))
    without, with_it = sessions_with(prover(sites={})), sessions_with(prover())

    assert without.open(without.seal(big), site="oa") == big
    with pytest.raises(LoginFailed) as refused:
        with_it.seal(big)
    assert refused.value.reason == "session-too-big"


def test_a_token_has_one_for_each_site() -> None:
    """A machine's proof says so, is for the site that it asks, and ends with the token."""
    sites = {"oa": URL, "erp": ERP}
    tokens = Tokens(
        Sealer([Secret(KEY)]), Standing(), corp_id="ww1", agent_id=1000002, clock=lambda: NOW, prover=prover(sites=sites)
    )  # fmt: skip
    text = tokens.seal(Token("t", "ci", ("user:lisi",), "ww1", 1000002, "", NOW, NOW + 100))
    rule = Rules().parse("/_wecom/auth/user:lisi")

    claims = {}
    for site in ("oa", "erp", "wiki"):
        known = tokens.seen(f"Bearer {text}", site=site, rule=rule)
        claims[site] = parts_of(known.proof.at(NOW))[1] if known.proof else None

    assert claims["oa"] == {
        "iss": URL,
        "aud": URL,
        "sub": "token:ci",
        "name": "ci",
        "account": "token:ci",
        "corp_id": "ww1",
        "departments": [],
        "kind": "token",
        "iat": NOW,
        "exp": NOW + 100,
    }
    assert claims["erp"]["aud"] == ERP
    assert claims["wiki"] is None
    assert JWT not in identity_headers(known.identity)
