"""Every URL we build goes where it should, and no return address leads anywhere else."""

from __future__ import annotations

import re
import time
import warnings
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gateway.urls import (
    MAX_RETURN_TO,
    Origin,
    Site,
    ascii_path,
    bare_host,
    client_of,
    in_app_url,
    old_web_login_url,
    return_path,
    web_login_url,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the SDK predates this Python
    from wechatpy.enterprise import WeChatClient

ERP = Origin("https", "erp.example.com", 443)
SITES = (
    Site("erp", ERP, frozenset({"erp.example.com", "erp2.example.com"})),
    Site("wiki", Origin("https", "wiki.example.org", 8443), frozenset({"wiki.example.org"})),
    Site("old", Origin("http", "old", 8080), frozenset({"old"})),
)


def _processor_s(path: str) -> float:
    """Seconds of the processor that reading *path* as a return address takes."""
    began = time.process_time()
    return_path(path, origin=ERP)
    return time.process_time() - began


class TestOrigin:
    """A public URL is scheme, host and port, spelled one way."""

    @pytest.mark.parametrize(
        "text, shown, suffix",
        [
            ("https://erp.example.com", "https://erp.example.com", ""),
            ("https://erp.example.com/", "https://erp.example.com", ""),
            ("https://erp.example.com:443", "https://erp.example.com", ""),
            ("https://erp.example.com:", "https://erp.example.com", ""),
            ("HTTPS://ERP.Example.COM:8443", "https://erp.example.com:8443", "_8443"),
            ("http://erp.example.com:80", "http://erp.example.com", ""),
            ("http://erp.example.com:443", "http://erp.example.com:443", "_443"),
            ("http://localhost:8080", "http://localhost:8080", "_8080"),
            ("http://10.0.0.7", "http://10.0.0.7", ""),
            ("http://[::1]:8080", "http://[::1]:8080", "_8080"),
            ("http://[::1]", "http://[::1]", ""),
        ],
    )
    def test_it_is_spelled_one_way(self, text: str, shown: str, suffix: str) -> None:
        """Letter case and default ports go: WeCom's trusted domain must match to the letter."""
        origin = Origin.parse(text)

        assert str(origin) == shown
        assert origin.netloc == shown.partition("://")[2]
        assert origin.port_suffix == suffix
        assert origin.secure is shown.startswith("https")
        assert Origin.parse(str(origin)) == origin

    @pytest.mark.parametrize(
        "text, problem",
        [
            ("", "must begin with"),
            ("erp.example.com", "must begin with"),
            ("ftp://erp.example.com", "must begin with"),
            ("javascript:alert(1)", "must begin with"),
            ("//erp.example.com", "must begin with"),
            ("https:erp.example.com", "scheme, host and port only"),
            ("https://", "is no host name"),
            ("https:///erp", "scheme, host and port only"),
            ("https://erp.example.com/path", "scheme, host and port only"),
            ("https://erp.example.com?x=1", "scheme, host and port only"),
            ("https://erp.example.com#x", "scheme, host and port only"),
            ("https://user@erp.example.com", "scheme, host and port only"),
            ("https://@erp.example.com", "scheme, host and port only"),
            ("https://user:pw@erp.example.com", "scheme, host and port only"),
            ("https://erp_1.example.com", "underscore"),
            ("https://-erp.example.com", "is no host name"),
            ("https://erp.example.com\\", "is no host name"),
            ("https://erp example.com", "is no host name"),
            ("https://报表.example.com", "is no host name"),
            ("https://erp%2eexample.com", "is no host name"),
            ("https://erp.example.com:0", "port 0"),
            ("https://erp.example.com:99999", "not a URL"),
            ("https://erp.example.com:x", "not a URL"),
            ("https://erp.example.com:80:80", "not a URL"),
            ("https://[::1", "not a URL"),
            ("https://a\u2100b", "not a URL"),
        ],
    )
    def test_anything_else_is_refused(self, text: str, problem: str) -> None:
        """What is no plain origin is refused, and says why."""
        with pytest.raises(ValueError, match=re.escape(problem)):
            Origin.parse(text)

    @given(st.text(st.characters(exclude_categories=[]), max_size=60))
    @example("@evil.example")
    @example(".evil.example")
    @example(":80@evil.example/")
    @example("//evil.example")
    @example("/\\evil.example")
    @example("")
    def test_no_path_changes_the_host(self, path: str) -> None:
        """An absolute URL keeps its host and is plain ASCII, whatever the path holds."""
        assume(not re.search("[\ud800-\udc7f\udd00-\udfff]", path))  # no decoder gives these
        url = ERP.url(path)

        assert url.startswith("https://erp.example.com/")
        assert urlsplit(url).netloc == "erp.example.com"
        assert re.fullmatch(r"[\x21-\x7e]+", url)


class TestSite:
    """A site's cookies cannot be mistaken for another's."""

    @pytest.mark.parametrize(
        "public_url, cookie_domain, session, rounds",
        [
            ("https://a.example.com", "", "__Host-wecom_session", "__Host-wecom_rounds"),
            ("https://a.example.com:8443", "", "__Host-wecom_session_8443", "__Host-wecom_rounds_8443"),
            ("https://a.example.com", "example.com", "__Secure-wecom_session", "__Host-wecom_rounds"),
            ("http://localhost:8080", "", "wecom_session_8080", "wecom_rounds_8080"),
            ("http://a.example.com", "example.com", "wecom_session", "wecom_rounds"),
        ],
        ids=["https", "port", "domain", "http-port", "http-domain"],
    )
    def test_cookie_names(self, public_url: str, cookie_domain: str, session: str, rounds: str) -> None:
        """``__Host-`` on https, ``__Secure-`` with a cookie domain, the port where it is not the default."""
        site = Site("a", Origin.parse(public_url), cookie_domain=cookie_domain)

        assert site.cookie_name == session
        assert site.cookie("rounds") == site.cookie("rounds") == rounds

    def test_every_host_has_the_same_scheme_and_port(self) -> None:
        """The origin at a further host differs by the host only."""
        assert str(SITES[1].at("other.example.org")) == "https://other.example.org:8443"


@pytest.mark.parametrize(
    "header, host",
    [
        ("erp.example.com", "erp.example.com"),
        ("ERP.Example.com:8443", "erp.example.com"),
        ("erp.example.com:", "erp.example.com"),
        ("[::1]:8080", "[::1]"),
        ("[::1]", "[::1]"),
        ("", ""),
        ("a:b", "a:b"),
    ],
)
def test_bare_host(header: str, host: str) -> None:
    """The host of a ``Host`` header, in lower case and without its port."""
    assert bare_host(header) == host


@pytest.mark.parametrize(
    "path, ascii",
    [
        ("/a?b=c&d=%E5%BC%A0", "/a?b=c&d=%E5%BC%A0"),
        ("/报表?q=张", "/%E6%8A%A5%E8%A1%A8?q=%E5%BC%A0"),
        ("/\udcff", "/%FF"),
        ("/a b\r\nSet-Cookie: x", "/a%20b%0D%0ASet-Cookie:%20x"),
        ("/100%", "/100%"),
        ("/\"<>'`{|}\\^", "/\"<>'`{|}\\^"),
    ],
    ids=["plain", "utf8", "undecodable", "control", "percent", "punctuation"],
)
def test_a_request_uri_becomes_ascii_once(path: str, ascii: str) -> None:
    """Raw UTF-8, undecodable bytes and control characters are percent-encoded; what is encoded already stays as it is."""
    assert ascii_path(path) == ascii


class TestReturnPath:
    """A return address from outside leads to a host of ours or nowhere."""

    @pytest.mark.parametrize(
        "text, url",
        [
            ("/", "https://erp.example.com/"),
            ("/report?month=1&x=%2F%2Fevil", "https://erp.example.com/report?month=1&x=%2F%2Fevil"),
            ("/报表", "https://erp.example.com/%E6%8A%A5%E8%A1%A8"),
            ("/a#b", "https://erp.example.com/a"),
            ("/@evil.example", "https://erp.example.com/@evil.example"),
            ("/%2F%2Fevil.example", "https://erp.example.com/%2F%2Fevil.example"),
            ("/%5Cevil.example", "https://erp.example.com/%5Cevil.example"),
            ("/.//evil.example", "https://erp.example.com/.//evil.example"),
            ("/?https://evil.example", "https://erp.example.com/?https://evil.example"),
            ("https://erp.example.com", "https://erp.example.com/"),
            ("https://erp.example.com:443/a?b#c", "https://erp.example.com/a?b"),
            ("HTTPS://ERP.EXAMPLE.COM/A", "https://erp.example.com/A"),
            ("https://erp.example.com//evil.example", "https://erp.example.com//evil.example"),
            ("https://erp.example.com?@evil.example", "https://erp.example.com/?@evil.example"),
            ("https://erp.example.com#@evil.example", "https://erp.example.com/"),
            ("https://erp2.example.com/a", "https://erp2.example.com/a"),
            ("https://wiki.example.org:8443/a", "https://wiki.example.org:8443/a"),
            ("http://old:8080/a", "http://old:8080/a"),
            ("/" + "a" * (MAX_RETURN_TO - 1), "https://erp.example.com/" + "a" * (MAX_RETURN_TO - 1)),
        ],
    )
    def test_ours_is_followed(self, text: str, url: str) -> None:
        """A path of this host and an address at a configured host are followed, spelled as an absolute URL."""
        assert return_path(text, origin=ERP, sites=SITES) == url

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "report",
            "?x",
            "#x",
            "//evil.example",
            "///evil.example",
            "//erp.example.com",
            "/\\evil.example",
            "\\\\evil.example",
            "\\/evil.example",
            "/a\\..\\evil",
            "https:evil.example",
            "https:/evil.example",
            "https:///evil.example",
            "https:\\\\evil.example",
            "https://evil.example",
            "https://evil.example/erp.example.com",
            "https://evil.example#erp.example.com",
            "https://evil.example\\@erp.example.com",
            "https://erp.example.com.evil.example",
            "https://erp.example.com.",
            "https://erp.example.com@evil.example",
            "https://erp.example.com:443@evil.example",
            "https://evil@erp.example.com",
            "https://evil:pw@erp.example.com",
            "https://@erp.example.com",
            "https://erp.example.com\\.evil.example",
            "https://erp.example.com%2eevil.example",
            "https://erp.example.com:444/",
            "https://erp.example.com:0/",
            "https://erp.example.com:8443/",
            "https://erp.example.com:99999/",
            "https://erp.example.com:x/",
            "https://wiki.example.org/",
            "https://old:8080/",
            "http://erp.example.com/",
            "http://old/",
            "ftp://erp.example.com/",
            "javascript:alert(1)",
            "JavaScript://erp.example.com/%0aalert(1)",
            "data:text/html,x",
            "vbscript:x",
            " /",
            "/ ",
            "/\t/evil.example",
            "\t//evil.example",
            "/\n/evil.example",
            "/\r\nSet-Cookie: x=1",
            "/\x00",
            "/\x7f",
            "ht\ttps://evil.example",
            "https://erp.example.com\n.evil.example",
            "https://[::1",
            "https://[evil]/",
            "https://erp.example.com\uff0eevil.example",
            "https://erp\u3002example.com/",
            "https://ⓔrp.example.com/",
            "%2F%2Fevil.example",
            "/" + "a" * MAX_RETURN_TO,
            "/" + "\ufffd" * (MAX_RETURN_TO // 9 + 1),
            "/_wecom/login",
            "/_wecom/login?return_to=/",
            "/_wecom/enter?to=/a",
            "/_wecom/enter/",
            "/_wecom/%65nter?to=/a",
            "/%5fwecom/enter",
            "/_wecom//enter",
            "//_wecom/enter",
            "/a/../_wecom/enter",
            "/_wecom/me/../enter?to=/a",
            "/_wecom/me%2f..%2fenter",
            "/_wecom/_wecom/a/../login/",
            "/_wecom/begin/x",
            "/_wecom/callback/x?code=y",
            "https://erp.example.com/_wecom/enter?to=/a",
            "https://erp.example.com/_wecom/login#a",
        ],
    )
    def test_anything_else_is_not(self, text: str) -> None:
        """Other hosts, ports and schemes, every way of writing them, and what signs in again, are not followed."""
        assert return_path(text, origin=ERP, sites=SITES) is None

    @given(
        st.text(max_size=40).map(lambda text: f"/{text}")
        | st.text("/\\@:.#?%25Fecxomplvi[]ahtspwk \t\r\n\x00", max_size=40)
        | st.text("/\\@:.#?%", max_size=8).map(lambda text: f"https:{text}erp.example.com{text}evil.example")
        | st.text(max_size=40)
    )
    def test_no_text_leads_away(self, text: str) -> None:
        """Whatever the text, the address followed is at one of our origins, in plain ASCII."""
        ours = tuple(f"{site.at(host)}/" for site in SITES for host in site.hosts)
        url = return_path(text, origin=ERP, sites=SITES)

        assert url is None or (url.startswith(ours) and re.fullmatch(r"[\x21-\x7e]+", url))

    def test_none_takes_long_to_read(self) -> None:
        """Anybody may send 8 kB, and the checks wait meanwhile: what is made to be slow takes no longer than any other path."""
        paths = {"plain": "/a" * 4000, "slow": "/_wecom" * 560 + "/a" * 2000}
        took = {name: min(_processor_s(path) for _ in range(5)) for name, path in paths.items()}

        assert took["slow"] < 10 * took["plain"]

    def test_without_sites_only_this_origin_counts(self) -> None:
        """A host of another site is followed only where the sites are given."""
        assert return_path("https://erp.example.com/a", origin=ERP) == "https://erp.example.com/a"
        assert return_path("https://erp2.example.com/a", origin=ERP) is None


