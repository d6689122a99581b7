"""Settings: every mistake at once, each with its place, what was found and what is allowed; and never a secret."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.accounts import Source
from gateway.config import Config
from gateway.contradictions import warnings
from gateway.errors import ConfigError
from gateway.loading import SHORT_FORMS, from_mapping, load
from gateway.secret import Secret

KEY, OTHER_KEY = "k" * 43, "o" * 43
APP_SECRET = "s3cr3t-of-the-app-that-nobody-may-ever-read"
LEAST: dict[str, Any] = {
    "corp_id": "ww0123456789abcdef",
    "agent_id": 1000002,
    "app_secret": APP_SECRET,
    "signing_key": KEY,
    "public_url": "https://erp.example.com",
}
SITES: list[dict[str, Any]] = [
    {"name": "erp", "public_url": "https://erp.example.com", "hosts": ["erp2.example.com"]},
    {"name": "wiki", "public_url": "https://wiki.example.com:8443"},
]


def without(*names: str, **changes: Any) -> dict[str, Any]:
    return {name: value for name, value in LEAST.items() if name not in names} | changes


def made(table: Mapping[str, Any] = LEAST, environment: Mapping[str, str] | None = None, **changes: Any) -> Config:
    return from_mapping({**table, **changes}, environment or {})


def mistakes(table: Mapping[str, Any] = LEAST, environment: Mapping[str, str] | None = None, **changes: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        made(table, environment, **changes)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def mistake(*args: Any, **changes: Any) -> str:
    """The only mistake."""
    found = mistakes(*args, **changes)
    assert len(found) == 1, found
    return found[0]


class TestLeast:
    """Five settings are enough."""

    def test_the_rest_has_defaults(self) -> None:
        """What is not given is as documented: 12 h, 7 d, 30 min, loopback, WeCom's own addresses."""
        config = made()

        assert (config.corp_id, config.agent_id, config.app_secret.reveal()) == ("ww0123456789abcdef", 1000002, APP_SECRET)
        assert [key.reveal() for key in config.signing_keys] == [KEY]
        assert (config.session.lifetime, config.session.max_lifetime) == (43200, 604800)
        assert (config.session.renew_after, config.session.idle) == (1800, 0)
        assert [config.listen.check, config.listen.pages, config.listen.ops] == [
            "127.0.0.1:9180",
            "127.0.0.1:9181",
            "127.0.0.1:9182",
        ]
        assert config.wecom.api_url == "https://qyapi.weixin.qq.com"
        assert (config.scope, config.details, config.verify_files) == ("snsapi_base", (), ())

    def test_a_public_url_is_one_site(self) -> None:
        """``public_url`` stands for one site named ``default``, which is where WeCom sends people back to."""
        config = made()

        assert [(site.name, str(site.origin)) for site in config.sites] == [("default", "https://erp.example.com")]
        assert config.sites[0].hosts == {"erp.example.com"}
        assert config.callback == config.sites[0]

    def test_lifetimes_are_those_of_the_session_table(self) -> None:
        """What sessions live by comes from ``[session]``."""
        lifetimes = made(session={"lifetime": "2h", "max_lifetime": "1d", "renew_after": "10m", "idle": "1h"}).lifetimes

        assert (lifetimes.lifetime_s, lifetimes.max_lifetime_s) == (7200, 86400)
        assert (lifetimes.renew_after_s, lifetimes.idle_s) == (600, 3600)

    def test_it_is_frozen(self) -> None:
        """Settings in force cannot be changed."""
        with pytest.raises(AttributeError):
            made().agent_id = 1  # type: ignore[misc]

    def test_what_it_was_made_from_stays(self) -> None:
        """Reading settings changes nothing of what was read."""
        table = {**LEAST, "session": {"idle": "1h"}}
        made(table, {"WECOM_GATEWAY_SESSION_IDLE": "2h", "WECOM_GATEWAY_SIGNING_KEYS": OTHER_KEY})

        assert table == {**LEAST, "session": {"idle": "1h"}}


