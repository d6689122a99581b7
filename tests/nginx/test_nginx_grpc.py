"""gRPC: what a ``grpc_pass`` tells the application, by the file that README's command makes of ``identity.conf``."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.headers import NAMES
from tests.nginx.conftest import SNIPPETS, Nginx, as_json, http2_listen

README = Path(__file__).parents[2] / "README.md"
TOLD = ", ".join(f'"{name}": "$http_{name.replace("-", "_")}"' for name in sorted({*NAMES, "te", "cookie", "host"}))

CONFIG = f"""
server {{
    {http2_listen("unix:PREFIX/app.sock")}          # the application
    location / {{ return 200 '{{{TOLD}}}'; }}
}}
server {{
    listen LISTEN;
    server_name site.test;
    include wecom/gateway.conf;
    location / {{ include wecom/protect.conf; include grpc.conf; grpc_pass grpc://unix:PREFIX/app.sock; }}
    location /public/ {{ include wecom/public.conf; include grpc.conf; grpc_pass grpc://unix:PREFIX/app.sock; }}
    location /bare/ {{ include wecom/protect.conf; include wecom/identity.conf; grpc_pass grpc://unix:PREFIX/app.sock; }}
}}
"""

SESSION = "__Host-wecom_session=good"
FORGED = dict.fromkeys(NAMES, "forged")
"""By one spelling each: gRPC does not take a dash for an underscore."""


@pytest.fixture(scope="module")
def _nginx(start_nginx, tmp_path_factory) -> Nginx:
    folder = tmp_path_factory.mktemp("made") / "wecom"
    shutil.copytree(SNIPPETS, folder)
    (command,) = re.findall(r'"cd /etc/nginx/wecom && (sed .* > grpc\.conf)"', README.read_text("utf-8"))
    subprocess.run(["sh", "-c", command], cwd=folder, check=True)
    return start_nginx(CONFIG, files={"grpc.conf": (folder / "grpc.conf").read_text("utf-8")})


def test_a_member_is_announced(nginx) -> None:
    """Who it is arrives, with other cookies and the Host; our session and what a client invents do not."""
    told = as_json(nginx.get("/x", {**FORGED, "Cookie": f"a=1; {SESSION}"}))

    assert (told["x-wecom-userid"], told["x-wecom-name"]) == ("zhangsan", "%E5%BC%A0%E4%B8%89")
    assert (told["cookie"], told["host"], told["te"]) == ("a=1", "site.test", "")
    assert "forged" not in told.values()


def test_a_stranger_is_refused(nginx) -> None:
    """By the status that gRPC reads as UNAUTHENTICATED."""
    assert nginx.ask("POST", "/x", {"Content-Type": "application/grpc"}, body=b"").status == 401


@pytest.mark.parametrize("session", ["", SESSION], ids=["anonymous", "member"])
def test_in_public_nobody_is(nginx, session) -> None:
    """Beside public.conf the same file announces nobody."""
    told = as_json(nginx.get("/public/x", {**FORGED, "Cookie": session}))

    assert {value for name, value in told.items() if name in NAMES} | {told["cookie"]} == {""}


def test_without_it_anybody_is_whoever_they_say(nginx) -> None:
    """Why it is needed: `identity.conf` says nothing to a `grpc_pass`."""
    told = as_json(nginx.get("/bare/x", {"X-WeCom-UserId": "forged", "Cookie": SESSION}))

    assert (told["x-wecom-userid"], told["cookie"]) == ("forged", SESSION)
