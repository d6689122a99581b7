"""The texts of both languages, and what an operator may put in their place."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from gateway import errors
from gateway.pages import Pages
from gateway.pages.texts import BUILT_IN, placeholders, read

ZH, EN = read(BUILT_IN / "zh.toml"), read(BUILT_IN / "en.toml")
REASONS = [
    "sign-in-expired",
    "other-browser",
    "no-cookie",
    "no-code",
    "code-spent",
    "not-a-member",
    "linked-corp",
    "out-of-scope",
    "disabled",
    "not-activated",
    "left",
    "no-account",
    "account-taken",
    "session-too-big",
    "wecom-unreachable",
    "wecom-busy",
    "wecom-setup",
    "wecom-refused",
    "paused",
    "too-many",
    "hand-over",
    "other-site",
    "unknown-site",
    "bad-request",
    "internal",
    "no-session",
    "forged",
    "expired",
    "idle",
    "renew",
    "stale",
    "revoked",
    "signed-out",
    "rule",
    "bad-rule",
]


def shown(pages: Pages, name: str, /, **context: object) -> str:
    body = pages.render(name, language="zh", **context).body
    assert isinstance(body, bytes)
    return body.decode()


def test_both_languages_say_the_same() -> None:
    """Both languages have the same texts with the same placeholders, and none is empty."""
    assert {key: placeholders(text) for key, text in ZH.items()} == {key: placeholders(text) for key, text in EN.items()}
    assert all(text.strip() for text in (*ZH.values(), *EN.values()))


@pytest.mark.parametrize("reason", REASONS)
def test_reasons_are_explained(reason: str) -> None:
    """Every reason has a title, an explanation, what to do and a button, in Chinese and in English."""
    for part in ("title", "why", "do", "button"):
        assert re.search(r"[\u4e00-\u9fff]", ZH[f"reason.{reason}.{part}"])
        assert not re.search(r"[\u4e00-\u9fff]", EN[f"reason.{reason}.{part}"])


def test_titles_tell_reasons_apart() -> None:
    """No two reasons share a title, except being signed out, which the person may have done here."""
    for texts in (ZH, EN):
        titles = [texts[f"reason.{reason}.title"] for reason in REASONS]
        assert len(set(titles)) == len(titles)


def test_errors_people_meet_are_explained() -> None:
    """Every reason that an error class carries has its texts, save those that never reach a page."""
    classes = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.GatewayError)]

    assert {found.reason for found in classes} - {"config", "wecom", "ticket-spent"} <= set(REASONS)


def test_texts_stand_in_templates() -> None:
    """Every text is used by a template, and every text that a template names is there."""
    sources = {path.stem: path.read_text(encoding="utf-8") for path in (BUILT_IN / "templates").glob("*.html")}
    named = {key for source in sources.values() for key in re.findall(r'\bt\("([a-z_.]+?)"[,)]', source)}
    by_page = {f"{page}.title" for page in sources} | {"fragment.link", "restore.link"}
    composed = {
        key
        for key in ZH
        if key.startswith(("reason.", "me.label.")) or re.fullmatch(r"(loop|window)\.[a-z-]+\.(title|why|do|fix|noscript)", key)
    }

    assert named <= ZH.keys()
    assert ZH.keys() - {"lang"} <= named | by_page | composed


def test_own_template_goes_first(tmp_path: Path) -> None:
    """A template in the operator's folder replaces ours of that name, and may extend ours."""
    (tmp_path / "done.html").write_text('{% extends "builtin/done.html" %}{% block title %}好了<{{ page }}{% endblock %}')
    pages = Pages(tmp_path)

    assert "<h1>好了<done</h1>" in shown(pages, "done")
    assert ZH["done.why"] in shown(pages, "done")


