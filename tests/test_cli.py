"""The command line: what each command prints and how it exits."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from gateway import __version__
from gateway.loading import load
from tests.conftest import free_port
from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[1]
SETTINGS = """
corp_id = "ww0123456789abcdef"
agent_id = 1000002
app_secret = "not-a-real-secret"
signing_key = "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
{site}
[listen]
check = "127.0.0.1:19180"
pages = "unix:/run/wecom-gateway/pages.sock"
"""
ONE_SITE = 'public_url = "https://oa.example.com"'


def wecom_gateway(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a shell would."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WECOM_GATEWAY_")}
    return subprocess.run(
        [sys.executable, "-m", "gateway", *map(str, arguments)],
        cwd=ROOT, env=inherited | environment, capture_output=True, text=True, encoding="utf-8", timeout=PATIENCE_S,
    )  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(SETTINGS.format(site=ONE_SITE))
    return path


def test_keygen_prints_a_key_that_the_settings_accept(tmp_path: Path) -> None:
    """Each call prints another key, good as a signing key as it is."""
    first, second = (wecom_gateway("keygen").stdout.strip() for _ in range(2))
    path = tmp_path / "gateway.toml"
    path.write_text(re.sub("signing_key = .*", f'signing_key = "{first}"', SETTINGS.format(site=ONE_SITE)))

    assert first != second
    assert load(path, {}).signing_keys[0].reveal() == first


def test_check_says_what_to_register(settings: Path) -> None:
    """Good settings: exit 0, each site with its cookie's name, and the callback host."""
    found = wecom_gateway("check", "--config", settings)

    assert (found.returncode, found.stderr) == (0, "")
    assert "site default: https://oa.example.com, cookie __Host-wecom_session, hosts oa.example.com" in found.stdout
    assert "callback host: oa.example.com" in found.stdout


def test_the_environment_names_the_settings_too(settings: Path) -> None:
    """WECOM_GATEWAY_CONFIG stands for ``--config``."""
    assert wecom_gateway("check", WECOM_GATEWAY_CONFIG=str(settings)).returncode == 0


def test_check_warns_of_plain_http(tmp_path: Path) -> None:
    """What is allowed but unwise is a warning, and still exit 0."""
    path = tmp_path / "gateway.toml"
    path.write_text(SETTINGS.format(site='public_url = "http://oa.internal"'))
    found = wecom_gateway("check", "--config", path)

    assert found.returncode == 0
    assert found.stderr.startswith("warning: site default: public_url is plain http")


def test_check_lists_every_mistake_at_once(tmp_path: Path) -> None:
    """Bad settings: exit 1, one line for each mistake with the setting's name, no traceback, no secret."""
    path = tmp_path / "gateway.toml"
    path.write_text(
        'agent_id = "many"\napp_secret = "kept secret from you"\nsigning_key = "tooshort-tooshort"\n'
        'public_url = "oa.example.com"\nscop = "snsapi_base"\n[session]\nlifetime = "soon"\n'
    )
    found = wecom_gateway("check", "--config", path)

    lines = found.stderr.splitlines()
    assert (found.returncode, found.stdout) == (1, "")
    assert all(line.startswith("settings: ") for line in lines)
    for name in ("corp_id", "agent_id", "app_secret", "signing_keys", "public_url", "scop", "session.lifetime"):
        assert [line for line in lines if name in line], name
    assert "kept secret" not in found.stderr
    assert "tooshort" not in found.stderr


@pytest.mark.parametrize("text", ["corp_id = ", b"corp_id = '\xff'", None], ids=["no-toml", "no-utf-8", "no-file"])
def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, text: str | bytes | None) -> None:
    """A missing file, one that is not TOML and one that is not UTF-8 are each one line with the file's name, exit 1."""
    path = tmp_path / "gateway.toml"
    if text is not None:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    found = wecom_gateway("serve", "--config", path)

    assert found.returncode == 1
    assert found.stderr.startswith(f"settings: {path}: ")
    assert len(found.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [("servee",), ("serve", "--port", "1"), ("nginx", "install"), ("demo", "--port", "0")])
