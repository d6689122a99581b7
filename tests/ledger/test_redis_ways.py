"""Ways to a Redis: a socket, TLS with and without a certificate of ours, and sentinels that know who is master."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from redis.asyncio.sentinel import MasterNotFoundError

from gateway.app import Gateway
from gateway.config import Config
from gateway.ledger import LedgerUnavailable
from gateway.ledger.redis import RedisStore
from gateway.ledger.redis_clients import BOUNDS, Clients
from gateway.ledger.redis_faults import told
from gateway.records import Entry, Record
from gateway.redis_url import RedisUrl
from tests.conftest import free_port
from tests.ledger.conftest import Opened, members
from tests.ledger.redis_server import RedisServer, running
from tests.patience import PATIENCE_S, in_time, until

RECORD = Record("revoked", 1_800_000_000.0, member="zhangsan")
MASTER, PASSWORD, SENTINEL_PASSWORD = "ledger", "p@ss/word", "another-word"


async def test_a_unix_socket_serves(opened: Opened, tmp_path: Path) -> None:
    """unix:// reaches a Redis without a port."""
    path = tmp_path / "redis.sock"
    async with running(tmp_path / "redis", "--unixsocket", str(path)):
        store = opened(f"unix://{path}?db=2")
        await store.append([RECORD])

        assert await members(store) == ["zhangsan"]


async def test_a_unix_socket_with_a_password(opened: Opened, tmp_path: Path) -> None:
    """The password goes before the path, escaped; a wrong one is told."""
    path = tmp_path / "redis.sock"
    async with running(tmp_path / "redis", "--unixsocket", str(path), "--requirepass", PASSWORD):
        await opened(f"unix://:p%40ss%2Fword@{path}").append([RECORD])

        with pytest.raises(LedgerUnavailable, match="look at user and password"):
            await opened(f"unix://:other@{path}").append([RECORD])


# ── TLS ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Issued:
    """Files of a certificate and its key."""

    cert: Path
    key: Path


class Authority:
    """A CA of its own, which issues certificates into *folder*."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = self._issue(name, self._name, self._key, x509.BasicConstraints(ca=True, path_length=None)).cert

    def issue(self, name: str, *names: x509.GeneralName) -> Issued:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return self._issue(name, subject, ec.generate_private_key(ec.SECP256R1()), x509.SubjectAlternativeName(names))

    def _issue(self, name: str, subject: x509.Name, key: ec.EllipticCurvePrivateKey, says: x509.ExtensionType) -> Issued:
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=2))
            .add_extension(says, critical=isinstance(says, x509.BasicConstraints))
            .sign(self._key, hashes.SHA256())
        )
        issued = Issued(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        issued.cert.write_bytes(certificate.public_bytes(Encoding.PEM))
        issued.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return issued


HERE = x509.IPAddress(ip_address("127.0.0.1"))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "authority")


def over_tls(authority: Authority, port: int, *names: x509.GeneralName, clients: str = "no") -> tuple[str, ...]:
    """What a Redis is told to speak TLS at *port*, and with *clients* ``yes`` only to who shows a certificate."""
    own = authority.issue("redis", *names)
    files = ("--tls-ca-cert-file", str(authority.file), "--tls-cert-file", str(own.cert), "--tls-key-file", str(own.key))
    return ("--tls-port", str(port), *files, "--tls-auth-clients", clients)


async def test_tls_needs_a_certificate_that_we_trust(opened: Opened, tmp_path: Path, authority: Authority) -> None:
    """rediss:// works with the CA named by ca_file, and refuses a certificate that nobody vouches for."""
    port = free_port()
    async with running(tmp_path / "redis", *over_tls(authority, port, HERE)):
        store = opened(f"rediss://127.0.0.1:{port}?ca_file={authority.file}")
        await store.append([RECORD])
        assert await members(store) == ["zhangsan"]

        with pytest.raises(LedgerUnavailable, match="name its CA by"):
            await opened(f"rediss://127.0.0.1:{port}").open()
        with pytest.raises(LedgerUnavailable):
            await opened(f"redis://127.0.0.1:{port}").open()


