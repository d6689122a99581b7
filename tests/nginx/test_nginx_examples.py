"""The shipped files themselves: examples that work, headers that help, mistakes that `nginx -t` refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.examples import EXAMPLES
from tests.headers import NAMES, spellings

SNIPPETS = Path(__file__).resolve().parents[2] / "nginx"
FILES = sorted(SNIPPETS.rglob("*.conf"))
USUAL = "include wecom/gateway.conf; location / { include wecom/protect.conf; include wecom/identity.conf; }"


@pytest.fixture
def trial(tmp_path, try_nginx):
    """Give what ``nginx -t`` says of a server with *content*; the empty string when it is content."""

    def run(content: str, *, http: str = "") -> str:
        server = f"server {{ listen LISTEN; {content} }}"
        return try_nginx(tmp_path, http + server)

    return run


class TestFiles:
    """Each file says what it is for, where it belongs and what is dangerous about it."""

    @pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
    def test_opens_with_its_header(self, path) -> None:
        """A Chinese line, an English one, then context, needs, dangers, links."""
        header = re.match(r"(?:#.*\n)+", path.read_text("utf-8"))
        assert header

        lines = header.group().splitlines()
        assert re.search("[一-鿿]", lines[0])
        assert lines[1].isascii()
        positions = [header.group().find(f"# {word}:") for word in ("Context", "Needs", "Dangers", "Links")]
        assert -1 < positions[0] < positions[1] < positions[2] < positions[3]

    @pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
    def test_every_variable_has_a_default(self, path) -> None:
        """Every $wecom_ variable is a map's, so that no server fails for one that it does not fill."""
        known = "".join((SNIPPETS / name).read_text("utf-8") for name in ("http.conf", "upstream.conf", "down.conf"))
        used = set(re.findall(r"\$(wecom_[a-z0-9_]+)", path.read_text("utf-8")))

        mapped = set(re.findall(r"^map .*\$(wecom_[a-z_]+) \{", known, re.MULTILINE))
        captured = set(re.findall(r"\?<(wecom_[a-z]+)>", known))
        own = {"wecom_brought", "wecom_captures", "wecom_primed", "wecom_cache"}
        assert used - mapped - captured - own == set()

    @pytest.mark.parametrize("snippet", ["identity.conf", "public.conf"])
    @pytest.mark.parametrize("name", sorted(NAMES))
    def test_every_spelling_is_set(self, name, snippet) -> None:
        """Each name of ours is set once towards the app or emptied, and each other spelling of it emptied."""
        text = (SNIPPETS / snippet).read_text("utf-8")
        lines = dict(re.findall(r"^proxy_set_header (X[-_]WeCom[-_][\w-]+) (\S+);", text, re.MULTILINE))
        found = {spelling: value for spelling, value in lines.items() if spelling.replace("_", "-").lower() == name}

        assert {spelling.lower() for spelling in found} == {*spellings(name)}
        assert {value for spelling, value in found.items() if "_" in spelling} == {'""'}

    @pytest.mark.parametrize("name, directive", [("fastcgi.conf", "fastcgi_param"), ("uwsgi.conf", "uwsgi_param")])
    def test_cgi_s_names_are_those_of_the_headers(self, name, directive) -> None:
        """What identity.conf sends as a header, these send under CGI's name for it, and nothing where it is empty."""
        identity, text = ((SNIPPETS / each).read_text("utf-8") for each in ("identity.conf", name))
        sent = re.findall(r"^proxy_set_header X-WeCom-([\w-]+) (\S+);", identity, re.MULTILINE)
        told = {header.upper().replace("-", "_"): value for header, value in sent if "_" not in header}

        lines = re.findall(rf"^{directive} HTTP_X_WECOM_(\w+) (?:(\$\S+) if_not_empty|(\"\"));", text, re.MULTILINE)
        assert {header: variable or empty for header, variable, empty in lines} == told
        for line in ("REMOTE_USER $wecom_account;", "HTTP_COOKIE $wecom_cookie;", "HTTP_AUTHORIZATION $wecom_authorization;"):
            assert text.count(f"\n{directive} {line}\n") == 1

    def test_the_down_page_fits_nginx_s_string(self) -> None:
        """nginx refuses strings beyond 4096 bytes."""
        page = (SNIPPETS / "down.conf").read_text("utf-8").partition("default '")[2].rpartition("'")[0]

        assert "<!doctype html>" in page
        assert len(page.encode()) < 4000
        assert "$" not in page


