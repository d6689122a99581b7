"""``X-WeCom-Jwt``: who it is, signed, so that an application need not trust the way a header came.

ES256 (RFC 7518). The keys are derived from the ``signing_keys``, newest first: every process and machine has the same ones, and
they rotate with them. The first signs, all are published. What signs is loaded only where a site asks for it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.member import Announced
from gateway.secret import Secret

ALGORITHM = "ES256"
LIFETIME_S = 300
AGAIN_S = 60
"""A proof is made anew at the first request after so long: whoever receives one can use it for four minutes at least."""

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the points of P-256 (FIPS 186)."""

Sign = Callable[[bytes], str]


@dataclass(slots=True)
class Proof:
    """The proof of one identity at one site, signed once a minute; times are Unix seconds."""

    _sign: Sign = field(repr=False)
    _claims: str
    _ends: float
    _signed: float = 0
    _text: str = field(default="", repr=False)

    def at(self, now: float) -> str:
        """Give the proof that holds *now*."""
        if not self._signed <= now < self._signed + AGAIN_S:
            issued, ends = int(now), int(min(now + LIFETIME_S, self._ends))
            self._text = self._sign(f'{self._claims},"iat":{issued},"exp":{ends}}}'.encode("utf-8", "replace"))
            self._signed = now
        return self._text


class Prover:
    """Prove who somebody is to the *sites* that ask for it: site name -> its public URL."""

    def __init__(self, keys: Sequence[Secret], sites: Mapping[str, str], *, corp_id: str, agent_id: int) -> None:
        self._sites = sites
        self._sign: Sign = _nothing
        self.published: list[dict[str, str]] = []
        if sites:
            self._sign, self.published = _signer(keys, f"wecom-gateway.jwt.{corp_id}.{agent_id}".encode())

    def proof(self, site: str, announced: Announced, *, kind: str, ends: float) -> Proof | None:
        """Make the proof of an identity that holds until *ends*; None at a site that asks for none."""
        url = self._sites.get(site)
        if url is None:
            return None
        claims = {
            "iss": url,
            "aud": url,
            "sub": announced.member.user_id,
            "name": announced.member.name,
            "account": announced.account,
            "corp_id": announced.corp_id,
            "departments": list(announced.departments),
            "kind": kind,
        }
        text = json.dumps(claims, ensure_ascii=False, separators=(",", ":"))
        return Proof(self._sign, text[:-1], ends)


def _nothing(_: bytes) -> str:
    raise RuntimeError("no site asks for a proof")


def _signer(keys: Sequence[Secret], purpose: bytes) -> tuple[Sign, list[dict[str, str]]]:
    """What signs with the newest key, and the public halves of all as JWKs (RFC 7517)."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from jwt import PyJWS

    privates = [ec.derive_private_key(_scalar(key, purpose), ec.SECP256R1()) for key in keys]
    published = [_jwk(each.public_key().public_numbers()) for each in privates]
    jws, newest, header = PyJWS(algorithms=[ALGORITHM]), privates[0], {"kid": published[0]["kid"]}

    def sign(claims: bytes) -> str:
        return jws.encode(claims, newest, algorithm=ALGORITHM, headers=header)

    return sign, published


def _scalar(key: Secret, purpose: bytes) -> int:
    """A private key out of 384 bits of HKDF: evenly spread, as FIPS 186-5 A.2.1 asks for."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    derived = HKDF(SHA256(), length=48, salt=None, info=purpose).derive(key.reveal().encode())
    return int.from_bytes(derived, "big") % (_ORDER - 1) + 1


def _jwk(numbers: Any) -> dict[str, str]:
    """The public half; its id is its thumbprint (RFC 7638)."""
    point = {"crv": "P-256", "kty": "EC", "x": _number(numbers.x), "y": _number(numbers.y)}
    digest = hashlib.sha256(json.dumps(point, separators=(",", ":"), sort_keys=True).encode()).digest()
    return point | {"alg": ALGORITHM, "use": "sig", "kid": _base64url(digest)}


def _number(value: int) -> str:
    return _base64url(value.to_bytes(32, "big"))


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