async def test_a_certificate_for_another_host_is_refused(opened: Opened, tmp_path: Path, authority: Authority) -> None:
    """A server that a CA of ours vouches for, under another name, is not the one that ``store`` names."""
    port = free_port()
    async with running(tmp_path / "redis", *over_tls(authority, port, x509.DNSName("printer.internal"))):
        with pytest.raises(LedgerUnavailable, match=r"certificate.*127\.0\.0\.1"):
            await opened(f"rediss://127.0.0.1:{port}?ca_file={authority.file}").open()


async def test_redis_may_ask_for_our_certificate(opened: Opened, tmp_path: Path, authority: Authority) -> None:
    """``cert_file`` and ``key_file`` are shown to a Redis that asks; without them, or by another CA, it lets nobody in."""
    port, ours, strange = free_port(), authority.issue("gateway"), Authority(tmp_path, "stranger").issue("strange")
    url = f"rediss://127.0.0.1:{port}?ca_file={authority.file}"
    async with running(tmp_path / "redis", *over_tls(authority, port, HERE, clients="yes")):
        store = opened(f"{url}&cert_file={ours.cert}&key_file={ours.key}")
        await store.append([RECORD])
        assert await members(store) == ["zhangsan"]

        for wrong in (url, f"{url}&cert_file={strange.cert}&key_file={strange.key}"):
            with pytest.raises(LedgerUnavailable, match="does it ask for a certificate of ours"):
                await opened(wrong).append([RECORD])
        assert await members(store) == ["zhangsan"]


# ── sentinels ──────────────────────────────────────────────────────────────────────────────────────────────────────


UNPERTURBED = ("SENTINEL", "DEBUG", "TILT-TRIGGER", PATIENCE_S * 1000)
"""By itself a sentinel that was held up for two seconds replaces nobody for thirty."""


@dataclass(frozen=True)
class Watched:
    """Two servers, the first of them master at the beginning, and three sentinels that watch over them."""

    servers: tuple[RedisServer, RedisServer]
    sentinels: tuple[RedisServer, ...]

    @property
    def hosts(self) -> str:
        return ",".join(f"127.0.0.1:{each.port}" for each in self.sentinels)

    @property
    def url(self) -> str:
        return f"redis+sentinel://:p%40ss%2Fword@{self.hosts}/{MASTER}/3?sentinel_password={SENTINEL_PASSWORD}"

    async def in_step(self) -> None:
        """Wait until all that the master has is the other's as well."""
        master, other = self.servers
        wanted = await come_to(master)

        async def has_come() -> bool:
            return await come_to(other) >= wanted

        await until(has_come)

    @asynccontextmanager
    async def replacing(self) -> AsyncIterator[None]:
        """Only here a master that does not answer is replaced: one that a busy machine lets wait is not."""
        await self._is_down_after(500)
        yield
        await self._is_down_after(PATIENCE_S * 1000)

    async def _is_down_after(self, milliseconds: int) -> None:
        for sentinel in self.sentinels:
            words = ("SENTINEL", "SET", MASTER, "down-after-milliseconds", milliseconds)
            await sentinel.do(*words, password=SENTINEL_PASSWORD)


