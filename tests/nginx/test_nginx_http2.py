"""The same over HTTP/2, where cookies come in pieces and bodies in frames; curl is the client."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.nginx.conftest import http2_listen
from tests.patience import PATIENCE_S


def http2_server(content: str) -> str:
    """A server that speaks HTTP/2 without TLS."""
    return f"server {{ {http2_listen('LISTEN')} server_name site.test; {content} }}"


CONFIG = http2_server(
    """
    client_max_body_size 100m;
    include wecom/gateway.conf;
    location / { include wecom/protect.conf; include wecom/identity.conf; proxy_pass http://APP; }
    location /public/ { include wecom/public.conf; proxy_pass http://APP; }
    """
)


@dataclass(frozen=True, slots=True)
class Curl:
    port: int
    folder: Path

    def __call__(self, uri: str, *headers: str, upload: int = 0, method: str = "") -> tuple[int, str]:
        """Ask over HTTP/2 and give status and body; *upload* bytes are posted."""
        command = [
            "curl",
            "-sS",
            "--http2-prior-knowledge",
            "-o",
            "-",
            "-w",
            "\n%{http_version} %{http_code}",
            "-m",
            f"{PATIENCE_S}",
        ]
        for header in ("Host: site.test", *headers):
            command += ["-H", header]
        if upload:
            content = self.folder / "upload"
            content.write_bytes(b"x" * upload)
            command += ["--data-binary", f"@{content}"]
        if method:
            command += ["-X", method]
        result = subprocess.run([*command, f"http://127.0.0.1:{self.port}{uri}"], capture_output=True, text=True, check=False)
        body, _, last = result.stdout.rpartition("\n")
        version, status = last.split()
        assert version == "2", result.stderr
        return int(status), body


@pytest.fixture
def curl(nginx, tmp_path) -> Callable[..., tuple[int, str]]:
    return Curl(nginx.port, tmp_path)


def test_a_stranger_is_sent_to_sign_in(curl, behind) -> None:
    """A navigation without session is led away, its URI intact."""
    status, _ = curl("/x?a=1&b=%26", "Accept: text/html")

    assert status == 302
    assert behind.pages[0].header("X-WeCom-Original-Uri") == "/x?a=1&b=%26"


@pytest.mark.parametrize(
    "cookies",
    [
        ["a=1; __Host-wecom_session=good; b=2"],
        ["a=1", "__Host-wecom_session=good", "b=2"],
        ["__Host-wecom_session=good", "a=1; b=2"],
    ],
    ids=["one header", "crumbs", "two"],
)
def test_the_session_is_found_and_taken_out_of_crumbs(curl, behind, cookies) -> None:
    """However the cookies are split, the member is known and the app gets the others."""
    status, _ = curl("/x", *(f"Cookie: {cookie}" for cookie in cookies))

    assert status == 200
    assert (behind.app[0].header("X-WeCom-UserId"), behind.app[0].header("Cookie")) == ("zhangsan", "a=1; b=2")


def test_a_forged_identity_does_not_arrive(curl, behind) -> None:
    """As over HTTP/1."""
    curl("/public/x", "X-WeCom-UserId: boss", "x-wecom-account: boss")

    assert not [name for name in behind.app[0].names if "wecom" in name]


def test_a_member_s_upload_arrives(curl, behind) -> None:
    """Twenty megabytes in frames."""
    size = 20 * 1024 * 1024
    assert curl("/x", "Cookie: __Host-wecom_session=good", upload=size)[0] == 200

    assert behind.app[0].length == size


def test_a_stranger_s_upload_is_refused_unstored(nginx, behind, tmp_path) -> None:
    """nginx answers whole and then resets the stream with NO_ERROR, which curl before 8 reports as an error of its own:
    so the log is asked, not curl. Nothing is written to disk.
    """
    before = len(nginx.log())
    (tmp_path / "upload").write_bytes(b"x" * 20 * 1024 * 1024)
    command = [
        "curl",
        "-s",
        "--http2-prior-knowledge",
        "-m",
        f"{PATIENCE_S}",
        "-H",
        "Host: site.test",
        "--data-binary",
        "@upload",
    ]
    subprocess.run([*command, f"http://127.0.0.1:{nginx.port}/large"], cwd=tmp_path, capture_output=True, check=False)
    subprocess.run(["curl", "-s", "--http2-prior-knowledge", f"http://127.0.0.1:{nginx.port}/_wecom/me"], check=True)

    assert '"POST /large HTTP/2.0" 401 ' in nginx.log("access")
    assert "temporary file" not in nginx.log()[before:]
    assert behind.app == []


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE", "FOO"])
def test_any_method_gets_its_refusal(curl, behind, method) -> None:
    """The login is asked by GET over HTTP/1.1 whatever comes in."""
    assert curl("/x", method=method)[0] == 401

    assert (behind.pages[0].method, behind.pages[0].header("X-WeCom-Method")) == ("GET", method)
