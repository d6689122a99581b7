"""What we sign and encrypt opens with any of our keys, for its own purpose, unchanged; all else is forged."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import tracemalloc
import zlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import example, given
from hypothesis import strategies as st
from itsdangerous import Signer

from gateway.sealing import Forged, Sealer
from gateway.secret import Secret

OLD, NEW, OTHER = (Secret(letter * 43) for letter in "onx")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


def derived(purpose: str) -> bytes:
    """What the newest key becomes for *purpose*; another derivation would sign everybody out at an upgrade."""
    return hmac.digest(NEW.reveal().encode(), f"wecom-gateway.{purpose}".encode(), "sha256")


def signed(payload: str) -> str:
    """A genuine signature under *payload*, whatever that is."""
    return Signer([derived("sign.session")], key_derivation="none", digest_method=hashlib.sha256).sign(payload).decode()


def test_a_key_is_needed() -> None:
    """Without a key nothing is built: an empty list would accept or refuse everything."""
    with pytest.raises(ValueError, match="at least one signing key"):
        Sealer([])


@given(JSON)
def test_what_was_signed_opens(claims: Any) -> None:
    """Any JSON that was signed comes back as it was, in an alphabet that nginx lets through."""
    value = Sealer([NEW]).sign("session", claims)

    assert re.fullmatch(r"[A-Za-z0-9_.-]+", value)
    assert Sealer([NEW]).verify("session", value) == claims


@given(JSON)
def test_what_was_encrypted_opens(claims: Any) -> None:
    """Any JSON that was encrypted comes back as it was, in letters, digits, - and _."""
    text = Sealer([NEW]).encrypt("private", claims)

    assert re.fullmatch(r"[A-Za-z0-9_-]+", text)
    assert Sealer([NEW]).decrypt("private", text) == claims


@given(JSON, JSON)
def test_what_was_sealed_opens(claims: Any, private: Any) -> None:
    """Claims and private part come back as they were, side by side in three parts of one alphabet."""
    value = Sealer([NEW]).seal("session", claims, private)

    assert re.fullmatch(r"\.?[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]{43}", value)
    assert Sealer([NEW]).open("session", value) == (claims, private)


def test_the_signature_is_sha256() -> None:
    """The signature takes 43 characters: 32 bytes of HMAC-SHA-256, not the library's SHA-1."""
    assert len(Sealer([NEW]).sign("session", 1).rpartition(".")[2]) == 43


def test_encryption_hides_and_never_repeats() -> None:
    """The same text encrypted twice gives two texts, and neither shows it."""
    sealer = Sealer([NEW])
    texts = {sealer.encrypt("private", "13800138000") for _ in range(50)}

    assert len(texts) == 50
    assert all(b"138001" not in base64.urlsafe_b64decode(text + "==") for text in texts)


class TestKeys:
    """Keys are a list, newest first."""

    def test_a_retired_key_still_opens(self) -> None:
        """What the old key sealed opens after a new one was put before it."""
        before, after = Sealer([OLD]), Sealer([NEW, OLD])

        assert after.verify("session", before.sign("session", 1)) == 1
        assert after.decrypt("private", before.encrypt("private", 1)) == 1

    def test_the_newest_key_seals(self) -> None:
        """With two keys, what is sealed opens by the first alone and not by the second alone."""
        both = Sealer([NEW, OLD])
        value, text = both.sign("session", 1), both.encrypt("private", 1)

        assert Sealer([NEW]).verify("session", value) == 1
        assert Sealer([NEW]).decrypt("private", text) == 1
        with pytest.raises(Forged):
            Sealer([OLD]).verify("session", value)
        with pytest.raises(Forged):
            Sealer([OLD]).decrypt("private", text)

    def test_a_removed_key_opens_nothing(self) -> None:
        """What a key sealed is forged as soon as the key is out of the list."""
        old = Sealer([OLD])

        with pytest.raises(Forged):
            Sealer([NEW]).verify("session", old.sign("session", 1))
        with pytest.raises(Forged):
            Sealer([NEW]).decrypt("private", old.encrypt("private", 1))

    def test_no_key_is_shown(self) -> None:
        """A sealer prints none of its keys."""
        assert "nnn" not in repr(Sealer([NEW])) + str(Sealer([NEW]))


class TestPurposes:
    """A value sealed for one purpose never opens for another."""

    def test_signatures_hold_for_their_purpose(self) -> None:
        """A signed hand-over request is no session."""
        sealer = Sealer([NEW])

        with pytest.raises(Forged):
            sealer.verify("session", sealer.sign("begin", 1))

    def test_encryption_holds_for_its_purpose(self) -> None:
        """The private part of a session is no hand-over."""
        sealer = Sealer([NEW])

        with pytest.raises(Forged):
            sealer.decrypt("hand-over", sealer.encrypt("private", 1))

    def test_digests_differ_by_purpose_key_and_text(self) -> None:
        """A digest says nothing about the same text under another purpose or key."""
        digest = Sealer([NEW]).digest("code", "abc")

        assert re.fullmatch(r"[0-9a-f]{32}", digest)
        assert digest == Sealer([NEW, OLD]).digest("code", "abc")
        assert digest not in {
            Sealer([NEW]).digest("browser", "abc"),
            Sealer([NEW]).digest("code", "abd"),
            Sealer([OLD]).digest("code", "abc"),
        }

    def test_a_digest_takes_undecodable_bytes(self) -> None:
        """A User-Agent with bytes that are no UTF-8 has a digest too."""
        assert len(Sealer([NEW]).digest("browser", "\udcff")) == 32