class TestSites:
    """``[[site]]`` tables."""

    def test_several_sites(self) -> None:
        """Each site has its hosts and its cookie; the first is the callback host unless another is named."""
        config = made(without("public_url"), site=SITES)

        assert [site.cookie_name for site in config.sites] == ["__Host-wecom_session", "__Host-wecom_session_8443"]
        assert config.sites[0].hosts == {"erp.example.com", "erp2.example.com"}
        assert config.callback.name == "erp"
        assert made(without("public_url"), site=SITES, callback_site="wiki").callback.name == "wiki"

    @pytest.mark.parametrize(
        "site, problem",
        [
            ([], "site: at least one [[site]] is needed"),
            ({"name": "a"}, "site: write [[site]] in two pairs of brackets, once for each site"),
            (["a"], "site[0]: a table is needed"),
            ([SITES[0], {"name": "b"}], "site[1].public_url: is missing"),
            ([{"public_url": "https://a.example.com"}], "site[0].name: is missing"),
            ([SITES[0] | {"name": "a b"}], "site[0].name: a name of letters, digits, - and _ is needed, not 'a b'"),
            ([SITES[0] | {"hosts": ["A.example.com"]}], "site[0].hosts[0]: a host name in lower case"),
            ([SITES[0] | {"hosts": ["a.example.com", "b:80"]}], "site[0].hosts[1]: a host name in lower case, without port"),
            ([SITES[0] | {"public_url": "erp.example.com"}], "site[0].public_url: must begin with https:// or http://"),
            ([SITES[0] | {"host": "x"}], "site[0]: unknown: host; known: name, public_url, hosts, keep_fragment, cookie_domain"),
            ([SITES[0] | {"keep_fragment": "yes"}], "site[0].keep_fragment: true or false is needed, not 'yes'"),
            ([SITES[0], SITES[0] | {"public_url": "https://b.example.com", "hosts": []}], "site: the name 'erp' is used twice"),
            (
                [SITES[0], {"name": "b", "public_url": "https://erp2.example.com"}],
                "site b: host erp2.example.com with the same port belongs to site erp already",
            ),
            ([SITES[0] | {"cookie_domain": "example.org"}], "site erp: cookie_domain 'example.org' is no parent of every host"),
            ([SITES[0] | {"cookie_domain": ".example.com"}], "site erp: cookie_domain '.example.com' is no parent"),
            ([SITES[0] | {"cookie_domain": "ample.com"}], "site erp: cookie_domain 'ample.com' is no parent"),
            ([SITES[0] | {"cookie_domain": "com"}], "site erp: cookie_domain 'com' is no parent"),
            ([SITES[0] | {"cookie_domain": "example.com; Path=/x"}], "site erp: cookie_domain 'example.com; Path=/x' is"),
        ],
    )
    def test_mistakes(self, site: Any, problem: str) -> None:
        """Each mistake in a site names the site and what is wrong."""
        assert mistake(without("public_url"), site=site).startswith(problem)

    def test_one_host_on_two_ports_is_two_sites(self) -> None:
        """Two ports of one host have two cookies, and so may be two sites."""
        sites = [{"name": "a", "public_url": "http://old:8080"}, {"name": "b", "public_url": "http://old:8081"}]

        assert [site.cookie_name for site in made(without("public_url"), site=sites).sites] == [
            "wecom_session_8080",
            "wecom_session_8081",
        ]

    def test_a_cookie_for_a_domain(self) -> None:
        """A cookie for a parent domain of all hosts is allowed, with a warning."""
        config = made(without("public_url"), site=[SITES[0] | {"cookie_domain": "example.com"}])

        assert config.sites[0].cookie_name == "__Secure-wecom_session"
        assert ["cookie_domain = 'example.com'" in line for line in warnings(config)] == [True]

    @pytest.mark.parametrize(
        "other, clash",
        [
            ({"name": "b", "public_url": "https://b.example.com", "cookie_domain": "example.com"}, True),
            ({"name": "b", "public_url": "https://b.example.com"}, False),
            ({"name": "b", "public_url": "https://b.example.com:8443", "cookie_domain": "example.com"}, False),
            ({"name": "b", "public_url": "https://b.example.org", "cookie_domain": "example.org"}, False),
        ],
        ids=["same-domain", "own-cookie", "other-port", "other-domain"],
    )
    def test_a_cookie_for_a_domain_must_not_reach_another_sites_place(self, other: dict[str, Any], clash: bool) -> None:
        """Two sites whose cookies would take each other's place are a contradiction: both would ask to sign in for ever."""
        table = without("public_url", site=[SITES[0] | {"cookie_domain": "example.com"}, other])

        if clash:
            assert mistakes(table)[0].startswith("site erp: cookie_domain 'example.com' also sends its session to b.example.com")
        else:
            assert made(table)


