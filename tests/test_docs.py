"""The README and the snippets name everything there is, and nothing else."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import tomllib
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click
import pytest

from gateway import __version__, config
from gateway.accounts import Source
from gateway.cli import cli
from gateway.loading import ENVIRONMENT, from_mapping, load
from gateway.member import IDENTITY, NOT_ACTIVE, Member, identity, identity_headers, packed_answer
from gateway.secret import Secret
from gateway.session import Session
from gateway.urls import Origin

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
NGINX = ROOT / "nginx"
TEXTS = tomllib.loads((ROOT / "gateway" / "pages" / "zh.toml").read_text("utf-8"))
REQUIRED = {
    "corp_id": "ww0123456789abcdef",
    "agent_id": 1000002,
    "app_secret": "s" * 43,
    "signing_keys": ["k" * 43],
    "public_url": "https://oa.example.com",
}
ERRORS = ("LoginFailed", "Denied", "SignInNeeded")


def section(anchor: str) -> str:
    """What stands between the heading with *anchor* and the next heading of its level."""
    _, _, rest = README.partition(f'<a id="{anchor}"></a>\n')
    return rest.partition("\n## ")[0]


def rows(anchor: str) -> dict[str, list[str]]:
    """The table rows of a section: the word in the first cell -> the further cells."""
    found = re.findall(r"^\| `([^`]+)` \|(.*)\|$", section(anchor), re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split(" |")] for name, cells in found}


def settings(kind: Any = config.Config, prefix: str = "") -> set[str]:
    """The dotted name of every setting."""
    names: set[str] = set()
    for item in fields(kind):
        hint = get_type_hints(kind)[item.name]
        inner = next(
            (each for each in (*get_args(hint), hint) if is_dataclass(each) and each not in (Secret, Origin, Source)), None
        )
        names |= settings(inner, f"{item.name}.") if inner else {prefix + item.name}
    return names


def reasons_in_code() -> set[str]:
    """Every slug that the code gives to an error people see."""
    found = set(NOT_ACTIVE.values())
    for path in (ROOT / "gateway").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS:
                values = [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)]
                found |= {str(value) for value in values}
    return found


def commands(group: click.Group = cli, prefix: str = "wecom-gateway") -> set[str]:
    """The full name of every command."""
    found: set[str] = set()
    for name, command in group.commands.items():
        full = f"{prefix} {name}"
        found |= commands(command, full) if isinstance(command, click.Group) else {full}
    return found


def headers_sent(snippet: str) -> dict[str, str]:
    """The identity headers that a snippet sends to the app, and the value of each."""
    announced, _, _ = (NGINX / snippet).read_text("utf-8").partition("# What nginx and the gateway tell each other")
    return dict(re.findall(r"^proxy_set_header (X-WeCom-[A-Za-z]+) (\S+);", announced, re.MULTILINE))


def full_session() -> Session:
    """A session in which no detail is empty."""
    member = Member("zhangsan", "张三", 1, (6,), (), "工程师", "Sam", "a@example.com", "13800000000", "https://example.com/a")
    return Session("id", member, "ww0123456789abcdef", 1000002, "site", 0, 0, 0, 0, "zhangsan", (6,))


def test_every_setting_has_a_row() -> None:
    """The README's table has every setting and no other."""
    assert set(rows("settings")) - {"public_url"} == settings()


def test_defaults_are_those_of_the_code() -> None:
    """Settings written out with the README's defaults are the settings without them."""
    table: dict[str, Any] = {name: value for name, value in REQUIRED.items() if name != "public_url"}
    table["site"] = [{"name": "default", "public_url": REQUIRED["public_url"]}]
    for name, (default, *_) in rows("settings").items():
        if default in ("–", "", "the first site"):
            continue
        group, _, key = name.rpartition(".")
        target = table["site"][0] if group == "site" else table.setdefault(group, {}) if group else table
        target[key] = {"[]": [], "true": True, "false": False}.get(default.strip("`"), default.strip("`"))

    assert from_mapping(table, {}) == from_mapping(REQUIRED, {})


@pytest.mark.parametrize("name", sorted(settings()))
def test_a_setting_without_default_says_so(name: str) -> None:
    """A dash in the table means that there is no default, and a default that there is one."""
    group, _, key = name.rpartition(".")
    kinds = {"": config.Config, "site": config.SiteSettings, "session": config.SessionSettings}
    kinds |= {"wecom": config.WeComSettings, "listen": config.Listen, "directory": config.DirectorySettings}
    kinds |= {"recheck": config.RecheckSettings, "events": config.EventSettings}
    item = next(each for each in fields(kinds[group]) if each.name == key)
    required = item.default is item.default_factory

    assert (rows("settings")[name][0] == "–") is required


