"""The location that nginx would choose, and the question before it; compared with a real nginx where it can be."""

from __future__ import annotations

import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.locations import CannotTell, find
from gateway.snippets import install
from tests.listening import listening
from tests.patience import PATIENCE_S

TREE = """
location = /exact { RULE1 }
location /a/ { RULE2
    location /a/deep/ { RULE3 }
    location ~ \\.php$ { RULE4 }
    location = /a/only { RULE5 }
}
location ^~ /static/ { RULE6
    location ~ \\.inner$ { RULE7 }
    location /static/x/ { RULE8 }
}
location ~ ^/re/(?<id>[0-9]+) { RULE9
    location ~ 7$ { RULE10 }
}
location ~* \\.(PHP|jpg)$ { RULE11 }
location / { RULE12 }
location ~ ^/zh/中文 { RULE13 }
location ^~/tight { RULE14 }
location @named { RULE15 }
"""
URIS = [
    "/",
    "/exact",
    "/exact/",
    "/exact?x=/a/",
    "/a/",
    "/a",
    "/a/b",
    "/a/deep/x",
    "/a/deep/x.jpg",
    "/a/x.php",
    "/a/deep/x.php",
    "/a/only",
    "/a/only.jpg",
    "/static/x.php",
    "/static/x.inner",
    "/static/x/y.inner",
    "/static/x/y.jpg",
    "/re/12",
    "/re/17",
    "/re/x",
    "/x.JPG",
    "//a//b",
    "/static/../a/b",
    "/a/./deep/../b",
    "/%61/deep/x",
    "/zh/%E4%B8%AD%E6%96%87",
    "/tight.php",
    "/nothing",
    "/a/..",
    "/re/%31",
]


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A real nginx whose every location answers its number, and the same tree with a rule in each."""
    folder = tmp_path_factory.mktemp("locations")
    listener = listening()
    port = listener.getsockname()[1]
    asking, answering = TREE, TREE
    for number in range(15, 0, -1):
        asking = asking.replace(f"RULE{number}", f"auth_request /_wecom/auth/user:u{number};")
        answering = answering.replace(f"RULE{number}", f"return 200 {number};")
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    head = f"pid {folder}/pid; daemon off; events {{}} http {{ {temporary} access_log off; server {{"
    (folder / "answer.conf").write_text(f"{head} listen 127.0.0.1:{port}; {answering} }} }}", "utf-8")
    (folder / "ask.conf").write_text(f"events {{}} http {{ server {{ {asking} }} }}", "utf-8")
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    assert nginx is not None
    process = subprocess.Popen(
        [nginx, "-e", str(folder / "error.log"), "-c", str(folder / "answer.conf")],
        env=os.environ | {"NGINX": f"{listener.fileno()};"},
        pass_fds=[listener.fileno()],
    )
    listener.close()
    yield f"http://127.0.0.1:{port}", folder / "ask.conf"
    process.terminate()
    process.wait(PATIENCE_S)


@pytest.mark.parametrize("uri", URIS)
def test_the_location_is_nginxs(real: tuple[str, Path], uri: str) -> None:
    """The location found is the one that a real nginx answers from."""
    url, conf = real
    with urllib.request.urlopen(url + uri, timeout=PATIENCE_S) as answer:
        number = answer.read().decode()

    assert find(conf, uri).rule == f"user:u{number}"


SITE = """
events {}
http {
    auth_request /_wecom/auth/leader;
    include sites/*.conf;
    server { server_name open.example.com; auth_request off; location / { } }
}
"""
OA = """
server {
    server_name oa.example.com *.oa.example.com;
    rewrite ^/old/ /new/;
    location / { }
    location /finance/ { auth_request "/_wecom/auth/department:12,15/财务"; location /finance/public/ { auth_request off; } }
    location /bare/ { auth_request /_wecom/auth; }
    location /other/ { auth_request /auth.php; }
    location /done/ { return 200 x; satisfy any; }
    location /slash/ { auth_request /_wecom/auth/; }
    location /percent/ { auth_request /_wecom/auth/department%3A12; }
}
server { server_name ~^(?<who>[a-z]+)\\.people\\.example\\.com$ www.*; location / { } }
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "sites").mkdir()
    (tmp_path / "sites" / "oa.conf").write_text(OA, "utf-8")
    (tmp_path / "nginx.conf").write_text(SITE, "utf-8")
    return tmp_path / "nginx.conf"


@pytest.mark.parametrize(
    "uri, host, rule",
    [
        ("/", "oa.example.com", "leader"),
        ("/finance/x?y=1", "oa.example.com", "department:12,15/财务"),
        ("/finance/public/x", "oa.example.com", None),
        ("/bare/", "OA.example.com", ""),
        ("/other/", "a.oa.example.com", None),
        ("/slash/", "oa.example.com", "/"),
        ("/percent/", "oa.example.com", "department%3A12"),
        ("/", "open.example.com", None),
        ("/", "zhang.people.example.com", "leader"),
        ("/", "www.example.org", "leader"),
    ],
)
def test_the_question_in_force(site: Path, uri: str, host: str, rule: str | None) -> None:
    """``auth_request`` is inherited from http and server, ``off`` ends it; includes and server names are followed."""
    assert find(site, uri, host).rule == rule


def test_the_place_is_told(site: Path) -> None:
    """The answer names file and line, and what may make nginx answer otherwise."""
    found = find(site, "/done/x", "oa.example.com")

    assert found.location == f"location /done/ ({site.parent}/sites/oa.conf:9)"
    assert find(site, "/", "open.example.com:8443").location == f"location / ({site}:6)"
    assert found.server.startswith("server oa.example.com *.oa.example.com (")
    notes = ["wecom/gateway.conf is not included in this server", "rewrite ^/old/ /new/", "return 200 x", "satisfy any"]
    assert [note.partition(" (")[0] for note in found.notes] == notes


PORTS = """
events {}
http {
    server { listen 80; listen [::]:80; server_name oa.example.com; return 301 https://$host$request_uri; }
    server { listen 443 ssl; server_name oa.example.com; location / { auth_request /_wecom/auth/leader; } }
    server { listen 10.0.0.1:443 ssl; server_name wiki.example.com; location / { auth_request /_wecom/auth; } }
    server { server_name wiki.example.com; location / { } }
    server { listen 8443 ssl; server_name wiki.example.com; location / { auth_request off; } }
    server { listen 127.0.0.1:8080; location / { auth_request /_wecom/auth/tag:7; } }
    server { listen 443 ssl; server_name *.example.com; location / { } }
    server { listen 81; server_name x.example.com; location / { } }
}
"""


@pytest.mark.parametrize(
    "host, line, twins",
    [
        ("oa.example.com", 5, []),
        ("oa.example.com:80", 4, []),
        ("OA.example.com:443", 5, []),
        ("oa.example.com:9443", 5, []),
        ("wiki.example.com", 6, ["server wiki.example.com:80 (7)", "server wiki.example.com:8443 (8)"]),
        ("wiki.example.com:9443", 6, ["server wiki.example.com:80 (7)", "server wiki.example.com:8443 (8)"]),
        ("wiki.example.com:443", 6, []),
        ("wiki.example.com:80", 7, []),
        ("wiki.example.com:8443", 8, []),
        ("x.example.com", 11, ["server *.example.com:443 (10)"]),
        (":8080", 9, []),
        ("old.internal:8080", 9, []),
    ],
)
def test_a_name_on_several_ports(tmp_path: Path, host: str, line: int, twins: list[str]) -> None:
    """Each port is a server of its own; without a port the one that asks is shown, and whoever else would answer is named."""
    (tmp_path / "nginx.conf").write_text(PORTS)
    found = find(tmp_path / "nginx.conf", "/x", host)

    assert found.server.endswith(f"nginx.conf:{line})")
    told = [note.partition(" answers ")[0] for note in found.notes if "by rules of its own" in note]
    assert [note.replace(f"{tmp_path}/nginx.conf:", "") for note in told] == twins


@pytest.mark.parametrize("sites, twin", [("", True), ("return 301 https://oa;", False)], ids=["open", "redirects"])
def test_port_80_s_default_is_a_twin(tmp_path: Path, sites: str, twin: bool) -> None:
    """Whoever listens on 80 by default answers the protected site's name there, too, unless all it does is redirect."""
    default = f"server {{ listen 80 default_server; {sites} location / {{ }} }} server {{ server_name b; return 404; }}"
    asking = "server { listen 443 ssl; server_name oa; location / { auth_request /_wecom/auth; } }"
    (tmp_path / "nginx.conf").write_text(f"events {{}}\nhttp {{ {asking} {default} }}")
    found = find(tmp_path / "nginx.conf", "/x")

    assert found.rule == ""
    assert any(note.endswith("answers oa:80, by rules of its own: --host oa:80") for note in found.notes) is twin


REWRITES = "if (!-e $request_filename) { rewrite ^ /index.php last; } rewrite ^/a /b; if ($host) { set $x 1; }"


@pytest.mark.parametrize("above, open_", [(True, 2), (False, 0)], ids=["above", "below"])
def test_a_rewrite_above_gateway_conf_is_a_danger(tmp_path: Path, above: bool, open_: int) -> None:
    """Each that may answer the check with a page of the server is named with its place; below the include there is none."""
    list(install(tmp_path / "wecom", None))
    parts = [REWRITES, "include wecom/gateway.conf;"][:: 1 if above else -1]
    server = f"server {{ {' '.join(parts)} location / {{ include wecom/protect.conf; }} }}"
    (tmp_path / "nginx.conf").write_text("events {}\nhttp {\n" + server + " }")
    found = [note for note in find(tmp_path / "nginx.conf", "/x").notes if "everybody is in; move it below the include" in note]

    assert len(found) == open_
    assert all(f"({tmp_path}/nginx.conf:3) stands above gateway.conf: " in note for note in found)


@pytest.mark.parametrize("asked, noted", [("auth_request /_wecom/auth;", True), ("auth_request off;", False), ("", False)])
def test_a_server_without_gateway_conf_is_a_danger(tmp_path: Path, asked: str, noted: bool) -> None:
    """The line alone, pasted without the include, asks the site's own pages: they may say yes."""
    (tmp_path / "nginx.conf").write_text(f"events {{}}\nhttp {{ server {{ location / {{ {asked} }} }} }}")
    told = f"wecom/gateway.conf is not included in this server ({tmp_path}/nginx.conf:2): "

    assert [note.startswith(told) for note in find(tmp_path / "nginx.conf", "/x").notes] == [True] * noted


@pytest.mark.parametrize("asked, noted", [("/wecom/auth/leader", True), ("/_wecom/aut", True), ("/ldap", False)])
def test_a_misspelt_question_is_a_danger(tmp_path: Path, asked: str, noted: bool) -> None:
    """What is nearly our question is the site's own page; another service's question is not our business."""
    server = f"server {{ location / {{ auth_request {asked}; }} }}"
    (tmp_path / "nginx.conf").write_text(f"events {{}}\nhttp {{ {server} }}")
    told = f"auth_request {asked} is not /_wecom/auth, if that is meant: "

    assert [note.startswith(told) for note in find(tmp_path / "nginx.conf", "/x").notes] == [True] * noted


def test_the_snippets_are_not_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the shipped snippets do by themselves is no note, also where nginx.conf is named by a relative path."""
    list(install(tmp_path / "wecom", None))
    server = "server { include wecom/gateway.conf; location / { auth_request /_wecom/auth/leader; include wecom/member.conf; } }"
    (tmp_path / "nginx.conf").write_text("events {}\nhttp { " + server + " }")
    monkeypatch.chdir(tmp_path)

    for path in (Path("nginx.conf"), tmp_path / "nginx.conf"):
        found = find(path, "/a/b")
        assert found.rule == "leader"
        assert found.notes == ()


@pytest.mark.parametrize(
    "text, uri, host, told",
    [
        (SITE, "/", "", "several servers; say --host: "),
        (SITE, "/", "nobody.example.com", "no server is named 'nobody.example.com'"),
        (SITE, "finance", "oa.example.com", "begins with a slash"),
        ("events {}\nhttp { server {", "/", "", "nginx.conf"),
        ("events {}", "/", "", "no server block"),
        ("events {}\nhttp { server { location ~ ^(?R)$ { } } }", "/", "", "cannot be read here"),
        ("events {}\nhttp { include gone.conf; }", "/", "", "gone.conf"),
        ("events {}\nhttp { include nginx.conf; }", "/", "", "includes itself"),
        ("events {}\nhttp { server { # 财务\n location /财务/ { } location / { } } }", "/x", "", "nginx.conf:3) is not UTF-8"),
    ],
)
def test_what_cannot_be_told(site: Path, text: str, uri: str, host: str, told: str) -> None:
    """A file that cannot be read, or more than one answer, is said, with what to do."""
    site.write_text(text, "gbk" if "UTF-8" in told else "utf-8")

    with pytest.raises(CannotTell) as caught:
        find(site, uri, host)
    assert told in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A wrong path is said."""
    with pytest.raises(CannotTell, match="No such file"):
        find(tmp_path / "nginx.conf", "/")
