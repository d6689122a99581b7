"""Sign and encrypt what we hand to a browser: keys newest first, one salt per purpose, SHA-256."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import secrets
import zlib
from collections.abc import Sequence
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from itsdangerous import BadSignature, Signer
from itsdangerous.encoding import base64_encode
from itsdangerous.signer import SigningAlgorithm

from gateway.secret import Secret

_NONCE_BYTES = 12
COMPRESS_FROM = 600
_STANDARD = bytes.maketrans(b"-_", b"+/")


class Forged(Exception):
    """The text carries no signature of any of our keys, or not for this purpose."""


class _HmacSha256(SigningAlgorithm):
    """HMAC-SHA256 in one call of OpenSSL; itsdangerous' own builds an object of Python's for each signature."""

    def get_signature(self, key: bytes, value: bytes) -> bytes:
        return hmac.digest(key, value, "sha256")


class Sealer:
    """Sign, verify, encrypt and decrypt with a list of *keys*, newest first: the newest signs, all verify.

    A purpose is a short name such as ``session``; a value sealed for one purpose never opens for another.
    """

    def __init__(self, keys: Sequence[Secret]) -> None:
        if not keys:
            raise ValueError("at least one signing key is needed")
        self._newest_first = [key.reveal().encode() for key in keys]
        self._signers: dict[str, Signer] = {}
        self._ciphers: dict[str, list[AESGCM]] = {}

    def sign(self, purpose: str, claims: Any) -> str:
        """Give *claims* (JSON) as a text of ``[A-Za-z0-9_.-]``; readable by whoever holds it."""
        return self._signer(purpose).sign(_pack(claims)).decode()

    def verify(self, purpose: str, text: str) -> Any:
        """Give back what was signed, or raise :class:`Forged`."""
        try:
            return _unpack(self._signer(purpose).unsign(text.encode("ascii")))
        except (BadSignature, ValueError, RecursionError, zlib.error) as error:
            raise Forged(purpose) from error

    def encrypt(self, purpose: str, claims: Any) -> str:
        """Give *claims* (JSON) as a text of ``[A-Za-z0-9_-]`` that only we can read (AES-256-GCM)."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        plain = _json(claims)
        sealed = self._cipher(purpose)[0].encrypt(nonce, plain, purpose.encode())
        return base64.urlsafe_b64encode(nonce + sealed).rstrip(b"=").decode()

    def decrypt(self, purpose: str, text: str) -> Any:
        """Give back what was encrypted, or raise :class:`Forged`."""
        try:
            raw = _decoded(text.encode("ascii"))
        except (binascii.Error, ValueError) as error:
            raise Forged(purpose) from error
        for cipher in self._cipher(purpose):
            try:
                plain = cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], purpose.encode())
                return json.loads(plain.decode("utf-8", "surrogatepass"))
            except (InvalidTag, ValueError):
                continue
        raise Forged(purpose)

    def digest(self, purpose: str, text: str) -> str:
        """Give a keyed fingerprint of *text*: 32 hex digits that nobody else can compute."""
        key = _derived(self._newest_first[0], f"digest.{purpose}")
        return hmac.new(key, text.encode("utf-8", "surrogateescape"), "sha256").hexdigest()[:32]

    def _signer(self, purpose: str) -> Signer:
        if purpose not in self._signers:
            self._signers[purpose] = Signer(
                [_derived(key, f"sign.{purpose}") for key in self._newest_first[::-1]],  # itsdangerous signs with the last
                key_derivation="none",  # derived above, once and not for every cookie
                algorithm=_HmacSha256(),
            )
        return self._signers[purpose]

    def _cipher(self, purpose: str) -> list[AESGCM]:
        if purpose not in self._ciphers:
            self._ciphers[purpose] = [AESGCM(_derived(key, f"seal.{purpose}")) for key in self._newest_first]
        return self._ciphers[purpose]


def _derived(key: bytes, purpose: str) -> bytes:
    return hmac.digest(key, b"wecom-gateway." + purpose.encode(), "sha256")


def _json(claims: Any) -> bytes:
    return json.dumps(claims, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _pack(claims: Any) -> bytes:
    """JSON in base64url; a leading dot, as itsdangerous has it, marks that compressing it was worth the time."""
    plain = _json(claims)
    if len(plain) > COMPRESS_FROM and len(packed := zlib.compress(plain)) < len(plain):
        return b"." + base64_encode(packed)
    return base64_encode(plain)


def _unpack(payload: bytes) -> Any:
    """Only ever called with what carried a genuine signature."""
    plain = zlib.decompress(_decoded(payload[1:])) if payload.startswith(b".") else _decoded(payload)
    return json.loads(plain.decode("utf-8", "surrogatepass"))


def _decoded(text: bytes) -> bytes:
    """base64url without its padding."""
    return binascii.a2b_base64(text.translate(_STANDARD) + b"==")
