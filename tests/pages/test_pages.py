"""What every page keeps to, whatever it is given."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

import pytest
from aiohttp import web

from gateway.pages import Pages
from gateway.pages.texts import BUILT_IN, read

HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "\u2028alert(1)//",
    "javascript:alert(1)",
    "{{ 7 * 7 }}{name}",
    "\ud800\x00\r\n",
    "//evil.example/",
    "/\\evil.example",
    "/\t/evil.example",
    "https:evil.example",
    "https://good.example@evil.example/",
    "data:text/html,<script>alert(1)</script>",
    "",
]
HARMLESS = {"/", "/_wecom/logout", "/%09/evil.example"}
TEXTS = {name: read(BUILT_IN / f"{name}.toml") for name in ("zh", "en")}
REASONS = sorted({key.split(".")[1] for key in TEXTS["zh"] if key.startswith("reason.")})
CAUSES = ["cookie-name", "cookie-lost", "keys", "clock", "site", "unknown"]


def contexts(value: str) -> list[tuple[str, dict[str, object]]]:
    """Every page with *value* wherever a caller puts something in."""
    return [
        ("fragment", {"target": value, "state": value}),
        ("restore", {"target": value, "state": value}),
        ("window", {"login_url": value, "kind": value}),
        *(("window", {"login_url": value, "kind": kind}) for kind in ("form", "frame", "foreign")),
        ("done", {}),
        ("wechat", {"url": value}),
        ("signed_out", {"login_url": value}),
        ("logout", {"user_id": value, "name": value, "action": value}),
        ("me", {"member": {"user_id": value, value: value, "name": ""}, "logout": value}),
        (
            "denied",
            {"reason": value, "user_id": value, "name": value, "rule": value, "contact": value, "switch_url": value},
        ),
        ("denied", {"reason": "rule", "user_id": value, "name": "", "rule": value, "contact": "", "switch_url": value}),
        ("neutral", {"status": 403}),
        (
            "failed",
            {"reason": value, "detail": value, "missing": value, "retry_url": value, "reference": value, "contact": value},
        ),
        ("loop", {"cause": value, "expected": value, "found": value, "retry_url": value, "reference": value}),
        ("not_found", {}),
        *(("failed", {"reason": reason, "detail": value, "retry_url": value, "reference": value}) for reason in REASONS),
        *(("denied", {"reason": reason, "switch_url": value}) for reason in REASONS),
        *(("loop", {"cause": cause, "expected": value, "found": value}) for cause in CAUSES),
    ]


EVERY = [(name, context, language) for value in HOSTILE for name, context in contexts(value) for language in ("zh", "en")]
PLAIN = [(name, context, language) for name, context in contexts("https://a.example/x") for language in ("zh", "en")]


@dataclass
class Seen(HTMLParser):
    """Elements and attributes as a browser would find them, and the text outside of scripts and styles."""

    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    text: str = ""
    code: dict[str, str] = field(default_factory=lambda: {"script": "", "style": ""})

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.code:
            self.code[self.open[-1]] += data
        else:
            self.text += data

    def attributes(self, *names: str) -> Iterator[str]:
        for _, attributes in self.elements:
            yield from (value or "" for name, value in attributes.items() if name in names)


def html(answer: web.Response) -> str:
    assert isinstance(answer.body, bytes)
    return answer.body.decode("utf-8")


def seen(answer: web.Response) -> Seen:
    page = Seen()
    page.feed(html(answer))
    return page


def main_ways_on(page: Seen) -> int:
    return sum(attributes.get("class") == "button" and "hidden" not in attributes for _, attributes in page.elements)


@pytest.fixture(scope="module")
def pages() -> Pages:
    return Pages(None)


def test_hostile_values_stay_text(pages: Pages) -> None:
    """Nothing that a caller hands in becomes an element, a script, an event handler or a foreign address."""
    for name, context, language in EVERY:
        page = seen(pages.render(name, language=language, **context))
        scripts = [attributes for tag, attributes in page.elements if tag == "script"]

        assert len(scripts) <= 1, (name, context)
        assert all(attributes.get("nonce") for attributes in scripts)
        assert "img" not in {tag for tag, _ in page.elements}, (name, context)
        assert not [key for _, attributes in page.elements for key in attributes if key.startswith("on")]
        assert "alert" not in page.code["script"] + page.code["style"], (name, context)
        assert set(page.attributes("href", "action", "src", "formaction")) <= HARMLESS, (name, context)
        assert "49" not in page.text, (name, context)


@pytest.mark.parametrize(
    "address",
    ["https://a.example/x?y=1&z=<b>#top", "http://a.example:8080", "/_wecom/login?return_to=/a", "/路径?名=张"],
    ids=["https", "http with port", "path", "Chinese path"],
)
def test_good_addresses_are_kept(pages: Pages, address: str) -> None:
    """An http(s) address or a path of this host stands in the page as it was given, percent-encoded where needed."""
    from urllib.parse import unquote

    page = seen(pages.render("signed_out", language="zh", login_url=address))

    assert [unquote(found) for found in page.attributes("href")] == [address]


@pytest.mark.parametrize("page, context, language", PLAIN, ids=[f"{name}-{n}" for n, (name, _, _) in enumerate(PLAIN)])
def test_pages_are_complete(pages: Pages, page: str, context: dict[str, object], language: str) -> None:
    """Every page has its language, one title, one heading or line, a bounded size and nothing from elsewhere."""
    answer = pages.render(page, language=language, **context)
    found, text = seen(answer), html(answer)

    assert found.elements[0] == ("html", {"lang": {"zh": "zh-CN", "en": "en"}[language]})
    assert text.count("<title>") == 1
    assert len(answer.body or b"") < (1500 if page in ("fragment", "restore") else 8000)  # type: ignore[arg-type]
    assert not {"link", "img", "iframe", "object", "base"} & {tag for tag, _ in found.elements}
    assert not list(found.attributes("src", "srcset", "background", "style"))
    assert not re.search(r"url\(|@import|https?://", found.code["style"] + found.code["script"])
    assert page in ("fragment", "restore") or [tag for tag, _ in found.elements].count("h1") == 1
    assert main_ways_on(found) <= 1


@pytest.mark.parametrize("reason", [*REASONS, "never-heard-of"])
@pytest.mark.parametrize("language", ["zh", "en"])
def test_failed_pages_have_one_way_on(pages: Pages, reason: str, language: str) -> None:
    """A failed sign-in says what happened under its own title, shows its reason and reference, and has one button."""
    page = seen(pages.render("failed", language=language, reason=reason, retry_url="/again", reference="R7Q2"))
    known = reason if reason in REASONS else "internal"

    assert main_ways_on(page) == 1
    assert [attributes["href"] for tag, attributes in page.elements if tag == "a"] == ["/again"]
    assert TEXTS[language][f"reason.{known}.title"] in page.text
    assert reason in page.text
    assert "R7Q2" in page.text


def test_every_answer_is_locked_down(pages: Pages) -> None:
    """Every page is uncached, unindexed and unsniffed, tells no other site a referrer, and runs only what carries its nonce."""
    for name, context, language in PLAIN:
        answer = pages.render(name, language=language, headers={"Retry-After": "60", "cache-control": "public"}, **context)
        policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
        posts = name == "logout" or context.get("kind") == "form"
        nonces = set(seen(answer).attributes("nonce"))

        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert answer.headers.getall("Cache-Control") == ["no-store"]
        assert answer.headers["X-Robots-Tag"] == "noindex"
        assert answer.headers["Referrer-Policy"] == ("same-origin" if posts else "no-referrer")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Retry-After"] == "60"
        assert policy["script-src"] == policy["style-src"] == f"'nonce-{nonces.pop()}'"
        assert not nonces
        assert (policy["default-src"], policy["base-uri"], policy["form-action"]) == ("'none'", "'none'", "'self'")
        assert policy["frame-ancestors"] == "'none'"
        assert policy.get("connect-src") == ("'self'" if name == "window" else None)


def test_nonces_are_used_once(pages: Pages) -> None:
    """Two answers never share a nonce."""
    nonces = {next(seen(pages.render("done", language="zh")).attributes("nonce")) for _ in range(50)}

    assert len(nonces) == 50


@pytest.mark.parametrize(
    "asked, given",
    [
        ("'self' https://b.example:8443", "'self' https://b.example:8443"),
        ("'none'; script-src *", "'none'"),
        ("'self'\r\nX: y", "'none'"),
        ("", "'none'"),
    ],
    ids=["hosts", "a second directive", "a second header", "empty"],
)
def test_frame_ancestors(pages: Pages, asked: str, given: str) -> None:
    """Only a list of sources may frame a page; anything else is nobody."""
    answer = pages.render("window", language="zh", login_url="/", frame_ancestors=asked)

    assert answer.headers["Content-Security-Policy"].endswith(f"frame-ancestors {given}")


def test_status_is_the_answers(pages: Pages) -> None:
    """A page is answered with the status asked for, and the neutral page names it."""
    answer = pages.render("neutral", language="en", status=401)

    assert answer.status == 401
    assert "401" in seen(answer).text


def test_missing_values_are_errors(pages: Pages) -> None:
    """A page without a value it needs is an error, not a page with a hole."""
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError):
        pages.render("signed_out", language="zh")


def test_unknown_languages_are_chinese(pages: Pages) -> None:
    """A language that we do not have is answered in Chinese."""
    assert seen(pages.render("done", language="fr")).elements[0] == ("html", {"lang": "zh-CN"})


def test_denied_says_who_why_and_whom(pages: Pages) -> None:
    """A refusal shows who is signed in, the rule and whom to ask."""
    page = seen(
        pages.render(
            "denied",
            language="zh",
            status=403,
            reason="rule",
            user_id="zhangsan",
            name="张三",
            rule="department:12",
            contact="王五 8001",
            switch_url="/_wecom/login",
        )
    )

    for expected in ("张三", "zhangsan", "department:12", "王五 8001", TEXTS["zh"]["reason.rule.title"]):
        assert expected in page.text


def test_loops_compare_what_differs(pages: Pages) -> None:
    """What should be and what is are shown where they differ, and not where the cause lies elsewhere."""
    differ = seen(pages.render("loop", language="zh", cause="cookie-name", expected="wecom_a", found="wecom_b"))
    same = seen(pages.render("loop", language="zh", cause="keys", expected="wecom_a", found="wecom_a"))

    assert "wecom_a" in differ.text
    assert "wecom_b" in differ.text
    assert "wecom_a" not in same.text


def test_signing_out_everywhere_is_a_choice(pages: Pages) -> None:
    """The sign-out page posts, and only its second button carries everywhere=1."""
    page = seen(pages.render("logout", language="zh", user_id="zhangsan", name="张三"))
    buttons = [attributes for tag, attributes in page.elements if tag == "button"]

    assert ("form", {"class": "actions", "method": "post", "action": "/_wecom/logout"}) in page.elements
    assert [(button.get("name"), button.get("value")) for button in buttons] == [(None, None), ("everywhere", "1")]