class TestMistakes:
    """Every mistake is told at once, with place, found and allowed."""

    def test_all_at_once(self) -> None:
        """A file full of mistakes gives one sentence for each."""
        found = mistakes(
            {
                "agent_id": "many",
                "app_secret": "with blanks",
                "signing_keys": [KEY, "short"],
                "scope": "snsapi_all",
                "details": ["mobile", "salary"],
                "verify_files": ["WW_verify.txt"],
                "language": "fr",
                "log_level": "LOUD",
                "scop": "x",
                "session": {"lifetime": "soon", "life": 1},
                "wecom": {"api_url": "qyapi", "private": "maybe", "proxy": "proxy:3128"},
                "listen": {"check": "localhost:80", "pages": "127.0.0.1"},
                "site": [{"name": "a", "public_url": "ftp://a"}],
            },
            {"WECOM_GATEWAY_NONSENSE": "1"},
        )

        places = "corp_id agent_id app_secret signing_keys scope details[1] verify_files[0] language log_level site[0].public_url"
        tables = "session session.lifetime wecom.api_url wecom.private wecom.proxy listen.check listen.pages unknown"
        assert sorted(line.partition(":")[0] for line in found) == sorted(
            [*places.split(), *tables.split(), "environment WECOM_GATEWAY_NONSENSE"]
        )

    @pytest.mark.parametrize(
        "name, value, problem",
        [
            ("corp_id", "", "corp_id: a corp id like ww0123456789abcdef"),
            ("corp_id", "ww 1", "corp_id: a corp id like"),
            ("corp_id", 7, "corp_id: a text in quotes is needed"),
            ("agent_id", "x", "agent_id: a whole number is needed, not 'x'"),
            ("agent_id", -1, "agent_id: a whole number is needed, not -1"),
            ("agent_id", 1.5, "agent_id: a whole number is needed, not 1.5"),
            ("agent_id", True, "agent_id: a whole number is needed, not True"),
            ("agent_id", "9" * 5000, "agent_id: a whole number is needed"),
            ("scope", "all", "scope: snsapi_base or snsapi_privateinfo is needed, not 'all'"),
            ("details", ["salary"], "details[0]: one of position, alias, email, mobile, avatar is needed, not 'salary'"),
            ("details", 5, "details: a list is needed, not 5"),
            ("verify_files", ["../x"], "verify_files[0]: a name like WW_verify_0123456789abcdef.txt is needed, not '../x'"),
            ("language", "fr", "language: zh, en or nothing is needed, not 'fr'"),
            ("log_level", "info", "log_level: one of DEBUG, INFO, WARNING, ERROR is needed, not 'info'"),
            ("raw_headers", 1, "raw_headers: true or false is needed, not 1"),
            ("raw_headers", [], "raw_headers: true or false is needed, not []"),
            ("contact", 5, "contact: a text in quotes is needed"),
            ("session", 5, "session: a table is needed"),
            ("session", {"renew_atfer": 5}, "session: unknown: renew_atfer; known: lifetime, max_lifetime, renew_after, idle"),
            ("wecom", {"api_url": "qyapi"}, "wecom.api_url: a base URL like https://qyapi.weixin.qq.com is needed, not 'qyapi'"),
            ("wecom", {"api_url": "https://x?y=1"}, "wecom.api_url: a base URL like"),
            ("wecom", {"api_url": "https://[x"}, "wecom.api_url: a base URL like"),
            ("wecom", {"proxy": "socks5://x"}, "wecom.proxy: a proxy like http://proxy.example.com:3128"),
            ("wecom", {"timeout": 0}, "wecom.timeout: 1s at least"),
            ("listen", {"check": "9180"}, "listen.check: an address like 127.0.0.1:9180 or unix:/run/"),
            ("listen", {"check": "127.0.0.1:0"}, "listen.check: an address like"),
            ("listen", {"check": "::1:9180"}, "listen.check: an IPv6 address stands in brackets, like [::1]:9180, not"),
            ("listen", {"check": "[::1:9180"}, "listen.check: an IPv6 address stands in brackets"),
            ("listen", {"check": "127.0.0.1:65536"}, "listen.check: an address like"),
            ("listen", {"check": "127.0.0.1:٨٠"}, "listen.check: an address like"),
            ("listen", {"check": "example.com:80"}, "listen.check: the host must be an IP address"),
            ("public_url", "oa.example.com", "public_url: must begin with https:// or http://"),
            ("listen", {"pages": "127.0.0.1:9180"}, "listen.pages: the same address as listen.check; each takes its own"),
            ("wecom", {"ca_file": "/no/such.pem"}, "wecom.ca_file: /no/such.pem cannot be read: No such file or directory"),
            ("wecom", {"ca_file": "/etc/hostname"}, "wecom.ca_file: /etc/hostname holds no certificate in PEM; of"),
            ("syslog_ca_file", "/etc/hostname", "syslog_ca_file: /etc/hostname holds no certificate in PEM; of"),
            ("store", "rediss://r?ca_file=/etc/hostname", "store: ca_file: /etc/hostname holds no certificate in PEM; of"),
            ("store", "rediss://r?cert_file=/no/such.pem", "store: cert_file: /no/such.pem cannot be read: No such file or"),
            ("syslog_ca_file", "a\x00b", "syslog_ca_file: a\x00b cannot be read: "),
            ("rules", {"a": "user：b"}, "rules.a: no rule is named 'user：b'; '：' is full-width: ':' is needed (半角)"),
            ("rules", {"a": "user:b，c"}, "rules.a: 'b，c' is no member id; '，' is full-width: ',' is needed (半角)"),
            ("rules", {"a b": "leader"}, "rules.a b: a rule's name has letters, digits, - and _ only"),
            ("callback_site", "erp", "callback_site: no site is named 'erp'; there are: default"),
            ("site", SITES, "public_url: give either public_url or site, not both"),
            ("signing_keys", [KEY], "signing_key: give either signing_key or signing_keys, not both"),
            ("signing_key_file", "/etc/hostname", "signing_key_file: give either signing_key or signing_key_file, not both"),
            ("app_secret_file", "/etc/hostname", "app_secret_file: give either app_secret or app_secret_file, not both"),
            ("app_secrets", "x", "unknown: app_secrets; known: corp_id, agent_id, app_secret, "),
        ],
    )
    def test_each_says_where_what_and_what_else(self, name: str, value: Any, problem: str) -> None:
        """A mistake names its place, what was found there and what is allowed."""
        assert mistake(**{name: value}).startswith(problem)

    @pytest.mark.parametrize("short_form", ["public_url", "signing_key", "app_secret_file", "signing_key_file"])
    def test_short_forms_are_among_the_known(self, short_form: str) -> None:
        """The list of known settings holds the short forms too."""
        assert short_form in mistake(nonsense=1)

    @pytest.mark.parametrize(
        "name, problem",
        [
            ("corp_id", "corp_id: is missing"),
            ("agent_id", "agent_id: is missing"),
            ("app_secret", "app_secret: is missing; give `app_secret` or `app_secret_file`"),
            ("signing_key", "signing_keys: is missing; give `signing_key` or `signing_key_file`; `wecom-gateway keygen`"),
            ("public_url", "site: is missing; give `public_url`, or a [[site]]"),
        ],
    )
    def test_what_is_missing_is_named(self, name: str, problem: str) -> None:
        """A setting that is needed says so, and how it can be given."""
        assert mistake(without(name)).startswith(problem)

    def test_no_file(self, tmp_path: Path) -> None:
        """Without a file the mistakes end in how to name one; with a file they do not."""
        (tmp_path / "empty.toml").touch()
        found = []
        for path in (None, tmp_path / "empty.toml"):
            with pytest.raises(ConfigError) as error:
                load(path, {})
            found.append(error.value.problems)

        assert list(found[0]) == [*found[1], "no file was read; --config or WECOM_GATEWAY_CONFIG names it"]

    @pytest.mark.parametrize(
        "session, problem",
        [
            ({"max_lifetime": "8d"}, "session.max_lifetime: 7d at most"),
            ({"lifetime": "2d", "max_lifetime": "1d"}, "session.lifetime: longer than session.max_lifetime"),
            ({"lifetime": "30m"}, "session.renew_after: must be shorter than session.lifetime"),
            ({"renew_after": 0}, "session.renew_after: 10s at least"),
            ({"idle": "30m"}, "session.idle: must be longer than session.renew_after"),
        ],
    )
    def test_contradictions(self, session: dict[str, Any], problem: str) -> None:
        """Lifetimes that contradict each other are refused."""
        assert mistake(session=session).startswith(problem)

    def test_contradictions_come_together(self) -> None:
        """All contradictions are told at once, with a mistake of the environment."""
        session = {"max_lifetime": "8d", "lifetime": "9d", "renew_after": "10d", "idle": "1h"}

        assert len(mistakes(LEAST, {"WECOM_GATEWAY_X": "1"}, session=session, callback_site="x")) == 6

    @given(
        st.sampled_from([item.name for item in fields(Config)] + ["public_url", "signing_key", "app_secret_file", "x", ""]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["name", "public_url", "hosts", "idle", "api_url", "proxy", "check", "cookie_domain"]), inner
                )
            ),
            max_leaves=6,
        ),
    )
    @example("site", [{"name": "a", "public_url": "https://a", "hosts": [None]}])
    @example("app_secret_file", "\x00")
    @example("signing_key_file", {"a": 1})
    @example("wecom", {"proxy": "http://a\u2100b@c"})
    def test_any_value_is_read_or_a_mistake(self, name: str, value: Any) -> None:
        """Whatever stands in a file, the settings are read or a ConfigError says why not."""
        try:
            config = made(**{name: value})
        except ConfigError as error:
            config = None
            problems = error.problems

        assert config or all(problems)