CALLBACK = "https://erp.example.com:8443/_wecom/callback/AbC123"


class TestBuilders:
    """WeCom's pages get what their documents say, each value encoded once."""

    def test_in_app_url_is_to_the_letter(self) -> None:
        """Parameters in the order of document 91022, then the fragment without which the client shows an error."""
        url = in_app_url(
            "https://open.weixin.qq.com",
            corp_id="wwabc",
            agent_id=1000002,
            redirect_uri=CALLBACK,
            scope="snsapi_privateinfo",
            state="AbC123",
        )

        assert url == (
            "https://open.weixin.qq.com/connect/oauth2/authorize?appid=wwabc"
            "&redirect_uri=https%3A%2F%2Ferp.example.com%3A8443%2F_wecom%2Fcallback%2FAbC123"
            "&response_type=code&scope=snsapi_privateinfo&state=AbC123&agentid=1000002#wechat_redirect"
        )

    def test_in_app_url_agrees_with_an_independent_sdk(self) -> None:
        """wechatpy builds the same parameters, with the same encoding, in the same order; it knows no agentid."""
        theirs = WeChatClient("wwabc", "secret").oauth.authorize_url(CALLBACK, state="AbC123")
        ours = in_app_url(
            "https://open.weixin.qq.com",
            corp_id="wwabc",
            agent_id=1000002,
            redirect_uri=CALLBACK,
            scope="snsapi_base",
            state="AbC123",
        )

        assert ours.replace("&agentid=1000002", "") == theirs

    def test_web_login_url_is_to_the_letter(self) -> None:
        """The QR and quick-login page of document 98152."""
        url = web_login_url(
            "https://login.work.weixin.qq.com", corp_id="wwabc", agent_id=7, redirect_uri=CALLBACK, state="S1", language="zh"
        )

        assert url == (
            "https://login.work.weixin.qq.com/wwlogin/sso/login?login_type=CorpApp&appid=wwabc&agentid=7"
            "&redirect_uri=https%3A%2F%2Ferp.example.com%3A8443%2F_wecom%2Fcallback%2FAbC123&state=S1&lang=zh"
        )

    def test_old_web_login_url_is_to_the_letter(self) -> None:
        """The old QR page of document 91019."""
        url = old_web_login_url("https://wx.corp.example:8443", corp_id="wwabc", agent_id=7, redirect_uri=CALLBACK, state="S1")

        assert url == (
            "https://wx.corp.example:8443/wwopen/sso/qrConnect?appid=wwabc&agentid=7"
            "&redirect_uri=https%3A%2F%2Ferp.example.com%3A8443%2F_wecom%2Fcallback%2FAbC123&state=S1"
        )

    @given(st.text(max_size=40))
    @example("a b+c&d=e#f?g%2F张")
    def test_every_value_is_encoded_once(self, value: str) -> None:
        """Decoded once, each parameter is what was put in; no value can add or end a parameter."""
        in_app = in_app_url("https://w", corp_id=value, agent_id=1, redirect_uri=value, scope=value, state=value)
        web = web_login_url("https://w", corp_id=value, agent_id=1, redirect_uri=value, state=value, language=value)
        old = old_web_login_url("https://w", corp_id=value, agent_id=1, redirect_uri=value, state=value)

        for url, fields in (
            (in_app, "appid redirect_uri response_type scope state agentid"),
            (web, "login_type appid agentid redirect_uri state lang"),
            (old, "appid agentid redirect_uri state"),
        ):
            found = parse_qsl(urlsplit(url).query, keep_blank_values=True)
            assert [name for name, _ in found] == fields.split()
            assert {text for _, text in found} <= {value, "1", "code", "CorpApp"}
        assert urlsplit(in_app).fragment == "wechat_redirect"