async def come_to(server: RedisServer) -> int:
    """How much of what the master has written the server has."""
    told = await server.do("INFO", "replication", password=PASSWORD)
    return int(told.partition("master_repl_offset:")[2].split()[0])


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    async with AsyncExitStack() as stack:
        login = ("--requirepass", PASSWORD, "--masterauth", PASSWORD)
        master = await stack.enter_async_context(running(tmp_path / "master", *login))
        following = ("--replicaof", f"127.0.0.1 {master.port}")
        replica = await stack.enter_async_context(running(tmp_path / "replica", *login, *following))
        sentinels = [RedisServer(tmp_path / f"sentinel{number}", "--sentinel", safe=False) for number in range(3)]
        for sentinel in sentinels:
            sentinel.settle(
                f"sentinel monitor {MASTER} 127.0.0.1 {master.port} 2",
                f"sentinel auth-pass {MASTER} {PASSWORD}",
                f"sentinel down-after-milliseconds {MASTER} {PATIENCE_S * 1000}",
                f"sentinel failover-timeout {MASTER} 3000",
                f"requirepass {SENTINEL_PASSWORD}",
            )
            stack.push_async_callback(sentinel.kill)
            await sentinel.start()
            await sentinel.do(*UNPERTURBED, password=SENTINEL_PASSWORD)
        for sentinel in sentinels:
            await knows(sentinel, f"name={MASTER},status=ok", "slaves=1,sentinels=3")
        yield Watched((master, replica), tuple(sentinels))


async def knows(sentinel: RedisServer, *words: str) -> None:
    async def says() -> bool:
        told = await sentinel.do("INFO", "sentinel", password=SENTINEL_PASSWORD)
        return all(word in told for word in words)

    await until(says)


async def test_sentinels_name_the_master(opened: Opened, watched: Watched) -> None:
    """What is stored by the sentinels' word stands at the master, in the database of the URL; one sentinel is enough."""
    store = opened(watched.url)
    await store.append([RECORD])
    for sentinel in watched.sentinels[:2]:
        await sentinel.kill()

    assert await members(opened(watched.url)) == ["zhangsan"]
    assert "db3:keys=1," in await watched.servers[0].do("INFO", "keyspace", password=PASSWORD)


async def test_another_becomes_master(opened: Opened, watched: Watched) -> None:
    """When the master dies a store goes on with the one that takes over, nothing restarted, and reads on at its place."""
    store, reader = opened(watched.url), opened(watched.url)
    (before,) = await store.append([RECORD])
    await watched.in_step()
    await watched.servers[0].kill()
    with pytest.raises(LedgerUnavailable):
        await store.append([RECORD])

    async with watched.replacing():
        after = await tried(store, "lisi")

    assert await reader.read(before.position) == after
    assert await watched.servers[1].do("ROLE", password=PASSWORD)


async def tried(store: RedisStore, member: str) -> list[Entry]:
    """Append until it is confirmed."""
    entries: list[Entry] = []

    async def stored() -> bool:
        with suppress(LedgerUnavailable):
            entries.extend(await store.append([Record("revoked", 1_800_000_001.0, member=member)]))
        return bool(entries)

    await until(stored)
    return entries


async def test_a_former_master_is_left(opened: Opened, watched: Watched) -> None:
    """A master that hung and was replaced is asked no more when it comes to itself: what it would confirm would be lost."""
    store = opened(watched.url, BOUNDS)
    await store.append([RECORD])
    await watched.in_step()
    former = watched.servers[0]
    former.hold()
    async with watched.replacing():
        after = await tried(store, "lisi")
    former.go_on()

    await store.append([Record("revoked", 1_800_000_002.0, member="wangwu")])
    assert await members(store) == ["zhangsan", "lisi", "wangwu"]
    assert (await opened(watched.url).read())[1:2] == after


@pytest.mark.parametrize(
    "change, sentence",
    [
        ((SENTINEL_PASSWORD, "hush"), "is sentinel_password right"),
        ((f"/{MASTER}/", "/nobody/"), "/nobody/3 has no sentinel that names the master"),
        (("p%40ss", "hush"), "look at user and password"),
    ],
    ids=["sentinel-password", "name", "password"],
)
async def test_a_mistake_is_told(opened: Opened, watched: Watched, change: tuple[str, str], sentence: str) -> None:
    """A wrong password for the sentinels, a master that they do not know, a wrong password for the master: named, not shown."""
    with pytest.raises(LedgerUnavailable, match=sentence) as error:
        await opened(watched.url.replace(*change)).append([RECORD])

    assert not any(secret in str(error.value) for secret in ("hush", PASSWORD, SENTINEL_PASSWORD))