class TestDurations:
    """Durations are written as people say them."""

    @pytest.mark.parametrize(
        "text, seconds",
        [("90", 90), (90, 90), ("90s", 90), ("15m", 900), ("1h", 3600), (" 1h ", 3600), ("0", 0), (0, 0), ("1d", 86400)],
    )
    def test_read(self, text: str | int, seconds: int) -> None:
        """A number of seconds, or a number with s, m, h or d."""
        assert made(session={"idle": text, "renew_after": 60}).session.idle == seconds

    @pytest.mark.parametrize(
        "text", ["", "h", "1w", "1 h", "1.5h", "-1h", "1h30m", "1H", -1, 1.5, True, None, [], "9" * 10, "1h\n1"]
    )
    def test_refused(self, text: Any) -> None:
        """Anything else is refused with what is allowed and what was found."""
        expected = f"session.idle: a duration like 30m, 12h, 7d or a number of seconds is needed, not {text!r}"

        assert mistake(session={"idle": text}) == expected


class TestValues:
    """Single values in their further spellings."""

    @pytest.mark.parametrize("address", ["127.0.0.1:9180", "0.0.0.0:80", "[::1]:9180", "unix:/run/wecom-gateway/check.sock"])
    def test_addresses(self, address: str) -> None:
        """IPv4, IPv6 and unix sockets are addresses."""
        assert made(listen={"check": address}).listen.check == address

    @pytest.mark.parametrize("proxy", ["", "http://10.0.0.1:3128", "http://user:pass@proxy.example.com:3128", "https://p"])
    def test_proxies(self, proxy: str) -> None:
        """A proxy is an HTTP URL, with name and password where it asks for them, or nothing."""
        assert made(wecom={"proxy": proxy}).wecom.proxy == proxy

    def test_base_urls_lose_their_last_slash(self) -> None:
        """A path prefix of a private deployment stays, a slash at the end goes."""
        assert (
            made(wecom={"api_url": "https://wx.corp.example:8443/wework/"}).wecom.api_url == "https://wx.corp.example:8443/wework"
        )

    @pytest.mark.parametrize("value, read", [(True, True), ("true", True), (False, False), ("false", False)])
    def test_booleans(self, value: Any, read: bool) -> None:
        """True and false, in a file or as text in the environment."""
        assert made(raw_headers=value).raw_headers is read

    def test_the_demos_key_is_for_the_demo(self) -> None:
        """The key that stands in the repository signs for localhost only."""
        key = "demo-only-everybody-can-read-this-key-make-your-own-with-keygen"

        assert made(signing_key=key, public_url="http://localhost:8080").signing_keys
        assert mistakes(signing_key=key, public_url="https://oa.example.com") == [
            "signing_keys: the demo's key, which everybody can read; `wecom-gateway keygen` makes one of your own"
        ]

    def test_keys_come_newest_first(self) -> None:
        """Keys keep their order; several may stand in one text, one per line, as in a file."""
        both = [KEY, OTHER_KEY]

        assert [key.reveal() for key in made(without("signing_key"), signing_keys=both).signing_keys] == both
        assert [key.reveal() for key in made(signing_key=f"{KEY}\n{OTHER_KEY}\n").signing_keys] == both

    @pytest.mark.parametrize(
        "keys, problem",
        [
            ([], "signing_keys: at least one key is needed; `wecom-gateway keygen` makes one"),
            (["short"], "signing_keys: a key takes at least 32 characters"),
            ([KEY, "x" * 31], "signing_keys: a key takes at least 32 characters"),
            ([KEY, ""], "signing_keys[1]: a secret without blanks is needed"),
            ([KEY, 5], "signing_keys[1]: a secret without blanks is needed"),
            ({"a": KEY}, "signing_keys: a list of keys is needed"),
            (None, "signing_keys: a list of keys is needed"),
        ],
    )
    def test_weak_keys_are_refused(self, keys: Any, problem: str) -> None:
        """Every key of the list must be one."""
        assert mistake(without("signing_key"), signing_keys=keys).startswith(problem)