USER_AGENTS = {
    "windows": (
        "Mozilla/5.0 (Windows NT 10.0; WOW64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/107.0.5304.110 Safari/537.36 "
        "Language/zh ColorScheme/Light wxwork/5.0.10 (MicroMessenger/6.2) WindowsWechat  MailPlugin_Electron WeMail embeddisk "
        "wwmver/3.26.510.632 noMediaCs/true"
    ),
    "windows-old": "Mozilla/5.0 (Windows NT 6.1) wxwork/2.1.3 (MicroMessenger/6.2) WindowsWechat QBCore/3.43 QQBrowser/9.0",
    "macos": (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Language/zh ColorScheme/Light "
        "DistType/publish-store wxwork/4.1.15 (MicroMessenger/6.2) WeChat/2.0.4 Safari/605.1.15"
    ),
    "ios": (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)  Mobile/15E148 "
        "wxwork/4.1.30 MicroMessenger/7.0.1 Language/zh ColorScheme/Light wwmver/3.26.13.714"
    ),
    "android": (
        "Mozilla/5.0 (Linux; Android 14; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/134.0.6998.136 Mobile "
        "Safari/537.36 XWEB/1340157 MMWEBSDK/20250201 MMWEBID/140 wxwork/4.1.38 MicroMessenger/7.0.1 NetType/WIFI Language/zh"
    ),
    "android-old": (
        "Mozilla/5.0 (Linux; Android 8.1) MQQBrowser/6.2 TBS/044409 Mobile Safari/537.36 wxwork/2.7.2 MicroMessenger/6.3.22 "
        "NetType/WIFI Language/zh"
    ),
}