def test_own_templates_escape(tmp_path: Path) -> None:
    """Values in an operator's template are escaped like in ours."""
    (tmp_path / "denied.html").write_text("<p>{{ name }}")

    assert shown(Pages(tmp_path), "denied", name="<b>", switch_url="/") == "<p>&lt;b&gt;"


@pytest.mark.parametrize("source", ["{% if %}", "{{ nothing_like_it }}", "{{ 1 / 0 }}", b"\xff\xfe\xff"], ids=str)
def test_broken_own_template_is_ours(tmp_path: Path, caplog: pytest.LogCaptureFixture, source: str | bytes) -> None:
    """Instead of an operator's broken template people see ours, and the log names it."""
    (tmp_path / "done.html").write_bytes(source if isinstance(source, bytes) else source.encode())

    with caplog.at_level(logging.WARNING):
        pages = Pages(tmp_path)
        first, second = (shown(pages, "done") for _ in range(2))

    assert ZH["done.title"] in first
    assert ZH["done.title"] in second
    assert [record.getMessage().count("done.html") for record in caplog.records] == [1]


def test_broken_own_layout_is_ours(tmp_path: Path) -> None:
    """A broken layout of the operator's spoils no page."""
    (tmp_path / "layout.html").write_text("{{ nothing_like_it }}")

    assert ZH["not_found.title"] in shown(Pages(tmp_path), "not_found")


def test_own_template_of_no_page_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A template whose name replaces nothing is reported, since its author expected otherwise."""
    (tmp_path / "logon.html").write_text("x")

    Pages(tmp_path)

    assert "logon.html" in caplog.text


def test_missing_folder_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A folder that is not there is reported, and our pages are shown."""
    pages = Pages(tmp_path / "gone")

    assert "gone" in caplog.text
    assert ZH["done.title"] in shown(pages, "done")


def test_own_texts_replace_single_texts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A text file in the operator's folder replaces single texts; keys and placeholders unknown to us are reported."""
    (tmp_path / "zh.toml").write_text('[done]\ntitle = "完成"\nwhy = "{secret}"\nstay = "{"\nnone = "x"\n', encoding="utf-8")

    page = shown(Pages(tmp_path), "done")

    assert "<h1>完成</h1>" in page
    assert ZH["done.why"] in page
    assert "done.why" in caplog.text
    assert "done.stay" in caplog.text
    assert "done.none" in caplog.text


@pytest.mark.parametrize("source", [b"[", b"\xff"], ids=["no TOML", "no UTF-8"])
def test_broken_own_texts_are_ours(tmp_path: Path, caplog: pytest.LogCaptureFixture, source: bytes) -> None:
    """A text file that cannot be read is reported, and our texts are shown."""
    (tmp_path / "zh.toml").write_bytes(source)

    assert ZH["done.title"] in shown(Pages(tmp_path), "done")
    assert "zh.toml" in caplog.text


@pytest.mark.parametrize(
    "header, language",
    [
        ("", "zh"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-US,en;q=0.9", "en"),
        ("en-US,en;q=0.9,zh;q=0.8", "en"),
        ("en,zh", "zh"),
        ("fr-FR", "zh"),
        ("fr,en;q=0.5", "en"),
        ("en;q=0", "zh"),
        ("zh;q=0, *;q=0.3", "en"),
        ("*", "zh"),
        ("EN;Q=1.000 , zh ; q=0.999", "en"),
        ("en;q=nan,zh;q=0.1", "zh"),
        ("en;q=-1", "zh"),
        ("en;q=9", "zh"),
        (";;;,,,q=1,=,\x00\ud800", "zh"),
        ("x" * 1_000_000 + ",en", "zh"),
        ("en" + ",fr" * 1_000_000, "en"),
    ],
    ids=lambda value: value[:24].encode("ascii", "replace").decode().replace("\x00", "0"),
)
def test_language_is_chosen(header: str, language: str) -> None:
    """English is chosen only where the header prefers it to Chinese; whatever cannot be read counts for nothing."""
    assert Pages(None).language(header) == language