class TestEnvironment:
    """One variable per setting; the environment wins."""

    @pytest.mark.parametrize(
        "name, text, read",
        [
            ("AGENT_ID", "7", lambda config: config.agent_id == 7),
            ("CORP_ID", "ww7", lambda config: config.corp_id == "ww7"),
            ("APP_SECRET", "other", lambda config: config.app_secret.reveal() == "other"),
            ("SIGNING_KEY", OTHER_KEY, lambda config: [key.reveal() for key in config.signing_keys] == [OTHER_KEY]),
            ("SIGNING_KEYS", f"{OTHER_KEY}, {KEY}", lambda config: [k.reveal() for k in config.signing_keys] == [OTHER_KEY, KEY]),
            ("PUBLIC_URL", "https://b.example.com", lambda config: str(config.sites[0].origin) == "https://b.example.com"),
            ("DETAILS", "mobile, email,", lambda config: config.details == ("mobile", "email")),
            ("DETAILS", "", lambda config: config.details == ()),
            ("RAW_HEADERS", "true", lambda config: config.raw_headers),
            ("SESSION_IDLE", "1h", lambda config: config.session.idle == 3600),
            ("SESSION_MAX_LIFETIME", "1d", lambda config: config.session.max_lifetime == 86400),
            ("WECOM_API_URL", "https://x", lambda config: config.wecom.api_url == "https://x"),
            ("LISTEN_CHECK", "0.0.0.0:9180", lambda config: config.listen.check == "0.0.0.0:9180"),
            ("CONFIG", "/etc/wecom-gateway.toml", lambda config: config == made()),
        ],
    )
    def test_it_wins(self, name: str, text: str, read: Any) -> None:
        """A variable takes the place of the setting in the file, whatever spelling that has there."""
        assert read(made(environment={f"WECOM_GATEWAY_{name}": text}))

    def test_it_is_enough(self) -> None:
        """No file is needed."""
        environment = {f"WECOM_GATEWAY_{name.upper()}": str(value) for name, value in LEAST.items()}

        assert load(None, environment) == made()

    def test_it_completes_a_table(self) -> None:
        """A variable sets one value of a table and leaves the others."""
        config = made(environment={"WECOM_GATEWAY_SESSION_IDLE": "1h"}, session={"lifetime": "6h"})

        assert (config.session.idle, config.session.lifetime) == (3600, 21600)

    def test_a_public_url_takes_the_place_of_sites(self) -> None:
        """A public URL in the environment replaces the sites of the file."""
        config = made(without("public_url", site=SITES), {"WECOM_GATEWAY_PUBLIC_URL": "http://localhost:8080"})

        assert [site.name for site in config.sites] == ["default"]

    def test_others_variables_are_left_alone(self) -> None:
        """Only names with our prefix are looked at."""
        assert made(environment={"HOME": "/", "SIGNING_KEY": "x", "wecom_gateway_agent_id": "x"}) == made()

    @pytest.mark.parametrize("name", ["NONSENSE", "SITE", "RULES", "SESSION", "SESSION_NONSENSE", ""])
    def test_unknown_variables_are_mistakes(self, name: str) -> None:
        """A variable with our prefix that sets nothing is a mistake, not a silence."""
        assert mistake(LEAST, {f"WECOM_GATEWAY_{name}": "x"}) == f"environment WECOM_GATEWAY_{name}: no such setting"

    @pytest.mark.parametrize("name, meant", [("AGENTID", "AGENT_ID"), ("PUBLIC_ULR", "PUBLIC_URL"), ("STOR", "STORE")])
    def test_a_variable_that_is_nearly_right(self, name: str, meant: str) -> None:
        """The variable that an unknown one resembles is told."""
        told = f"environment WECOM_GATEWAY_{name}: no such setting; is it meant to be WECOM_GATEWAY_{meant}?"

        assert mistake(LEAST, {f"WECOM_GATEWAY_{name}": "x"}) == told

    def test_a_wrong_value_is_told_by_its_setting(self) -> None:
        """A wrong value in the environment is told like one in the file."""
        assert mistake(LEAST, {"WECOM_GATEWAY_SESSION_IDLE": "soon"}).startswith("session.idle: a duration like")

    def test_a_file_with_a_wrong_table_is_told(self) -> None:
        """A variable for a table that the file spoils does not hide the mistake."""
        assert mistake(LEAST, {"WECOM_GATEWAY_SESSION_IDLE": "1h"}, session=5) == "session: a table is needed"

    def test_every_setting_has_a_variable(self) -> None:
        """Whatever stands in the tree, sites and rules apart, can be set by one variable."""
        hints = get_type_hints(Config)
        plain = {
            item.name for item in fields(Config) if not is_dataclass(hints[item.name]) or hints[item.name] in (Secret, Source)
        }
        names = {name.upper() for name in plain - {"site", "rules"}}
        for table in {item.name for item in fields(Config)} - plain:
            names |= {f"{table}_{item.name}".upper() for item in fields(hints[table])}
        found = mistakes(LEAST, {f"WECOM_GATEWAY_{name}": "\x00" for name in names})

        assert not [line for line in found if "no such setting" in line]
        assert len(names) > 25


