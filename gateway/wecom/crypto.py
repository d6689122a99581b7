"""WeCom's callbacks (接收消息与事件): verify the signature, decrypt the message (documents 90968 and 90930)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.padding import PKCS7

from gateway.errors import GatewayError
from gateway.secret import Secret

PADDED_TO = 32 * 8
"""Bits: the padding goes to 32 bytes, twice the block of AES."""


class CallbackRefused(GatewayError):
    """Not from WeCom, not for us, or damaged: ``callback-signature``, ``callback-damaged``, ``callback-receiver``."""

    reason = "callback-damaged"


class Callbacks:
    """Open what WeCom sends to one callback address; *receiver* is the corp id for an app's callback."""

    def __init__(self, token: Secret, aes_key: Secret, receiver: str) -> None:
        """Take Token and EncodingAESKey as the admin console shows them; ``ValueError`` if the key cannot be one."""
        if not re.fullmatch(r"[0-9A-Za-z+/]{43}", aes_key.reveal()):
            raise ValueError("an EncodingAESKey has 43 letters and digits")
        self._token = token
        self._key = base64.b64decode(aes_key.reveal() + "=")  # many real keys have spare bits set: not a strict decoder
        self._receiver = receiver.encode()

    def open(self, signature: str, timestamp: str, nonce: str, encrypted: str) -> bytes:
        """Give the message in *encrypted*: ``Encrypt`` of the body, or ``echostr``; all URL-decoded once."""
        if not hmac.compare_digest(self._sign(timestamp, nonce, encrypted), _bytes(signature)):
            raise CallbackRefused("the callback's signature is wrong", reason="callback-signature")
        return self.decrypt(encrypted)

    def decrypt(self, encrypted: str) -> bytes:
        """Decrypt without looking at a signature: 16 random bytes, a length, the message, the receiver."""
        plain = self._plain(encrypted)
        end = 20 + int.from_bytes(plain[16:20], "big")
        if end > len(plain):
            raise CallbackRefused("the callback's length is wrong")
        if not hmac.compare_digest(plain[end:], self._receiver):
            raise CallbackRefused("the callback is meant for another receiver", reason="callback-receiver")
        return plain[20:end]

    def _sign(self, timestamp: str, nonce: str, encrypted: str) -> bytes:
        parts = sorted(_bytes(part) for part in (self._token.reveal(), timestamp, nonce, encrypted))
        return hashlib.sha1(b"".join(parts), usedforsecurity=False).hexdigest().encode()

    def _plain(self, encrypted: str) -> bytes:
        decryptor = Cipher(algorithms.AES(self._key), modes.CBC(self._key[:16])).decryptor()
        unpadder = PKCS7(PADDED_TO).unpadder()
        try:
            padded = decryptor.update(base64.b64decode(_bytes(encrypted), validate=True)) + decryptor.finalize()
            return unpadder.update(padded) + unpadder.finalize()
        except (ValueError, binascii.Error):
            damaged = CallbackRefused("the callback cannot be decrypted")
        raise damaged


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