async def test_what_the_library_says_of_sentinels_is_not_repeated() -> None:
    """Some releases of it put the sentinels' password into the error; none of it is passed on."""
    with pytest.raises(LedgerUnavailable, match="has no sentinel") as error, told("redis+sentinel://one/ledger"):
        raise MasterNotFoundError("No master found for 'ledger' : <Redis(<ConnectionPool(<Connection(password=hush)>)>)> - x")

    assert "hush" not in str(error.value)


async def test_gateways_go_on_when_the_master_dies(
    make_config: Callable[..., Config], start: Callable[[Config], Awaitable[Gateway]], watched: Watched
) -> None:
    """Two gateways hear of each other again by the new master, without a restart; what was revoked before stays so."""
    one, other = await start(make_config(store=watched.url)), await start(make_config(store=watched.url))
    await one.live.now.ledger.append(Record("blocked", 1.0, member="zhangsan"))
    await watched.in_step()
    await watched.servers[0].kill()

    async def appended() -> bool:
        with suppress(LedgerUnavailable):
            await one.live.now.ledger.append(Record("blocked", 2.0, member="lisi"))
            return True
        return False

    async with watched.replacing():
        await until(appended)
        await until(lambda: other.live.now.standing.blocked("lisi"))

    later = await start(make_config(store=watched.url))
    assert [each.live.now.standing.blocked("zhangsan") for each in (one, other, later)] == [True] * 3
    assert later.live.now.standing.blocked("lisi")


async def test_two_that_ask_at_once_lose_no_sentinel(watched: Watched) -> None:
    """Two connections that look for the master while the first sentinel is away still know it when it is the only one."""
    first, *others = watched.sentinels
    clients = Clients(RedisUrl.parse(watched.url))
    try:
        await first.kill()
        await asyncio.gather(*(clients.make(answer_s=PATIENCE_S).ping() for _ in range(3)))
        await first.start()
        await knows(first, f"name={MASTER},status=ok")
        for sentinel in others:
            await sentinel.kill()

        assert await clients.make(answer_s=PATIENCE_S).ping()
    finally:
        await clients.close()


async def test_no_sentinel_answers(opened: Opened, watched: Watched) -> None:
    """Without any sentinel it says so, in a bounded time."""
    for sentinel in watched.sentinels:
        await sentinel.kill()
    with pytest.raises(LedgerUnavailable, match="has no sentinel that names the master"):
        await in_time(opened(watched.url, BOUNDS).append([RECORD]), 5)


async def test_sentinels_over_tls(opened: Opened, tmp_path: Path, authority: Authority) -> None:
    """``rediss+sentinel://`` speaks TLS with sentinels and master, and shows both our certificate."""
    port, ports, ours = free_port(), free_port(), authority.issue("gateway")
    both = "--tls-replication", "yes"
    async with running(tmp_path / "redis", *over_tls(authority, port, HERE, clients="yes"), *both):
        options = *over_tls(authority, ports, HERE, clients="yes"), *both
        sentinel = RedisServer(tmp_path / "sentinel", "--sentinel", *options, safe=False)
        sentinel.settle(f"sentinel monitor {MASTER} 127.0.0.1 {port} 1")
        await sentinel.start()
        files = f"ca_file={authority.file}&cert_file={ours.cert}&key_file={ours.key}"
        store = opened(f"rediss+sentinel://127.0.0.1:{ports}/{MASTER}?{files}")
        await tried(store, "zhangsan")

        assert await members(store) == ["zhangsan"]
        with pytest.raises(LedgerUnavailable):
            await opened(f"rediss+sentinel://127.0.0.1:{ports}/{MASTER}?ca_file={authority.file}").append([RECORD])
        await sentinel.kill()