class TestForgeries:
    """Whatever carries no signature of ours is :class:`Forged`, and nothing else is raised."""

    @given(st.text(st.characters(), max_size=200) | st.from_regex(r"[A-Za-z0-9_-]{0,99}\.[A-Za-z0-9_-]{0,60}", fullmatch=True))
    @example("")
    @example(".")
    @example("..")
    @example("a.")
    @example("." * 4000)
    @example("\udcff.\ud800")
    @example("é.ü")
    @example("\x00.\r\n")
    def test_garbage_is_forged(self, text: str) -> None:
        """Any text whatever is forged."""
        with pytest.raises(Forged):
            Sealer([NEW, OLD]).verify("session", text)
        with pytest.raises(Forged):
            Sealer([NEW, OLD]).open("session", text)
        with pytest.raises(Forged):
            Sealer([NEW, OLD]).decrypt("private", text)

    @given(st.data())
    def test_no_changed_character_goes_unseen(self, data: st.DataObject) -> None:
        """A signed value with any one character changed, other than in the last one's unused bits, is forged."""
        value = Sealer([NEW]).sign("session", {"u": "zhangsan"})
        at = data.draw(st.integers(0, len(value) - 2))
        letter = data.draw(st.sampled_from("ABCDEFabcdef0123456789_-."))
        changed = value[:at] + letter + value[at + 1 :]

        if changed != value:
            with pytest.raises(Forged):
                Sealer([NEW]).verify("session", changed)

    @given(st.data())
    def test_no_cut_value_opens(self, data: st.DataObject) -> None:
        """A value cut short anywhere is forged, signed or encrypted."""
        sealer = Sealer([NEW])
        value, text = sealer.sign("session", {"u": "zhangsan"}), sealer.encrypt("private", {"m": "138"})
        cut = data.draw(st.integers(0, len(text) - 2))

        with pytest.raises(Forged):
            sealer.verify("session", value[: min(cut, len(value) - 2)])
        with pytest.raises(Forged):
            sealer.decrypt("private", text[:cut])

    @pytest.mark.parametrize("more", ["é", "\udcff", "\u0661"])
    def test_what_is_not_ascii_is_forged(self, more: str) -> None:
        """Also where it stands before or behind a genuine value: base64 would not look at it."""
        value = Sealer([NEW]).sign("session", {"u": "zhangsan"})

        for text in (value + more, more + value):
            with pytest.raises(Forged):
                Sealer([NEW]).verify("session", text)

    def test_another_gateways_key_is_forged(self) -> None:
        """A value of another installation's key is forged."""
        with pytest.raises(Forged):
            Sealer([NEW, OLD]).verify("session", Sealer([OTHER]).sign("session", 1))

    def test_a_bomb_without_signature_is_not_unpacked(self) -> None:
        """Ten megabytes packed into a few kB stay packed where the signature is not ours."""
        bomb = "." + base64.urlsafe_b64encode(zlib.compress(b"0" * 10_000_000)).decode().rstrip("=")
        sealer = Sealer([NEW])

        tracemalloc.start()
        try:
            with pytest.raises(Forged):
                sealer.verify("session", f"{bomb}.{'A' * 43}")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 1_000_000

    @pytest.mark.parametrize(
        "payload",
        [
            "",
            "!",
            ".",
            ".AAAA",
            base64.urlsafe_b64encode(b"1 2").decode(),
            base64.urlsafe_b64encode(b"{").decode(),
            "eyJhIjo" * 50,
            base64.b64encode(b"\xff\xfe").decode(),
        ],
        ids=["empty", "no-base64", "no-zip", "bad-zip", "two", "half-json", "repeated", "no-utf8"],
    )
    def test_a_signature_under_nonsense_is_forged(self, payload: str) -> None:
        """A genuine signature under something that is no JSON does not open, and raises nothing else."""
        with pytest.raises(Forged):
            Sealer([NEW]).verify("session", signed(payload))
        with pytest.raises(Forged):
            Sealer([NEW]).open("session", signed(f"{payload}."))
        with pytest.raises(Forged):
            Sealer([NEW]).open("session", signed(f"MQ.{payload.strip('.') or '!'}"))

    def test_deep_json_is_forged(self) -> None:
        """JSON nested deeper than Python reads is forged, not a RecursionError."""
        deep = base64.urlsafe_b64encode(b"[" * 100_000).decode().rstrip("=")

        with pytest.raises(Forged):
            Sealer([NEW]).verify("session", signed(deep))

    def test_encrypted_nonsense_is_forged(self) -> None:
        """Something genuine that decrypts to no JSON is forged."""
        nonce = b"0" * 12
        sealed = AESGCM(derived("seal.private")).encrypt(nonce, b"{", b"private")

        with pytest.raises(Forged):
            Sealer([NEW]).decrypt("private", base64.urlsafe_b64encode(nonce + sealed).rstrip(b"=").decode())


def test_what_repeats_is_packed() -> None:
    """Long claims that repeat themselves take less room than their text, and open."""
    claims = {"d": list(range(1, 800))}
    value = Sealer([NEW]).sign("session", claims)

    assert len(value) < len(json.dumps(claims))
    assert Sealer([NEW]).verify("session", value) == claims


def test_chinese_stays_short() -> None:
    """A Chinese name takes three bytes a character in a cookie, not six of an escape."""
    value = Sealer([NEW]).sign("session", "张")
    payload = value.rpartition(".")[0]

    assert json.loads(base64.urlsafe_b64decode(payload + "==")) == "张"
    assert b"\\u" not in base64.urlsafe_b64decode(payload + "==")