def test_a_usage_error_exits_2(arguments: tuple[str, ...]) -> None:
    """An unknown command or option, a missing argument and a value out of range exit 2 and show the usage."""
    found = wecom_gateway(*arguments)

    assert found.returncode == 2
    assert found.stderr.startswith("Usage: ")


@pytest.mark.parametrize("command", ["serve", "check", "keygen", "nginx", "sandbox", "demo"])
def test_every_command_explains_itself(command: str) -> None:
    """``--help`` of the whole lists each command, and each answers ``-h`` by itself."""
    assert re.search(rf"^  {command}  ", wecom_gateway("--help").stdout, re.MULTILINE)
    assert wecom_gateway(command, "-h").returncode == 0


def test_nginx_install_writes_every_snippet(tmp_path: Path) -> None:
    """All files of the checkout's ``nginx/`` are written as they are, and each is named."""
    found = wecom_gateway("nginx", "install", tmp_path / "wecom")

    shipped = {path.relative_to(ROOT / "nginx"): path.read_bytes() for path in (ROOT / "nginx").rglob("*.conf")}
    written = {path.relative_to(tmp_path / "wecom"): path.read_bytes() for path in (tmp_path / "wecom").rglob("*.conf")}
    assert found.returncode == 0
    assert written == shipped
    assert set(found.stdout.splitlines()) == {str(tmp_path / "wecom" / path) for path in shipped}


def test_nginx_install_keeps_what_the_operator_edited(tmp_path: Path) -> None:
    """Without settings an ``upstream.conf`` that is there stays; the other files are brought up to date."""
    wecom_gateway("nginx", "install", tmp_path)
    (tmp_path / "upstream.conf").write_text("# mine\n")
    (tmp_path / "protect.conf").write_text("# old\n")
    found = wecom_gateway("nginx", "install", tmp_path)

    assert (tmp_path / "upstream.conf").read_text() == "# mine\n"
    assert (tmp_path / "protect.conf").read_bytes() == (ROOT / "nginx" / "protect.conf").read_bytes()
    assert str(tmp_path / "upstream.conf") not in found.stdout


def test_nginx_install_keeps_the_cache_s_path_and_examples(tmp_path: Path) -> None:
    """So a new release changes no site that is an example edited in its place, and no path that keeps two nginx apart."""
    wecom_gateway("nginx", "install", tmp_path)
    cache, example = tmp_path / "cache.conf", tmp_path / "examples" / "php.conf"
    mine = cache.read_text("utf-8").replace("_path /run/wecom-cache", "_path /run/other")
    cache.write_text(mine.replace("inactive=10m", "inactive=11m"), "utf-8")
    example.write_text("# mine\n")
    found = wecom_gateway("nginx", "install", tmp_path)

    assert cache.read_text("utf-8") == mine
    assert "_path /run/other" in mine
    assert example.read_text() == "# mine\n"
    assert str(example) not in found.stdout


@pytest.mark.parametrize("command", ["install", "check"])
@pytest.mark.parametrize("name, why", [("nginx", "nginx's own folder"), ("nginx/conf.d", "whole sites")])
def test_nginx_install_leaves_nginx_s_own_files_alone(tmp_path: Path, command: str, name: str, why: str) -> None:
    """nginx's ``fastcgi.conf`` is not ours to write, or to recommend writing; the folder that is meant is named."""
    (tmp_path / "nginx" / "conf.d").mkdir(parents=True)
    (tmp_path / "nginx" / "nginx.conf").touch()
    (tmp_path / "nginx" / "fastcgi.conf").write_text("# nginx's\n")
    found = wecom_gateway("nginx", command, tmp_path / name)

    assert found.returncode == 1
    assert why in found.stderr
    assert found.stderr.endswith(f": {tmp_path}/nginx/wecom\n")
    assert sorted(path.name for path in (tmp_path / "nginx").rglob("*")) == ["conf.d", "fastcgi.conf", "nginx.conf"]
    assert (tmp_path / "nginx" / "fastcgi.conf").read_text() == "# nginx's\n"


def test_nginx_install_where_nothing_can_be_written(tmp_path: Path) -> None:
    """One line that names the file and why."""
    (tmp_path / "cache.conf").mkdir()
    found = wecom_gateway("nginx", "install", tmp_path)

    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr == f"Error: {tmp_path}/cache.conf: cannot be read or written: Is a directory\n"