def test_the_environment_is_named() -> None:
    """The README names the prefix, and its example is a setting."""
    example = re.search(rf"`({ENVIRONMENT}[A-Z_]+)=8h`", README)

    assert example is not None
    assert from_mapping(REQUIRED, {example[1]: "8h"}).session.lifetime == 8 * 3600
    assert f"{ENVIRONMENT}CONFIG" in README


def test_every_reason_has_a_row() -> None:
    """The README's table has every reason that a page or the code knows, and no other."""
    causes = set(TEXTS["loop"]) & set(rows("reasons"))
    listed = set(rows("reasons")) - causes

    assert listed == set(TEXTS["reason"])
    assert reasons_in_code() <= listed
    assert causes == {name for name, text in TEXTS["loop"].items() if isinstance(text, dict)}


def test_every_command_has_a_row() -> None:
    """The README's table has every command and no other."""
    listed = {name.removesuffix(" DIR") for name in rows("commands")}

    assert listed == commands()


def test_every_snippet_has_a_row() -> None:
    """The README's table has every snippet, and every file it names is there."""
    listed = {
        name for row in re.findall(r"^\| (`[^|]+\.conf`) \|", README, re.MULTILINE) for name in re.findall(r"`([^`]+)`", row)
    }

    assert listed == {str(path.relative_to(NGINX)) for path in NGINX.rglob("*.conf")}


@pytest.mark.parametrize("line", [f"set $wecom_gateway {__version__};", f"if ($wecom_gateway != {__version__}) {{"])
def test_the_snippets_are_of_this_version(line: str) -> None:
    """gateway.conf says which version it is of, and member.conf lets nobody in beside another."""
    name = "gateway.conf" if line.startswith("set") else "member.conf"

    assert f"\n{line}" in (NGINX / name).read_text("utf-8")


@pytest.mark.parametrize("expression", re.findall(r"grep -E '([^']+)'", README))
def test_shown_expressions_can_be_used(expression: str) -> None:
    """What the README gives to grep is no mistake to grep."""
    found = subprocess.run(["grep", "-E", expression], input="", capture_output=True, text=True, check=False)

    assert (found.returncode, found.stderr) == (1, "")


def unpacked() -> list[str]:
    """The fields that gateway.conf takes out of the answer's one header."""
    redirect = (NGINX / "gateway.conf").read_text("utf-8").partition("proxy_redirect ")[2].partition(";")[0]
    return re.findall(r"\(\?<wecom_(\w+)>", redirect)


def test_every_identity_header_is_documented() -> None:
    """What the gateway announces is what nginx passes on, and the README lists it with its variable."""
    sent = headers_sent("identity.conf")

    assert {*map(str, identity_headers(identity(full_session())))} <= set(sent)
    assert {name: cells[0].strip("`") for name, cells in rows("headers").items()} == sent


def test_nginx_unpacks_what_the_gateway_packs() -> None:
    """The fields of the one header that says what the answer is, in their order."""
    fields = ["reason", "rule", *(name.removeprefix("X-WeCom-").lower() for name in IDENTITY), "jwt"]
    packed = packed_answer("reason", "rule", "\t".join(fields[2:-1]), "jwt")

    assert unpacked() == fields
    assert packed == "Location: wecom:" + "\t".join(fields) + ";\r\n"


def test_what_identity_sets_is_said_by_name() -> None:
    """The lines that an operator has to delete are those of which `identity.conf` has its own; others must stay."""
    (told,) = re.findall(r"^Delete your own `proxy_set_header` lines for (.+) in these$", README, re.MULTILINE)
    sets = re.findall(r"^proxy_set_header (\S+) \$", (NGINX / "identity.conf").read_text("utf-8"), re.MULTILINE)

    own = {name for name in sets if not name.startswith("X-WeCom-") and "Method" not in name}
    assert set(re.findall(r"`([^`]+)`", told)) == own


def test_public_pages_carry_no_identity() -> None:
    """Every identity header is emptied in public.conf."""
    assert headers_sent("public.conf") == dict.fromkeys(headers_sent("identity.conf"), '""')