class TestClient:
    """The User-Agent chooses the sign-in page; every WeCom also says MicroMessenger."""

    @pytest.mark.parametrize("user_agent", USER_AGENTS.values(), ids=USER_AGENTS.keys())
    def test_wecom(self, user_agent: str) -> None:
        """Every WeCom client, phone or desktop, is WeCom."""
        assert client_of(user_agent) == "wecom"

    @pytest.mark.parametrize(
        "user_agent",
        [
            "Mozilla/5.0 wxworklocal/3.2.200 wwlocal/3.2.200 wxwork/4.0.0 appname/wxworklocal-customized MicroMessenger/7.0.1",
            "Mozilla/5.0 WXWorklocal/3.2.200 wxwork/4.0.0",
            "Mozilla/5.0 wwlocal/3.2.200 wxwork/4.0.0 MicroMessenger/7.0.1",
        ],
        ids=["android", "mixed-case", "wwlocal"],
    )
    def test_private_deployment(self, user_agent: str) -> None:
        """A private deployment's client is told from WeCom, though it says wxwork too."""
        assert client_of(user_agent) == "private"

    @pytest.mark.parametrize(
        "user_agent",
        [
            "Mozilla/5.0 (iPhone; CPU iPhone OS 8_2) AppleWebKit/600.1.4 Mobile/12D508 MicroMessenger/6.1.5 NetType/WIFI",
            "Mozilla/5.0 (Macintosh) MicroMessenger/6.8.0(0x16080000) MacWechat/3.8.7(0x13080712) NetType/WIFI",
            "Mozilla/5.0 (Windows NT 10.0) MicroMessenger/7.0.20.1781(0x6700143B) MiniProgramEnv/Windows WindowsWechat",
        ],
        ids=["ios", "macos", "windows"],
    )
    def test_wechat(self, user_agent: str) -> None:
        """Personal WeChat has no wxwork."""
        assert client_of(user_agent) == "wechat"

    @pytest.mark.parametrize(
        "user_agent",
        ["", "curl/8.5.0", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/131.0.0.0 Safari/537.36", "wx work\udcff"],
        ids=["none", "curl", "chrome", "garbage"],
    )
    def test_browser(self, user_agent: str) -> None:
        """Everything else is an ordinary browser."""
        assert client_of(user_agent) == "browser"

    @pytest.mark.parametrize("change", [str.upper, str.lower, str.title])
    def test_letter_case_does_not_count(self, change: type[str]) -> None:
        """Clients differ in their letter case from version to version."""
        assert client_of(change(USER_AGENTS["ios"])) == "wecom"
