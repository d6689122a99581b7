"""WeCom's callbacks: published and computed vectors, and everything that must be refused."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from gateway.secret import Secret
from gateway.wecom.crypto import CallbackRefused, Callbacks

OFFICIAL = ("QDG6eK", "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C", "wx5823bf96d3bd56c7")
A = "P9nAzCzyDtyTWESHep1vC5X9xho/qYX3Zpb4yKa9SKld1DsH3Iyt3tP3zNdtp+4RPcs8TgAE7OaBO+FZXvnaqQ=="
B = (
    "RypEvHKD8QQKFhvQ6QleEB4J58tiPdvo+rtK1I9qca6aM/wvqnLSV5zEPeusUiX5L5X/0lWfrf0QADHHhGd3QczcdCUpj911L3vg3W/sYYvuJT"
    "s3TUUkSUXxaccAS0qhxchrRYt66wiSpGLYL42aM6A8dTT+6k4aSknmPj48kzJs8qLjvd4Xgpue06DOdnLxAUHzM6+kDZ+HMZfJYuR+LtwGc2hg"
    "f5gsijff0ekUNXZiqATP7PF5mZxZ3Izoun1s4zG4LUMnvw2r+KqCKIw+3IQH03v+BCA9nMELNqbSf6tiWSrXJB3LAVGUcallcrw8V2t9EL4Ehz"
    "JWrQUax5wLVMNS0+rUPA3k22Ncx4XXZS9o0MBH27Bo6BpNelZpS+/uh9KsNlY6bHCmJU9p8g7m3fVKn28H3KDYA5Pl/T8Z1ptDAVe0lXdQ2Yoy"
    "yH2uyPIGHBZZIs2pDBS8R07+qN+E7Q=="
)
C_ACCOUNT = ("123456", "kWxPEV2UEDyxWpmPdKC3F4dgPDmOvfKX1HGnEUDS1aR", "wx49f0ab532d5d035a")
C = "4ByGGj+sVCYcvGeQYhaKIk1o0pQRNbRjxybjTGblXrBaXlTXeOo1+bXFXDQQb1o6co6Yh9Bv41n7hOchLF6p+Q=="
D_ACCOUNT = ("kjr2TKI8umCBfVF3wAHk8JiPwma5VBme", "4Ma3YBrSBbX2aez8MJpXGBne5LSDwgGqHbhM9WPYIws", "ww6a112864f8022910")
D = "6KmUQuPVu7UhjyVqRdbo5SfcRqaHvbUlKSHFvBV2ZuR6TIlKsygcfeSd1GDplg1C5KSKr6UPHCaC/nIX3ZNt9w=="
E = "jn1L23DB+6ELqJ+6bruv21Y6MD7KeIfP82D6gU39rmkgczbWwt5+3bnyg5K55bgVtVzd832WzZGMhkP72vVOfg=="
F = (
    "sKqRbbiSUnDhFHOvPjtUMenPyrfnV5RAYWBu/b6HKoZtHj1YOb9dr5tNgwnk3XXtqTOEfwGJGoIliPHXVPXXc8MIe60r18JZHswlS2secrV72s"
    "eITwNM/lyM3rcx60KqBuBTzUxe8LkTuTbE3Orf9ZkBBBfjrHMPHVjrGMLzkwortaCIaJYiFBSx745LYODGf9p/BmSGEY/cJuKwTKLilL64CBjH"
    "iyCsqRS4kL+qGm+N6VF1N/DGS21R948c6Vz+3WcwVV1krZRMRvWft0aiThiqyhAlzdT0LNG+wDG+e9UWP2b/p4PmDGQCiQ0VLz2xEs6WhFN3V5"
    "PL1FOgdIZeh2Mvyz0Bw/g6Be/PU0uI1DFA4T0EMrIRMZFbnQRG/a9HB9hGzasIXyf35mVJZd2v1RPVB1ldj1tPUZxJzJhuG14="
)
F_MESSAGE = (
    b"<xml><ToUserName><![CDATA[wx5823bf96d3bd56c7]]></ToUserName><FromUserName><![CDATA[zhangsan]]></FromUserName><"
    b"CreateTime>1700000000</CreateTime><MsgType><![CDATA[event]]></MsgType><Event><![CDATA[unsubscribe]]></Event><A"
    b"gentID>1000002</AgentID></xml>"
)
G = "sKqRbbiSUnDhFHOvPjtUMbWS28WQJEcq+Mzda1Jz7/48f8S/Ty+bA9T4kUGo9xXppbi6Xb5CJDNdGLzlBP6xcQ=="


def callbacks(token: str, aes_key: str, receiver: str) -> Callbacks:
    return Callbacks(Secret(token), Secret(aes_key), receiver)


@pytest.mark.parametrize(
    "account, timestamp, nonce, encrypted, signature, message",
    [
        (OFFICIAL, "1409659589", "263014780", A, "5c45ff5e21c57e6ad56bac8758b79b1d9ac89fd3", b"1616140317555161061"),
        (C_ACCOUNT, "1411443780", "437374425", C, "dd6b9c95b495b3f7e2901bfbc76c664930ffdb96", b"5927782489442352469"),
        (
            D_ACCOUNT,
            "1583940690",
            "VHh7ymSeb0jc4lSb",
            D,
            "1ba3cb09c0d2c2b3ed6900d37f91a6efae6cb011",
            b"94966531020182955848408",
        ),
        (OFFICIAL, "1700000000", "1234567890", F, "5d75eb4a87f14bf2da018ee686e05be99300321a", F_MESSAGE),
        (OFFICIAL, "1700000000", "1234567890", G, "0fa5553d8a39a83c4ed84143481e6640133ea3b8", b"success"),
    ],
    ids=["A official check", "C a loose key", "D a strict key", "F a whole block of padding", "G padding over 16"],
)
def test_known_messages_open(
    account: tuple[str, str, str], timestamp: str, nonce: str, encrypted: str, signature: str, message: bytes
) -> None:
    """A message signed and encrypted elsewhere opens to its exact bytes."""
    assert callbacks(*account).open(signature, timestamp, nonce, encrypted) == message


def test_the_official_post_opens() -> None:
    """B: the documented message body opens to its 284 bytes of XML."""
    opened = callbacks(*OFFICIAL).open("477715d11cdb4164915debcba66cb864d751f3e6", "1409659813", "1372623149", B)

    assert len(opened) == 284
    assert b"<Content><![CDATA[hello]]></Content>" in opened
    assert b"<MsgId>4561255354251345929</MsgId>" in opened


def test_a_chinese_message_decrypts() -> None:
    """E: the length counts bytes of UTF-8, not letters."""
    opened = callbacks("any", "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG", "wxb11529c136998cb6").decrypt(E)

    assert opened.decode() == "我是中文abcd123"


@pytest.mark.parametrize(
    "signature, timestamp, nonce, encrypted",
    [
        ("0" * 40, "1409659589", "263014780", A),
        ("", "1409659589", "263014780", A),
        ("签名", "1409659589", "263014780", A),
        ("5C45FF5E21C57E6AD56BAC8758B79B1D9AC89FD3", "1409659589", "263014780", A),
        ("5c45ff5e21c57e6ad56bac8758b79b1d9ac89fd3", "1409659590", "263014780", A),
        ("5c45ff5e21c57e6ad56bac8758b79b1d9ac89fd3", "1409659589", "263014781", A),
        ("5c45ff5e21c57e6ad56bac8758b79b1d9ac89fd3", "1409659589", "263014780", A.replace("+", " ")),
    ],
    ids=["other", "empty", "not ascii", "capitals", "other time", "other nonce", "decoded twice"],
)
def test_a_wrong_signature_is_refused(signature: str, timestamp: str, nonce: str, encrypted: str) -> None:
    """Nothing is decrypted unless the signature is exactly right."""
    with pytest.raises(CallbackRefused) as refused:
        callbacks(*OFFICIAL).open(signature, timestamp, nonce, encrypted)

    assert refused.value.reason == "callback-signature"


def test_another_receiver_is_refused() -> None:
    """A message for another corp is refused though its signature and key are ours."""
    with pytest.raises(CallbackRefused) as refused:
        callbacks(OFFICIAL[0], OFFICIAL[1], "wx0000000000000000").open(
            "5c45ff5e21c57e6ad56bac8758b79b1d9ac89fd3", "1409659589", "263014780", A
        )

    assert refused.value.reason == "callback-receiver"


def sealed(plain: bytes, pad: bytes) -> str:
    """Encrypt with the official key."""
    key = base64.b64decode(OFFICIAL[1] + "=")
    encryptor = Cipher(algorithms.AES(key), modes.CBC(key[:16])).encryptor()
    return base64.b64encode(encryptor.update(plain + pad) + encryptor.finalize()).decode()


@pytest.mark.parametrize(
    "encrypted",
    [
        "",
        "AAAA",
        "not base64 at all!",
        "中文",
        "\ud800",
        A[:10] + "!" + A[10:],
        A[:-4],
        A[:44],
        sealed(b"", bytes([32] * 32)),
        sealed(b"r" * 15, bytes([17] * 17)),
        sealed(b"r" * 16 + b"\0\0\0\xff" + b"short", bytes([7] * 7)),
        sealed(b"r" * 16 + b"\xff\xff\xff\xff" + b"short", bytes([7] * 7)),
        sealed(b"r" * 16 + b"\0\0\0\0" + OFFICIAL[2].encode() + b"!!", bytes([8] * 7 + [0])),
        sealed(b"r" * 32, bytes([33] * 32)),
    ],
    ids=[
        *(
            "empty",
            "not a block",
            "not base64",
            "not ascii",
            "surrogate",
            "a stray letter",
            "cut",
            "cut between blocks",
            "nothing inside",
        ),
        *("no length", "length too large", "length huge", "padding 0", "padding 33"),
    ],
)
def test_damaged_messages_are_refused(encrypted: str) -> None:
    """What does not decrypt to a well-formed message is refused, without any other error."""
    with pytest.raises(CallbackRefused) as refused:
        callbacks(*OFFICIAL).decrypt(encrypted)

    assert refused.value.reason == "callback-damaged"
    assert refused.value.__cause__ is None
    assert refused.value.__context__ is None


@given(signature=st.text(), timestamp=st.text(), nonce=st.text(), encrypted=st.text())
def test_anything_at_all_is_refused(signature: str, timestamp: str, nonce: str, encrypted: str) -> None:
    """Whatever the internet sends to the callback address ends in the one error."""
    with pytest.raises(CallbackRefused):
        callbacks(*OFFICIAL).open(signature, timestamp, nonce, encrypted)


@given(plain=st.binary(max_size=200))
def test_any_plaintext_is_refused_or_ours(plain: bytes) -> None:
    """Even somebody who holds the key cannot make the parser fail in another way."""
    pad = 32 - len(plain) % 32
    try:
        opened = callbacks(*OFFICIAL).decrypt(sealed(plain, bytes([pad] * pad)))
    except CallbackRefused:
        return
    assert opened in plain


@pytest.mark.parametrize("key", ["", "short", OFFICIAL[1] + "=", OFFICIAL[1][:-1] + "!", "中" * 43, OFFICIAL[1] + "\n"])
def test_a_key_that_cannot_be_one_is_refused(key: str) -> None:
    """A wrong EncodingAESKey is found when it is set, and is not shown."""
    with pytest.raises(ValueError, match="EncodingAESKey") as refused:
        callbacks("token", key, "corp")

    assert not key or key not in str(refused.value)
