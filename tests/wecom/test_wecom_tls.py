"""Calls over TLS: whose certificate is trusted."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiocache import SimpleMemoryCache
from aiohttp import web
from aiohttp.test_utils import TestServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.errors import WeComUnreachable
from gateway.wecom import App, Endpoints, WeCom
from tests.wecom.scripted import TOKEN, Clock, Pauses, Script, everything_said


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that only its own file vouches for, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a private deployment")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "certificate.pem"
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return pem


@pytest.fixture
async def secure_url(script: Script, certificate: Path) -> AsyncIterator[str]:
    """The scripted server over TLS."""
    server = TestServer(web.Application(), scheme="https")
    server.app.router.add_route("*", "/{path:.*}", script.handle)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    await server.start_server(ssl=context, access_log=None)
    yield str(server.make_url("/"))
    await server.close()


async def test_an_unknown_certificate_is_refused(
    script: Script, secure_url: str, app: App, http: aiohttp.ClientSession, cache: SimpleMemoryCache, clock: Clock
) -> None:
    """Nothing is sent to a server that cannot prove who it is, and the operator reads what to set."""
    pauses = Pauses()

    with pytest.raises(WeComUnreachable, match=r"certificate of 127\.0\.0\.1 is not trusted here; wecom\.ca_file") as unreachable:
        await WeCom(app, Endpoints(api=secure_url), http, cache, clock, pause=pauses).member("zhangsan")

    assert script.asked == []
    assert pauses.seconds == []
    assert "secret" not in everything_said(unreachable.value)


async def test_a_ca_bundle_makes_it_known(
    secure_url: str, certificate: Path, app: App, cache: SimpleMemoryCache, clock: Clock
) -> None:
    """With the deployment's own CA in the session's TLS context, calls work."""
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=certificate))
    async with aiohttp.ClientSession(connector=connector) as session:
        assert await WeCom(app, Endpoints(api=secure_url), session, cache, clock).access_token() == TOKEN
