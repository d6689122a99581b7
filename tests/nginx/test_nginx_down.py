"""The gateway is down, in part or whole: everything is closed, and said kindly."""

from __future__ import annotations

import pytest

SERVER = """
include /etc/nginx/mime.types;
server {
    listen LISTEN;
    server_name site.test;
    root PREFIX/www;
    error_page 500 502 503 504 =200 /maintenance.html;
    error_page 401 403 =200 /maintenance.html;
    recursive_error_pages on;
    add_header X-Operator yes always;
    include wecom/gateway.conf;
    location = /maintenance.html { }
    location /open/ { alias PREFIX/www/; }
    location /broken/ { include wecom/protect.conf; proxy_pass $arg_nowhere; }
    location /files/ { include wecom/protect.conf; alias PREFIX/www/; }
    location / { include wecom/protect.conf; include wecom/identity.conf; proxy_pass http://APP; }
}
server {
    listen LISTEN;
    server_name whole.test;
    include wecom/gateway.conf;
    include wecom/protect.conf;
    location / { root PREFIX/www; }
}
"""

NAIVE = """
server {
    listen LISTEN;
    server_name site.test;
    root PREFIX/www;
    error_page 500 502 503 504 =200 /maintenance.html;
    location = /maintenance.html { }
    location ^~ /_wecom/auth { internal; proxy_pass http://wecom_check; }
    location /files/ { auth_request /_wecom/auth; alias PREFIX/www/; }
}
"""

FILES = {"www/page": "PAGE", "www/maintenance.html": "MAINTENANCE"}
NOBODY = 1  # a port that nothing listens on
SESSIONS = pytest.mark.parametrize("session", ["", "good", "forged"], ids=["anonymous", "member", "forged"])


@pytest.fixture(scope="module")
def _nginxes(start_nginx):
    return {
        "check": start_nginx(SERVER, files=FILES, check=NOBODY),
        "pages": start_nginx(SERVER, files=FILES, pages=NOBODY),
        "both": start_nginx(SERVER, files=FILES, check=NOBODY, pages=NOBODY),
        "naive": start_nginx(NAIVE, files=FILES, check=NOBODY),
    }


@pytest.fixture
def down(_nginxes, behind):
    """The nginx whose gateway lacks ``check``, ``pages`` or ``both``."""
    return _nginxes.__getitem__


def is_kind(answer) -> bool:
    """The page of down.conf, not to be kept, not framed by the operator's headers."""
    return (
        answer.status == 503
        and "登录服务暂时不可用" in answer.text
        and "sign-in service is not available" in answer.text
        and answer.all("Content-Type") == ["text/html; charset=utf-8"]
        and answer.all("Cache-Control") == ["no-store"]
        and answer.all("Retry-After") == ["10"]
        and not answer.all("X-Operator")
    )


def test_the_hole_is_real(down) -> None:
    """With a plain check location an inherited `error_page 502 =200` lets everybody in while the gateway is down."""
    assert down("naive").get("/files/page").text == "PAGE"


@SESSIONS
@pytest.mark.parametrize("missing", ["check", "both"])
@pytest.mark.parametrize("uri", ["/files/page", "/x", "/files/none", "/files/page.pdf", "/x.css"])
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD"])
def test_without_the_check_nobody_gets_in(down, behind, missing, session, uri, method) -> None:
    """Nobody passes, member or not; the page says that the service is not available."""
    answer = down(missing).ask(method, uri, {"Cookie": f"__Host-wecom_session={session}"})

    assert is_kind(answer) if method != "HEAD" else (answer.status, answer.body) == (503, b"")
    assert behind.app == []


@SESSIONS
@pytest.mark.parametrize("missing", ["check", "both"])
def test_a_wholly_protected_server_does_not_loop(down, missing, session) -> None:
    """The kind page is not itself behind the check."""
    answer = down(missing).get("/page", {"Cookie": f"__Host-wecom_session={session}"}, host="whole.test")

    assert is_kind(answer)


@pytest.mark.parametrize("uri", ["/files/page", "/x"])
@pytest.mark.parametrize("session", ["", "forged"])
def test_without_the_pages_a_stranger_gets_the_kind_page(down, behind, uri, session) -> None:
    """A sign-in that cannot be shown is 503, never the operator's 200."""
    assert is_kind(down("pages").get(uri, {"Cookie": f"__Host-wecom_session={session}"}))

    assert behind.app == []


def test_without_the_pages_members_keep_working(down, behind) -> None:
    """Who is signed in does not need them."""
    assert down("pages").get("/files/page", {"Cookie": "__Host-wecom_session=good"}).text == "PAGE"


def test_a_site_s_own_500_is_its_own(down) -> None:
    """The gateway has answered, so its page does not say that it has not."""
    answer = down("pages").get("/broken/", {"Cookie": "__Host-wecom_session=good"})

    assert (answer.status, "Internal Server Error" in answer.text) == (500, True)


@pytest.mark.parametrize("missing", ["pages", "both"])
@pytest.mark.parametrize("uri", ["/_wecom/me", "/_wecom/login", "/_wecom/callback/x", "/WW_verify_x.txt"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_our_pages_are_kind_as_well(down, missing, uri, method) -> None:
    """The pages themselves answer 503 with the same page."""
    assert is_kind(down(missing).ask(method, uri))


@pytest.mark.parametrize("missing", ["check", "pages", "both"])
def test_unprotected_pages_stay(down, missing) -> None:
    """What needs no sign-in needs no gateway."""
    assert down(missing).get("/open/page").text == "PAGE"


def test_the_kind_page_asks_the_internet_for_nothing(down) -> None:
    """It holds no address at all, and its policy would load none."""
    answer = down("both").get("/files/page")

    assert "http" not in answer.text
    assert answer.header("Content-Security-Policy") == "default-src 'none'; style-src 'unsafe-inline'"


@pytest.mark.parametrize("missing", ["check", "pages", "both"])
def test_an_upload_is_answered_too(down, behind, missing) -> None:
    """Fifty megabytes sent to a gateway that is down get the kind page."""
    answer = down(missing).ask("POST", "/x", body=b"x" * 500_000)

    assert is_kind(answer)
    assert behind.app == []
