"""Uploads: as large as the app's own location allows, never read by the check, never stored for a stranger."""

from __future__ import annotations

import pytest

CONFIG = """
server {
    listen LISTEN;
    server_name site.test;
    include wecom/gateway.conf;
    client_max_body_size 1m;
    location / { include wecom/protect.conf; include wecom/identity.conf; proxy_pass http://APP; }
    location /large/ {
        client_max_body_size 500m;
        include wecom/protect.conf; include wecom/identity.conf;
        proxy_pass http://APP;
    }
    location /streamed/ {
        client_max_body_size 0;
        proxy_request_buffering off;
        include wecom/protect.conf; include wecom/identity.conf;
        proxy_pass http://APP;
    }
    location /refused/ {
        client_max_body_size 500m;
        auth_request /_wecom/auth/user:lisi;
        include wecom/member.conf;
        proxy_pass http://APP;
    }
}
"""

MEGABYTE = 1024 * 1024
GOOD = {"Cookie": "__Host-wecom_session=good"}
CHUNKED = {"Transfer-Encoding": "chunked"}


def chunks(size: int) -> bytes:
    """*size* bytes in the chunked coding."""
    part = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    return part * (size // 65536) + b"0\r\n\r\n"


@pytest.mark.parametrize("where", ["/large/x", "/streamed/x"])
@pytest.mark.parametrize("coding", [{}, CHUNKED, {"Expect": "100-continue"}], ids=["length", "chunked", "expect"])
def test_a_member_s_fifty_megabytes_arrive(nginx, behind, where, coding) -> None:
    """A signed-in upload reaches the app whole; the check is asked without it, once."""
    size = 50 * MEGABYTE
    body = chunks(size) if coding == CHUNKED else b"x" * size
    answer = nginx.ask("POST", where, GOOD | coding, body=body)

    assert (answer.status, behind.app[0].length) == (200, size)
    assert [(check.method, check.length) for check in behind.checks] == [("GET", 0)]


@pytest.mark.parametrize("where, session", [("/large/x", ""), ("/streamed/x", ""), ("/refused/x", "good")])
@pytest.mark.parametrize("coding", [{}, CHUNKED], ids=["length", "chunked"])
def test_a_stranger_s_fifty_megabytes_are_refused_unstored(nginx, behind, where, session, coding) -> None:
    """A refused upload gets its page; nothing of it is written to disk, or anybody could fill it."""
    size = 50 * MEGABYTE
    before = len(nginx.log())
    body = chunks(size) if coding else b"x" * size
    answer = nginx.ask("POST", where, {"Cookie": f"__Host-wecom_session={session}"} | coding, body=body)

    assert answer.status == (403 if session else 401)
    assert answer.text == ("page rule" if session else "page no-session")
    assert behind.app == []
    assert "temporary file" not in nginx.log()[before:]


@pytest.mark.parametrize("attempt", range(10))
def test_a_refused_upload_always_gets_its_answer(nginx, attempt) -> None:
    """However the bytes fall, the refusal arrives: no reset, no 502."""
    assert nginx.ask("POST", "/large/x", body=b"x" * (attempt + 1) * MEGABYTE).status == 401


@pytest.mark.parametrize("session, status", [("good", 413), ("", 413)])
def test_a_location_s_own_limit_holds(nginx, behind, session, status) -> None:
    """`client_max_body_size` of the app's location refuses first, whoever asks."""
    answer = nginx.ask("POST", "/x", {"Cookie": f"__Host-wecom_session={session}"}, body=b"x" * 2 * MEGABYTE)

    assert (answer.status, behind.app) == (status, [])


def test_a_small_form_of_a_member_arrives(nginx, behind) -> None:
    """Ordinary forms pass."""
    nginx.ask("POST", "/x", GOOD, body=b"a=1")

    assert (behind.app[0].method, behind.app[0].length) == ("POST", 3)
