"""WeCom's envelope, against vectors from its documents and from independent libraries.

A, B: WeCom's own worked example. C: wechatpy. D: go-workwx. E: WxJava. F, G: computed apart from this code, with a full
block of padding and with a padding over 16. The keys of A, C and E are not canonical base64.
"""

from __future__ import annotations

import pytest

from gateway.sandbox.crypto import Envelope, EnvelopeError, decode_key

A = Envelope("QDG6eK", "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C", "wx5823bf96d3bd56c7")
C = Envelope("123456", "kWxPEV2UEDyxWpmPdKC3F4dgPDmOvfKX1HGnEUDS1aR", "wx49f0ab532d5d035a")
D = Envelope("kjr2TKI8umCBfVF3wAHk8JiPwma5VBme", "4Ma3YBrSBbX2aez8MJpXGBne5LSDwgGqHbhM9WPYIws", "ww6a112864f8022910")
E = Envelope("", "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG", "wxb11529c136998cb6")

A_TEXT = "P9nAzCzyDtyTWESHep1vC5X9xho/qYX3Zpb4yKa9SKld1DsH3Iyt3tP3zNdtp+4RPcs8TgAE7OaBO+FZXvnaqQ=="
B_TEXT = (
    "RypEvHKD8QQKFhvQ6QleEB4J58tiPdvo+rtK1I9qca6aM/wvqnLSV5zEPeusUiX5L5X/0lWfrf0QADHHhGd3QczcdCUpj911L3vg"
    "3W/sYYvuJTs3TUUkSUXxaccAS0qhxchrRYt66wiSpGLYL42aM6A8dTT+6k4aSknmPj48kzJs8qLjvd4Xgpue06DOdnLxAUHzM6+k"
    "DZ+HMZfJYuR+LtwGc2hgf5gsijff0ekUNXZiqATP7PF5mZxZ3Izoun1s4zG4LUMnvw2r+KqCKIw+3IQH03v+BCA9nMELNqbSf6ti"
    "WSrXJB3LAVGUcallcrw8V2t9EL4EhzJWrQUax5wLVMNS0+rUPA3k22Ncx4XXZS9o0MBH27Bo6BpNelZpS+/uh9KsNlY6bHCmJU9p"
    "8g7m3fVKn28H3KDYA5Pl/T8Z1ptDAVe0lXdQ2YoyyH2uyPIGHBZZIs2pDBS8R07+qN+E7Q=="
)
C_TEXT = "4ByGGj+sVCYcvGeQYhaKIk1o0pQRNbRjxybjTGblXrBaXlTXeOo1+bXFXDQQb1o6co6Yh9Bv41n7hOchLF6p+Q=="
D_TEXT = "6KmUQuPVu7UhjyVqRdbo5SfcRqaHvbUlKSHFvBV2ZuR6TIlKsygcfeSd1GDplg1C5KSKr6UPHCaC/nIX3ZNt9w=="
E_TEXT = "jn1L23DB+6ELqJ+6bruv21Y6MD7KeIfP82D6gU39rmkgczbWwt5+3bnyg5K55bgVtVzd832WzZGMhkP72vVOfg=="
F_TEXT = (
    "sKqRbbiSUnDhFHOvPjtUMenPyrfnV5RAYWBu/b6HKoZtHj1YOb9dr5tNgwnk3XXtqTOEfwGJGoIliPHXVPXXc8MIe60r18JZHswl"
    "S2secrV72seITwNM/lyM3rcx60KqBuBTzUxe8LkTuTbE3Orf9ZkBBBfjrHMPHVjrGMLzkwortaCIaJYiFBSx745LYODGf9p/BmSG"
    "EY/cJuKwTKLilL64CBjHiyCsqRS4kL+qGm+N6VF1N/DGS21R948c6Vz+3WcwVV1krZRMRvWft0aiThiqyhAlzdT0LNG+wDG+e9UW"
    "P2b/p4PmDGQCiQ0VLz2xEs6WhFN3V5PL1FOgdIZeh2Mvyz0Bw/g6Be/PU0uI1DFA4T0EMrIRMZFbnQRG/a9HB9hGzasIXyf35mVJ"
    "Zd2v1RPVB1ldj1tPUZxJzJhuG14="
)
G_TEXT = "sKqRbbiSUnDhFHOvPjtUMbWS28WQJEcq+Mzda1Jz7/48f8S/Ty+bA9T4kUGo9xXppbi6Xb5CJDNdGLzlBP6xcQ=="