class TestFiles:
    """The settings' file and the secrets' files."""

    def load(self, path: Path, text: str | bytes) -> Config:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(path, {})

    def test_toml(self, tmp_path: Path) -> None:
        """A TOML file with tables is read."""
        config = self.load(
            tmp_path / "gateway.toml",
            f'corp_id = "ww1"\nagent_id = 1\napp_secret = "x"\nsigning_keys = ["{KEY}"]\ncontact = "网管 8888"\n'
            '[[site]]\nname = "erp"\npublic_url = "https://erp.example.com"\n[session]\nidle = "1h"\n',
        )

        assert (config.contact, config.session.idle, config.sites[0].name) == ("网管 8888", 3600, "erp")

    @pytest.mark.parametrize(
        "text, problem",
        [
            ("corp_id = ", "is not TOML: "),
            ("corp_id = 'a'\ncorp_id = 'b'", "is not TOML: "),
            ("a = " + "9" * 5000, "is not TOML: "),
            ("a = " + "[" * 5000, "is not TOML: "),
            (b"corp_id = '\xff'", "is not UTF-8"),
        ],
        ids=["broken", "twice", "huge-number", "deep", "not-utf-8"],
    )
    def test_a_broken_file_is_one_mistake(self, tmp_path: Path, text: str | bytes, problem: str) -> None:
        """A file that cannot be read as TOML is one mistake, with its path."""
        with pytest.raises(ConfigError) as caught:
            self.load(tmp_path / "gateway.toml", text)

        assert [line.startswith(f"{tmp_path}/gateway.toml: {problem}") for line in caught.value.problems] == [True]

    @pytest.mark.parametrize(
        "text, sign",
        [
            ("corp_id = “ww1”", "“"),
            ("corp_id = 'ww1'\r\nagent_id ＝ 1", "＝"),
            ("tags = [7，8]", "，"),
            ("agent_id = 1 ＃ 应用", "＃"),
            ("agent_id\u00a0= 1", "\\xa0"),
            ('corp_id = "ww1”\nagent_id = 1', "”"),
            ('corp_id = "ww1', ""),
            ("a = [1, = # ”", ""),
        ],
        ids=["quote", "equals", "comma", "comment", "blank", "closing", "plain", "elsewhere"],
    )
    def test_full_width_signs_are_told(self, tmp_path: Path, text: str, sign: str) -> None:
        """What an input method puts where TOML has a sign looks like it: the mistake shows which it is."""
        with pytest.raises(ConfigError) as caught:
            self.load(tmp_path / "gateway.toml", text)

        told = caught.value.problems[0].partition("); ")[2]
        assert told == (f"'{sign}' there is no sign of TOML: type \" ' = , # [ ] and blanks in half width (半角)" if sign else "")

    def test_a_missing_file_is_one_mistake(self, tmp_path: Path) -> None:
        """A file that is not there says so."""
        with pytest.raises(ConfigError, match=r"/none\.toml: cannot be read: No such file"):
            load(tmp_path / "none.toml", {})

    def test_the_real_environment_counts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without another mapping it is the process's own environment that is read."""
        path = tmp_path / "gateway.toml"
        path.write_text("agent_id = 1\n")
        for name in [name for name in os.environ if name.startswith("WECOM_GATEWAY_")]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("WECOM_GATEWAY_AGENT_ID", "nonsense")

        with pytest.raises(ConfigError, match="agent_id: a whole number is needed, not 'nonsense'"):
            load(path)

    @pytest.mark.parametrize("by", ["file", "environment"])
    def test_secrets_can_be_files(self, tmp_path: Path, by: str) -> None:
        """Secret and keys may be files, as containers give them; a line end is not part of them."""
        (tmp_path / "secret").write_text(f"{APP_SECRET}\n")
        (tmp_path / "keys").write_text(f"{KEY}\n{OTHER_KEY}\n")
        files = {"app_secret_file": str(tmp_path / "secret"), "signing_key_file": str(tmp_path / "keys")}
        if by == "file":
            config = made(without("app_secret", "signing_key"), **files)
        else:
            config = made(without(app_secret="old"), {f"WECOM_GATEWAY_{name.upper()}": path for name, path in files.items()})

        assert config.app_secret.reveal() == APP_SECRET
        assert [key.reveal() for key in config.signing_keys] == [KEY, OTHER_KEY]

    @pytest.mark.parametrize(
        "name, problem",
        [
            ("/none", "/none cannot be read: No such file or directory"),
            ("/", "/ cannot be read: Is a directory"),
            ("/binary", "/binary cannot be read: it is no UTF-8 text"),
        ],
    )
    def test_a_secret_file_that_cannot_be_read(self, tmp_path: Path, name: str, problem: str) -> None:
        """A secret's file that cannot be read is one mistake, with its path and why; not also a missing secret."""
        (tmp_path / "binary").write_bytes(b"\xff\xfe")

        for setting in ("app_secret", "signing_key"):
            found = mistake(without(setting), **{f"{setting}_file": f"{tmp_path}{name}"})
            assert found.startswith(f"{setting}_file: {tmp_path}")
            assert found.endswith(problem)

    @pytest.mark.parametrize("path", ["keys", "./keys", "~/keys", "Leak/3d1f", ""])
    def test_a_secret_file_is_named_from_the_root_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
        """A path that holds in one folder only would pass `check` there and fail the service; a secret there is not told."""
        (tmp_path / "keys").write_text(KEY)
        monkeypatch.chdir(tmp_path)

        told = "signing_key_file: a whole path is needed, from / on: a service starts in another folder than you do"
        assert mistake(without("signing_key"), signing_key_file=path) == told

    def test_an_empty_secret_file_is_a_mistake(self, tmp_path: Path) -> None:
        """A secret's file without anything in it gives no empty secret."""
        (tmp_path / "secret").write_text("\n")

        found = mistake(without("app_secret"), app_secret_file=f"{tmp_path}/secret")
        assert found == f"app_secret_file: {tmp_path}/secret is empty"

    @pytest.mark.parametrize("setting", ["app_secret", "signing_key", "signing_keys"])
    def test_the_name_of_a_file_is_no_secret(self, tmp_path: Path, setting: str) -> None:
        """A file's name where the secret itself belongs is a mistake that names the setting for files."""
        path = tmp_path / ("long-enough-for-a-key-" * 2)
        path.write_text(KEY)

        found = mistake(without("signing_key" if "key" in setting else setting), **{setting: str(path)})
        assert found.startswith(f"{setting}: this is the name of a file; write {setting.removesuffix('s')}_file")

    def test_files_from_a_windows_editor(self, tmp_path: Path) -> None:
        """A byte order mark in front and CRLF at the ends of lines change nothing, in the settings and in secret files."""
        (tmp_path / "secret").write_bytes(b"\xef\xbb\xbf" + APP_SECRET.encode() + b"\r\n")
        (tmp_path / "keys").write_bytes(b"\xef\xbb\xbf" + KEY.encode() + b"\r\n" + OTHER_KEY.encode() + b"\r\n")
        lines = ['corp_id = "ww0123456789abcdef"', "agent_id = 1000002", 'public_url = "https://erp.example.com"']
        lines += [f'app_secret_file = "{tmp_path}/secret"', f'signing_key_file = "{tmp_path}/keys"', ""]
        (tmp_path / "gateway.toml").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())

        config = load(tmp_path / "gateway.toml", {})
        assert config.app_secret.reveal() == APP_SECRET
        assert [key.reveal() for key in config.signing_keys] == [KEY, OTHER_KEY]

    def test_a_setting_below_a_table(self) -> None:
        """A setting of the top that stands below a ``[table]`` is unknown there, and the mistake says where it belongs."""
        assert mistake(listen={"contact": "IT"}).endswith("what belongs to no table stands above the first [table] of the file")
        assert "above the first" not in mistake(listen={"contacts": "IT"})

    @pytest.mark.parametrize(
        "name, table", [("lifetime", "[session]"), ("proxy", "[wecom]"), ("hosts", "[[site]], with its name and its public_url")]
    )
    def test_a_setting_above_its_table(self, name: str, table: str) -> None:
        """A setting of a table that stands at the top, or below another table, is told where it belongs."""
        assert mistake(**{name: "x"}).endswith(f"; {name} stands below {table}")
        assert mistake(events={name: "x"}).endswith(f"; {name} stands below {table}")

    @pytest.mark.parametrize("value", ["a/secret", "Leak-3d1f", ["Leak-3d1f"], 5], ids=str)
    @pytest.mark.parametrize("name", ["app_secret", "signing_keys", "contact"])
    def test_a_setting_below_the_rules(self, name: str, value: Any) -> None:
        """The same below ``[rules]``, where any name could be a rule's; its value, perhaps a secret, is not told."""
        found = [line for line in mistakes(rules={name: value, "own": "user:lisi"}) if line.startswith("rules")]

        assert found == [
            f"rules.{name}: is a setting and no rule; what belongs to no table stands above the first [table] of the file"
        ]

    def test_a_rule_may_bear_the_name_of_a_setting(self) -> None:
        """Where it reads as a rule, it is one."""
        assert set(made(rules={"contact": "user:lisi"}).rules) == {"contact"}

    @pytest.mark.parametrize(
        "changes, meant",
        [
            ({"corpid": "x"}, "; is corpid meant to be corp_id?"),
            ({"session": {"max_life": "1h"}}, "; is max_life meant to be max_lifetime?"),
            ({"zzz": 1}, ""),
        ],
    )
    def test_a_name_that_is_nearly_right(self, changes: dict[str, Any], meant: str) -> None:
        """The setting that an unknown name resembles is told last, where it is seen."""
        assert mistake(**changes).endswith(meant or ", ".join(SHORT_FORMS))