def test_every_identity_header_is_captured() -> None:
    """gateway.conf fills the variable of every identity header, and http.conf gives each a default."""
    defaults = re.findall(r'^map "" \$wecom_(\w+) \{ default ""; \}', (NGINX / "http.conf").read_text("utf-8"), re.MULTILINE)
    sent = {name.lower().removeprefix("x-wecom-") for name in headers_sent("identity.conf")}

    assert {*unpacked()} == sent | {"reason", "rule"}
    assert {*unpacked()} <= {*defaults}


@pytest.mark.parametrize("block", re.findall(r"```toml\n(.*?)```", README, re.DOTALL))
def test_toml_blocks_can_be_used(block: str, tmp_path: Path) -> None:
    """Every TOML block of the README is a complete file of settings."""
    for name in ("app_secret", "signing_key"):
        (tmp_path / name).write_text("k" * 43, "utf-8")
    file = tmp_path / "gateway.toml"
    file.write_text(block.replace("/etc/wecom-gateway", str(tmp_path)), "utf-8")

    assert load(file, {}).corp_id == "ww0123456789abcdef"


def test_nginx_blocks_can_be_used(tmp_path: Path) -> None:
    """The README's nginx blocks pass `nginx -t`, pasted where it says."""
    blocks = "\n".join(re.findall(r"```nginx\n(.*?)```", README, re.DOTALL)).replace("/var/log/nginx", str(tmp_path))
    shutil.copytree(NGINX, tmp_path / "wecom")
    file = tmp_path / "nginx.conf"
    temporary = "".join(f"{kind}_temp_path {tmp_path}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    file.write_text(f"pid {tmp_path}/pid;\nevents {{}}\nhttp {{\n{temporary}{blocks}\n}}\n", "utf-8")
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    assert nginx is not None

    told = subprocess.run(
        [nginx, "-t", "-e", str(tmp_path / "error.log"), "-c", str(file)], capture_output=True, text=True, check=False
    )

    assert "server {" in blocks
    assert told.returncode == 0, told.stderr


def test_links_lead_somewhere() -> None:
    """Every anchor and every file that the README links to is there."""
    targets = re.findall(r"\]\(([^)]+)\)", README)
    anchors = set(re.findall(r'<a id="([^"]+)">', README))

    for target in targets:
        if target.startswith("#"):
            assert target[1:] in anchors
        elif not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_scripts_are_named() -> None:
    """The README names the scripts for the demo, the tests and the lint, and they are there."""
    named = set(re.findall(r"\bscripts/(\w+)", README))

    assert {"demo", "test", "lint"} <= named
    assert all((ROOT / "scripts" / name).exists() for name in named)


@pytest.mark.parametrize("folder", ["demo", "site"])
def test_compose_folders_fit_together(folder: str) -> None:
    """The settings in docker/ can be used, and nginx beside them looks for the cookie that they lead to."""
    place = ROOT / "docker" / folder
    secrets = {f"{ENVIRONMENT}APP_SECRET": "s" * 43, f"{ENVIRONMENT}SIGNING_KEY": "k" * 43}
    upstream = (place / "nginx" / "upstream.conf").read_text("utf-8")

    loaded = load(place / "gateway" / "gateway.toml", secrets)

    assert re.findall(r"^    default (\S+);", upstream, re.MULTILINE) == [loaded.callback.cookie_name]


def test_compose_names_real_settings() -> None:
    """Every environment variable that compose gives the gateway is a setting, and every secret has its file in the demo."""
    compose = (ROOT / "docker-compose.yml").read_text("utf-8")
    given = dict(re.findall(rf"^      ({ENVIRONMENT}[A-Z_]+): (\S+)$", compose, re.MULTILINE))
    demo = ROOT / "docker" / "demo"
    inside = {name: value.replace("/run/secrets", str(demo / "secrets")) for name, value in given.items()}

    loaded = load(demo / "gateway" / "gateway.toml", inside)

    assert (loaded.listen.check, loaded.listen.pages, loaded.listen.ops) == ("0.0.0.0:9180", "0.0.0.0:9181", "127.0.0.1:9182")


def test_links_within_the_readme() -> None:
    """Every anchor stands once, and every link within the file leads to one."""
    anchors = re.findall(r'<a id="([^"]+)"></a>', README)

    assert sorted(set(anchors)) == sorted(anchors)
    assert not set(re.findall(r"\]\(#([^)]+)\)", README)) - set(anchors)