class TestExamples:
    """Whole sites, as shipped."""

    @pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
    def test_is_valid_as_shipped(self, tmp_path, try_nginx, path) -> None:
        """Included into http beside the snippets it is accepted without a warning."""
        assert try_nginx(tmp_path, example(path, tmp_path)) == ""

    def test_static_site(self, start_nginx, behind) -> None:
        """Strangers sign in, members read, pictures and the error page are for everybody, the folder has its rule."""
        (path,) = [each for each in EXAMPLES if each.name == "static-site.conf"]
        files = {"docs/a.html": "DOCS", "docs/images/i.png": "PNG", "docs/404.html": "MISSING", "docs/finance/f": "FINANCE"}
        nginx = start_nginx(example(path, "PREFIX"), files=files)
        member = {"Cookie": "__Host-wecom_session=good"}

        def seen(uri: str, **headers: str) -> tuple[int, str]:
            answer = nginx.get(uri, headers, host="docs.example.com")
            return answer.status, answer.text

        assert seen("/a.html")[0] == 401
        assert seen("/a.html", **member) == (200, "DOCS")
        assert seen("/images/i.png") == (200, "PNG")
        assert seen("/none", **member) == (404, "MISSING")
        assert seen("/none")[0] == 401
        assert seen("/404.html")[0] == 404
        assert seen("/finance/f", **member) == (403, "page rule")

    def test_legacy_app(self, start_nginx, behind) -> None:
        """The app learns the member; its rule, its public folder and its health check work."""
        (path,) = [each for each in EXAMPLES if each.name == "legacy-app.conf"]
        nginx = start_nginx(example(path, "PREFIX"))
        member = {"Cookie": "__Host-wecom_session=good", "X-WeCom-UserId": "forged"}

        statuses = [nginx.get(uri, headers, host="oa.example.com").status for uri, headers in (
            ("/x", {}), ("/x", member), ("/public/x", member), ("/healthz", {}), ("/finance/x", member),
        )]  # fmt: skip

        assert statuses == [401, 200, 200, 200, 403]
        assert [app.header("X-WeCom-UserId") for app in behind.app] == ["zhangsan", None, None]


def example(path: Path, prefix: Path | str) -> str:
    """The example with this machine's port, folders and app in place of the operator's."""
    text = path.read_text("utf-8")
    places = {"listen 80;": "listen LISTEN;", "/var/log/nginx/": f"{prefix}/", "/var/www/": f"{prefix}/", "127.0.0.1:3000": "APP"}
    for old, new in places.items():
        text = text.replace(old, new)
    return text


class TestMistakes:
    """What an operator may get wrong, and nginx finds by itself."""

    def test_the_usual_server_is_accepted(self, trial) -> None:
        """The include lines of the README pass without a warning."""
        assert trial(USUAL) == ""

    def test_the_log_format_needs_no_protected_location(self, trial) -> None:
        """log_format wecom is usable in a server that protects nothing."""
        assert trial("access_log off; location / { return 204; }") == ""

    @pytest.mark.parametrize(
        "content, complaint",
        [
            ("include wecom/gateway.conf; include wecom/gateway.conf;", "duplicate location"),
            ("include wecom/gateway.conf; location / { include wecom/protect.conf; include wecom/protect.conf; }", "duplicate"),
            ("include wecom/gateway.conf; location / { include wecom/protect.conf; include wecom/public.conf; }", "duplicate"),
            ("location / { if ($host) { include wecom/protect.conf; } }", "not allowed here"),
            ("location / { limit_except GET { include wecom/protect.conf; } }", "not allowed here"),
            ("location / { include wecom/protect.conf; proxy_intercept_errors on; }", "duplicate"),
            ("location / { include wecom/identity.conf; proxy_http_version 1.1; }", "duplicate"),
        ],
        ids=["gateway twice", "protect twice", "protect and public", "if", "limit_except", "intercept", "version twice"],
    )
    def test_a_contradiction_is_refused(self, trial, content, complaint) -> None:
        """nginx -t names the line."""
        assert complaint in trial(content)

    def test_wants_its_maps(self, tmp_path, try_nginx) -> None:
        """gateway.conf without http.conf does not start: no variable is silently empty."""
        assert "unknown" in try_nginx(tmp_path, "server { include wecom/gateway.conf; }", without="include wecom/http.conf;")

    @pytest.mark.parametrize(
        "http",
        [
            "proxy_buffer_size 4k; proxy_buffers 8 4k; proxy_busy_buffers_size 8k; proxy_temp_file_write_size 8k;",
            "proxy_buffer_size 128k; proxy_buffers 4 256k; proxy_busy_buffers_size 256k; proxy_temp_file_write_size 512k;",
            "proxy_headers_hash_max_size 512; proxy_headers_hash_bucket_size 64;",
            "client_max_body_size 1k; proxy_cache_use_stale updating; proxy_cache_lock on;",
        ],
    )
    def test_tuning_for_the_whole_of_http_is_no_trouble(self, trial, http) -> None:
        """Values set for all servers neither fail the test nor draw a warning."""
        assert trial(USUAL, http=http) == ""