F_MESSAGE = (
    "<xml><ToUserName><![CDATA[wx5823bf96d3bd56c7]]></ToUserName><FromUserName><![CDATA[zhangsan]]></From"
    "UserName><CreateTime>1700000000</CreateTime><MsgType><![CDATA[event]]></MsgType><Event><![CDATA[unsu"
    "bscribe]]></Event><AgentID>1000002</AgentID></xml>"
)

SIGNED = {
    "A": (A, "1409659589", "263014780", A_TEXT, "5c45ff5e21c57e6ad56bac8758b79b1d9ac89fd3"),
    "B": (A, "1409659813", "1372623149", B_TEXT, "477715d11cdb4164915debcba66cb864d751f3e6"),
    "C": (C, "1411443780", "437374425", C_TEXT, "dd6b9c95b495b3f7e2901bfbc76c664930ffdb96"),
    "D": (D, "1583940690", "VHh7ymSeb0jc4lSb", D_TEXT, "1ba3cb09c0d2c2b3ed6900d37f91a6efae6cb011"),
    "F": (A, "1700000000", "1234567890", F_TEXT, "5d75eb4a87f14bf2da018ee686e05be99300321a"),
    "G": (A, "1700000000", "1234567890", G_TEXT, "0fa5553d8a39a83c4ed84143481e6640133ea3b8"),
}
MESSAGES = {
    "A": (A, A_TEXT, "1616140317555161061"),
    "C": (C, C_TEXT, "5927782489442352469"),
    "D": (D, D_TEXT, "94966531020182955848408"),
    "E": (E, E_TEXT, "我是中文abcd123"),
    "F": (A, F_TEXT, F_MESSAGE),
    "G": (A, G_TEXT, "success"),
}


@pytest.mark.parametrize("vector", SIGNED.values(), ids=SIGNED)
def test_signature(vector):
    """The signature of every vector is the one published."""
    envelope, timestamp, nonce, text, signature = vector

    assert envelope.sign(timestamp, nonce, text) == signature


@pytest.mark.parametrize("vector", MESSAGES.values(), ids=MESSAGES)
def test_decrypt(vector):
    """Every vector decrypts to its message."""
    envelope, text, message = vector

    assert envelope.decrypt(text) == message


def test_decrypt_official_message():
    """The official XML sample decrypts to its 284 bytes."""
    message = A.decrypt(B_TEXT)

    assert len(message.encode()) == 284
    assert "<Content><![CDATA[hello]]></Content>" in message
    assert "<MsgId>4561255354251345929</MsgId>" in message


@pytest.mark.parametrize(
    ("envelope", "prefix", "message", "text"),
    [
        (A, b"c41b64491c2468d0", "1616140317555161061", A_TEXT),
        (E, b"aaaabbbbccccdddd", "我是中文abcd123", E_TEXT),
        (A, b"0123456789abcdef", F_MESSAGE, F_TEXT),
        (A, b"0123456789abcdef", "success", G_TEXT),
    ],
    ids=["A", "E", "F", "G"],
)
def test_encrypt(envelope, prefix, message, text):
    """With the published random bytes encrypting gives the published text."""
    assert envelope.encrypt(message, prefix=prefix) == text


@pytest.mark.parametrize("size", [*range(33), 251, 4096])
def test_round_trip(size):
    """Messages of every length modulo the block come back."""
    assert A.decrypt(A.encrypt("x" * size)) == "x" * size


@pytest.mark.parametrize(
    "text",
    [
        A_TEXT[:-4],
        "",
        "AAAA",
        "not base64!",
        C_TEXT,
        Envelope("", A.aes_key, "another").encrypt("message"),
    ],
    ids=["cut", "empty", "short", "alphabet", "other-key", "other-receiver"],
)
def test_foreign_text_is_refused(text):
    """A text that is cut, of another key or for another receiver raises EnvelopeError."""
    with pytest.raises(EnvelopeError):
        A.decrypt(text)


@pytest.mark.parametrize("key", ["", "short", "x" * 44, "!" * 43], ids=["empty", "short", "long", "alphabet"])
def test_bad_key_is_refused(key):
    """A key that is not 43 characters of base64 raises EnvelopeError."""
    with pytest.raises(EnvelopeError):
        decode_key(key)