def test_nginx_check_finds_what_is_not_ours(tmp_path: Path) -> None:
    """A snippet of another version and a missing one are named, with what renews them; what is the operator's is not."""
    wecom_gateway("nginx", "install", tmp_path)
    cache = (tmp_path / "cache.conf").read_text("utf-8")
    (tmp_path / "cache.conf").write_text(cache.replace("_path /run/wecom-cache", "_path /run/other"), "utf-8")
    (tmp_path / "upstream.conf").write_text("# mine\n")
    (tmp_path / "examples" / "php.conf").write_text("# mine\n")
    fine = wecom_gateway("nginx", "check", tmp_path)
    (tmp_path / "cache.conf").write_text(cache.replace("inactive=10m", "inactive=11m"), "utf-8")
    (tmp_path / "member.conf").write_text("# old\n")
    (tmp_path / "pages.conf").unlink()
    found = wecom_gateway("nginx", "check", tmp_path)

    assert (fine.returncode, fine.stdout) == (0, f"{tmp_path}: the snippets of this gateway, version {__version__}\n")
    assert found.returncode == 1
    assert found.stderr.splitlines() == [
        f"Error: {tmp_path}/cache.conf: is not the one that belongs to this gateway",
        f"{tmp_path}/member.conf: is not the one that belongs to this gateway",
        f"{tmp_path}/pages.conf: is missing",
        f"to fix: `wecom-gateway nginx install {tmp_path}`, then `nginx -t && nginx -s reload`; what is yours is kept",
    ]


@pytest.mark.parametrize("name", ["nowhere", "file"])
def test_nginx_check_of_no_folder(tmp_path: Path, name: str) -> None:
    """A usage mistake, not a clean bill."""
    (tmp_path / "file").touch()
    found = wecom_gateway("nginx", "check", tmp_path / name)

    assert found.returncode == 2
    assert name in found.stderr


def test_nginx_check_of_an_unreadable_snippet(tmp_path: Path) -> None:
    """It says which file and why."""
    wecom_gateway("nginx", "install", tmp_path)
    (tmp_path / "member.conf").unlink()
    (tmp_path / "member.conf").mkdir()
    found = wecom_gateway("nginx", "check", tmp_path)

    assert (found.returncode, found.stderr) == (1, f"Error: {tmp_path}/member.conf: cannot be read or written: Is a directory\n")


def test_nginx_install_fits_the_settings(tmp_path: Path) -> None:
    """With settings ``upstream.conf`` has their listeners and each site's cookie name, whatever was there."""
    sites = '[[site]]\nname = "oa"\npublic_url = "https://oa.example.com"\n'
    sites += '[[site]]\nname = "wiki"\npublic_url = "http://wiki.internal:8081"\n'
    (tmp_path / "gateway.toml").write_text(SETTINGS.format(site=sites))
    (tmp_path / "upstream.conf").write_text("# mine\n")
    wecom_gateway("nginx", "install", tmp_path, "--config", tmp_path / "gateway.toml")

    text = (tmp_path / "upstream.conf").read_text()
    assert re.search(r"upstream wecom_check \{\s*server 127\.0\.0\.1:19180;", text)
    assert re.search(r"upstream wecom_pages \{\s*server unix:/run/wecom-gateway/pages\.sock;", text)
    assert re.search(r"default +__Host-wecom_session;", text)
    assert re.search(r"oa +__Host-wecom_session;", text)
    assert re.search(r"wiki +wecom_session_8081;", text)