class TestSecrets:
    """No error, warning or printed tree shows a secret."""

    LEAK = "Leak-3d1f-Leak-77aa-Leak-90be-Leak-c0de-Leak"

    @pytest.mark.parametrize(
        "changes",
        [
            {"app_secret": f"{LEAK} {LEAK}"},
            {"app_secret": [LEAK]},
            {"app_secret": {"x": LEAK}},
            {"app_secret_file": LEAK},
            {"signing_key": LEAK[:20]},
            {"signing_key": f"{LEAK}\t{LEAK}"},
            {"signing_key": [LEAK]},
            {"signing_key": {"x": LEAK}},
            {"signing_key_file": LEAK},
            {"signing_keys": LEAK},
            {"signing_keys": LEAK[:20]},
            {"signing_keys": [LEAK, LEAK[:20]]},
            {"signing_keys": [LEAK + "\n"]},
            {"signing_keys": {"x": LEAK}},
            {"signing_keys": [[LEAK]]},
            {"wecom": {"proxy": f"proxy:{LEAK}@x"}},
            {"wecom": {"proxy": f"socks5://user:{LEAK}@proxy"}},
            {"wecom": {"proxy": f"http://user:{LEAK}@proxy:x"}},
            {"wecom": {"proxy": f"http://user:{LEAK}\u2100@proxy"}},
            {"wecom": {"proxy": [LEAK]}},
            {"wecom": {"api_url": f"https://user:{LEAK}@x"}},
            {"events": {"token": f"{LEAK}{LEAK}", "aes_key": LEAK}},
            {"events": {"token": LEAK}},
            {"events": {"aes_key": [LEAK]}},
            {"events": {"token_file": LEAK, "aes_key_file": LEAK}},
            {"events": LEAK},
            {"rules": {"app_secret": LEAK}},
            {"rules": {"app_secret": f"{LEAK}/{LEAK}"}},
            {"rules": {"signing_keys": [LEAK]}},
            {"rules": {"finance": {"any": ["leader"], "app_secret": LEAK}}},
        ],
        ids=str,
    )
    def test_no_mistake_shows_one(self, changes: dict[str, Any]) -> None:
        """A mistake in a secret is told without the secret, alone and among other mistakes."""
        others = ({}, {"agent_id": "x"}, {"callback_site": "x"})
        for table in (LEAST, without("app_secret"), without("signing_key"), *({**LEAST, **other} for other in others)):
            try:
                shown = repr(made(table, **changes))
            except ConfigError as error:
                shown = str(error) + repr(error)

            assert "Leak" not in shown

    def test_a_mistake_elsewhere_shows_none(self) -> None:
        """Where everything else is wrong, the good secrets are not shown."""
        proxy = f"http://user:{self.LEAK}@proxy:3128"
        wecom = {"proxy": proxy, "api_url": "x", "timeout": "x"}
        secrets = {"app_secret": self.LEAK, "signing_keys": [self.LEAK], "wecom": wecom}
        found = mistakes({"agent_id": "x", "site": 5, "nonsense": 1, **secrets})

        assert len(found) == 6
        assert "Leak" not in "".join(found)

    def test_the_tree_shows_none(self) -> None:
        """Printed settings show neither secret, keys nor the proxy's password."""
        config = made(app_secret=self.LEAK, signing_key=self.LEAK, wecom={"proxy": f"http://user:{self.LEAK}@proxy:3128"})

        assert "Leak" not in f"{config} {config!r} {warnings(config)}"
        assert config.app_secret.reveal() == self.LEAK


