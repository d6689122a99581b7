"""Sign and encrypt what we hand to a browser: keys newest first, one salt per purpose, SHA-256."""

from __future__ import annotations

import binascii
import hmac
import json
import secrets
import zlib
from collections.abc import Sequence
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from itsdangerous import Signer, want_bytes
from itsdangerous.signer import SigningAlgorithm

from gateway.secret import Secret

_NONCE_BYTES = 12
COMPRESS_FROM = 600
_parsed = json.JSONDecoder().raw_decode  #: what ``json.loads`` comes to, without its looks for blanks
_STANDARD, _URLSAFE = bytes.maketrans(b"-_", b"+/"), bytes.maketrans(b"+/", b"-_")


class Forged(Exception):
    """The text carries no signature of any of our keys, or not for this purpose."""


class _HmacSha256(SigningAlgorithm):
    """HMAC-SHA256, begun once for each key: that is two thirds of what OpenSSL takes for a cookie."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._begun = {key: HMAC(key, SHA256()) for key in keys}

    def get_signature(self, key: bytes, value: bytes) -> bytes:
        signing = self._begun[key].copy()
        signing.update(value)
        return signing.finalize()


class _Signer(Signer):
    """One whose keys are derived already, once and not for every cookie."""

    def derive_key(self, secret_key: str | bytes | None = None) -> bytes:
        return self.secret_key if secret_key is None else want_bytes(secret_key)


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
        return self._signed(purpose, _pack(claims))

    def verify(self, purpose: str, text: str) -> Any:
        """Give back what was signed, or raise :class:`Forged`."""
        return _unpack(purpose, self._genuine(purpose, text))

    def seal(self, purpose: str, claims: Any, private: Any) -> str:
        """Sign *claims* and, beside them, what only we can read: ``None`` is nothing. One signature holds for both."""
        hidden = "" if private is None else self.encrypt(f"{purpose}-private", private)
        return self._signed(purpose, b".".join((_pack(claims), hidden.encode())))

    def open(self, purpose: str, text: str) -> tuple[Any, Any]:
        """Give back claims and private part of what was sealed, or raise :class:`Forged`."""
        claims, _, hidden = self._genuine(purpose, text).rpartition(b".")
        private = self.decrypt(f"{purpose}-private", hidden.decode()) if hidden else None
        return _unpack(purpose, claims), private

    def encrypt(self, purpose: str, claims: Any) -> str:
        """Give *claims* (JSON) as a text of ``[A-Za-z0-9_-]`` that only we can read (AES-256-GCM)."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return _encoded(nonce + self._cipher(purpose)[0].encrypt(nonce, _json(claims), purpose.encode())).decode()

    def decrypt(self, purpose: str, text: str) -> Any:
        """Give back what was encrypted, or raise :class:`Forged`."""
        try:
            raw = _decoded(text.encode("ascii"))
        except ValueError as error:
            raise Forged(purpose) from error
        for cipher in self._cipher(purpose):
            try:
                return _read(cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], purpose.encode()))
            except (InvalidTag, ValueError):
                continue
        raise Forged(purpose)

    def digest(self, purpose: str, text: str) -> str:
        """Give a keyed fingerprint of *text*: 32 hex digits that nobody else can compute."""
        key = _derived(self._newest_first[0], f"digest.{purpose}")
        return hmac.new(key, text.encode("utf-8", "surrogateescape"), "sha256").hexdigest()[:32]

    def _signed(self, purpose: str, payload: bytes) -> str:
        return self._signer(purpose).sign(payload).decode()

    def _genuine(self, purpose: str, text: str) -> bytes:
        """What stands before the signature of *text*, which is one of ours."""
        if text.isascii():
            payload, _, signature = text.encode().rpartition(b".")
            if self._signer(purpose).verify_signature(payload, signature):
                return payload
        raise Forged(purpose)

    def _signer(self, purpose: str) -> Signer:
        if purpose not in self._signers:
            keys = [_derived(key, f"sign.{purpose}") for key in self._newest_first[::-1]]  # itsdangerous signs with the last
            self._signers[purpose] = _Signer(keys, algorithm=_HmacSha256(keys))
        return self._signers[purpose]

    def _cipher(self, purpose: str) -> list[AESGCM]:
        if purpose not in self._ciphers:
            self._ciphers[purpose] = [AESGCM(_derived(key, f"seal.{purpose}")) for key in self._newest_first]
        return self._ciphers[purpose]


def _derived(key: bytes, purpose: str) -> bytes:
    return hmac.digest(key, b"wecom-gateway." + purpose.encode(), "sha256")


def _json(claims: Any) -> bytes:
    return json.dumps(claims, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _read(plain: bytes) -> Any:
    text = plain.decode("utf-8", "surrogatepass")
    claims, end = _parsed(text)
    if end != len(text):
        raise ValueError("more than one JSON value")
    return claims


def _pack(claims: Any) -> bytes:
    """JSON in base64url; a leading dot marks that compressing it was worth the time."""
    plain = _json(claims)
    if len(plain) > COMPRESS_FROM and len(packed := zlib.compress(plain)) < len(plain):
        return b"." + _encoded(packed)
    return _encoded(plain)


def _unpack(purpose: str, payload: bytes) -> Any:
    """Only ever called with what carried a genuine signature."""
    try:
        return _read(zlib.decompress(_decoded(payload[1:])) if payload.startswith(b".") else _decoded(payload))
    except (ValueError, RecursionError, zlib.error) as error:
        raise Forged(purpose) from error


def _encoded(data: bytes) -> bytes:
    """base64url without its padding."""
    return binascii.b2a_base64(data, newline=False).translate(_URLSAFE).rstrip(b"=")


def _decoded(text: bytes) -> bytes:
    return binascii.a2b_base64(text.translate(_STANDARD) + b"==")