def test_what_is_installed_passes_nginx_whatever_the_sites_are_called(tmp_path: Path) -> None:
    """Also the short form, whose site is named ``default``, and names that nginx's ``map`` has for itself."""
    sites = "".join(
        f'[[site]]\nname = "{name}"\npublic_url = "https://{name}.example.com"\n' for name in ("default", "include", "volatile")
    )
    for number, site in enumerate(('public_url = "https://oa.example.com"\n', sites)):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "gateway.toml").write_text(SETTINGS.format(site="") + site if number else site + SETTINGS.format(site=""))
        found = wecom_gateway("nginx", "install", folder / "wecom", "--config", folder / "gateway.toml")
        (folder / "nginx.conf").write_text(
            f"pid {folder}/pid; error_log stderr; events {{}} http {{ access_log off;\n"
            "include wecom/upstream.conf; include wecom/http.conf;\n"
            "server { listen 127.0.0.1:18999; set $wecom_site default; include wecom/gateway.conf; } }\n"
        )
        tested = subprocess.run(
            [shutil.which("nginx") or "/usr/sbin/nginx", "-t", "-p", folder, "-c", folder / "nginx.conf"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

        assert found.returncode == 0, found.stderr
        assert tested.returncode == 0, tested.stderr


def test_nginx_install_of_bad_settings_writes_nothing(tmp_path: Path) -> None:
    """Settings with mistakes are exit 1, and no file is touched."""
    (tmp_path / "gateway.toml").write_text("agent_id = 0\n")
    found = wecom_gateway("nginx", "install", tmp_path / "wecom", "--config", tmp_path / "gateway.toml")

    assert found.returncode == 1
    assert not (tmp_path / "wecom").exists()


def test_version_is_the_packages(tmp_path: Path) -> None:
    """``--version`` says what the package says."""
    from gateway import __version__

    assert wecom_gateway("--version").stdout.strip() == f"wecom-gateway, version {__version__}"


def started(*command: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def line_with(process: subprocess.Popen[str], wanted: str) -> str:
    """The first line of the output that holds *wanted*; an empty one when it ends without."""
    assert process.stdout
    return next((line for line in process.stdout if wanted in line), "")


def test_sandbox_says_where_it_is_and_ends_when_told() -> None:
    """``sandbox`` prints its two addresses, both on loopback, once they answer; SIGTERM ends it with exit 0."""
    with started("-m", "gateway", "sandbox", "--port", free_port(), "--control-port", free_port()) as process:
        url = re.search(r"http://127\.0\.0\.1:\d+/_sandbox/$", line_with(process, "control: "))
        assert url
        with urllib.request.urlopen(url[0]) as answer:
            listed = json.load(answer)
        process.terminate()
        process.communicate(timeout=PATIENCE_S)

    assert listed
    assert process.returncode == 0


def test_sandbox_on_a_taken_port_is_one_line() -> None:
    """A taken port is exit 1 and a line that names the option."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = wecom_gateway("sandbox", "--port", taken.getsockname()[1], "--control-port", free_port())

    assert found.returncode == 1
    assert "--port" in found.stderr
    assert len(found.stderr.splitlines()) == 1


def test_without_uvloop_it_serves_all_the_same(tmp_path: Path) -> None:
    """uvloop is for speed only: where it is absent the gateway starts on asyncio's own loop."""
    path = tmp_path / "gateway.toml"
    listen = "\n".join(f'{name} = "unix:{tmp_path}/{name}"' for name in ("check", "pages", "ops"))
    store = f'store = "sqlite://{tmp_path}/ledger.sqlite3"\n'
    path.write_text(store + SETTINGS.format(site=ONE_SITE).partition("[listen]")[0] + "[listen]\n" + listen)
    program = "import sys; sys.modules['uvloop'] = None; from gateway.cli import main; main()"
    with started("-c", program, "serve", "--config", path) as process:
        assert f"check unix:{tmp_path}/check" in line_with(process, "listening")
        process.terminate()
        process.communicate(timeout=PATIENCE_S)

    assert process.returncode == 0


def test_redis_without_its_package_is_named(settings: Path) -> None:
    """`store = "redis://…"` where the package is not installed is a mistake of the settings that says what to install."""
    settings.write_text('store = "redis://127.0.0.1:1/0"\n' + settings.read_text())
    program = "import sys; sys.modules['redis'] = None; from gateway.cli import main; main()"
    found = subprocess.run(
        [sys.executable, "-c", program, "serve", "--config", str(settings)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )

    assert found.returncode == 1
    assert "store: Redis needs a further package (redis): pip install 'wecom-gateway[redis]'" in found.stderr
    assert "Traceback" not in found.stderr