class TestWarnings:
    """What is allowed but worth a line in the log."""

    def test_a_good_configuration_has_none(self) -> None:
        """https and defaults: nothing to say."""
        assert warnings(made()) == []

    @pytest.mark.parametrize(
        "changes, warning",
        [
            ({"public_url": "http://erp"}, "site default: public_url is plain http"),
            ({"session": {"renew_after": "30s"}}, "session.renew_after: below a minute"),
            ({"recheck": {"every": "30s"}}, "recheck.every: below a minute"),
        ],
    )
    def test_what_is_risky_has_one(self, changes: dict[str, Any], warning: str) -> None:
        """Plain http and a very short renewal are warned about."""
        found = warnings(made(**changes))

        assert len(found) == 1
        assert found[0].startswith(warning)


class TestLeaving:
    """``[recheck]`` and ``[events]``."""

    KEY = "jWmYm7qr5nMoAUwZRjGtBxmz3KA1tkAj3ykkR6q2B2C"

    @pytest.mark.parametrize(
        "changes, found",
        [
            ({"recheck": {"every": "5s"}}, "recheck.every: 10s at least"),
            ({"recheck": {"per_minute": 0}}, "recheck.per_minute: 1 at least"),
            ({"recheck": {"unreachable": "open"}}, "recheck.unreachable: keep or close is needed"),
            ({"recheck": {"unreachable": "close", "every": 0}}, 'recheck.unreachable: "close" needs recheck.every'),
            ({"recheck": {"unreachable": "close", "grace": "5m"}}, "recheck.grace: shorter than recheck.every"),
            ({"events": {"token": "abc"}}, "events: token and aes_key are given together"),
            ({"events": {"token": "a-b", "aes_key": KEY}}, "events.token: at most 32 letters and digits"),
            ({"events": {"token": "abc", "aes_key": KEY[:-1]}}, "events.aes_key: 43 letters and digits"),
            ({"events": {"token": "abc", "aes_key_file": "/nowhere"}}, "events.aes_key_file: /nowhere cannot be read"),
            ({"events": {"token": "/etc/hostname", "aes_key": KEY}}, "events.token: this is the name of a file"),
        ],
        ids=str,
    )
    def test_mistakes(self, changes: dict[str, Any], found: str) -> None:
        """Each is told by the name of its setting, before anything runs."""
        assert any(line.startswith(found) for line in mistakes(**changes))

    def test_both_secrets_by_file_and_environment(self, tmp_path: Path) -> None:
        """Token and EncodingAESKey come from files or the environment as well, and the environment wins."""
        for name, text in (("token", "QDG6eK"), ("key", self.KEY)):
            (tmp_path / name).write_text(f"{text}\n")
        files = {"token_file": str(tmp_path / "token"), "aes_key_file": str(tmp_path / "key")}
        environment = {"WECOM_GATEWAY_EVENTS_TOKEN": "other", "WECOM_GATEWAY_EVENTS_AES_KEY_FILE": files["aes_key_file"]}

        from_files = made(events=files).events
        overruled = from_mapping({**LEAST, "events": files}, environment).events

        assert (from_files.token.reveal(), from_files.aes_key.reveal()) == ("QDG6eK", self.KEY)
        assert (overruled.token.reveal(), overruled.aes_key.reveal()) == ("other", self.KEY)
