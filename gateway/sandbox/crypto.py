"""WeCom's envelope for callbacks: AES-256-CBC, padding to 32 bytes, a SHA-1 signature over sorted parts.

Source: developer.work.weixin.qq.com path/90968 and path/91144, read 2024.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

_BLOCK = 32


class EnvelopeError(ValueError):
    """The text is not an envelope made with this key for this receiver."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """The three secrets that both ends share; ``receive_id`` is the CorpID for an app's own callback."""

    token: str
    aes_key: str
    receive_id: str

    def sign(self, timestamp: str, nonce: str, encrypted: str) -> str:
        """Return the ``msg_signature``: lower-case hex."""
        parts = sorted(part.encode() for part in (self.token, timestamp, nonce, encrypted))
        return hashlib.sha1(b"".join(parts)).hexdigest()  # noqa: S324 - WeCom's choice

    def encrypt(self, message: str, *, prefix: bytes | None = None) -> str:
        """Return base64 of the encrypted message; ``prefix`` is 16 random bytes."""
        body = message.encode()
        plain = (prefix or secrets.token_bytes(16)) + struct.pack(">I", len(body)) + body + self.receive_id.encode()
        encryptor = self._cipher().encryptor()
        return base64.b64encode(encryptor.update(_padded(plain)) + encryptor.finalize()).decode()

    def decrypt(self, encrypted: str) -> str:
        """Return the message; raise EnvelopeError when length, padding or receiver is not right."""
        try:
            decryptor = self._cipher().decryptor()
            plain = _unpadded(decryptor.update(base64.b64decode(encrypted, validate=True)) + decryptor.finalize())
            (length,) = struct.unpack(">I", plain[16:20])
            message, receiver = plain[20 : 20 + length], plain[20 + length :]
        except (ValueError, struct.error) as error:
            raise EnvelopeError(str(error)) from error
        if len(message) != length or receiver != self.receive_id.encode():
            raise EnvelopeError("length or receiver does not match")
        return message.decode()

    def _cipher(self) -> Cipher[CBC]:
        key = decode_key(self.aes_key)
        return Cipher(AES(key), CBC(key[:16]))


def decode_key(aes_key: str) -> bytes:
    """Return the 32 bytes of an EncodingAESKey; its spare two bits may be set."""
    try:
        key = base64.b64decode(aes_key + "=")
    except ValueError as error:
        raise EnvelopeError("EncodingAESKey is not base64") from error
    if len(aes_key) != 43 or len(key) != 32:
        raise EnvelopeError("EncodingAESKey is not 43 characters")
    return key


def _padded(plain: bytes) -> bytes:
    pad = _BLOCK - len(plain) % _BLOCK
    return plain + bytes([pad]) * pad


def _unpadded(padded: bytes) -> bytes:
    pad = padded[-1] if padded else 0
    if not 1 <= pad <= _BLOCK or padded[-pad:] != bytes([pad]) * pad:
        raise EnvelopeError("padding")
    return padded[:-pad]
