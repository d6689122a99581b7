"""Programs that come with a token, through nginx to an old application: curl, git, whatever knows a header or a password."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.app import Gateway
from gateway.tokens import Token
from tests.patience import PATIENCE_S

SITE = """
server {
    listen LISTEN;
    server_name localhost;
    root PREFIX/www;
    include wecom/gateway.conf;
    location / { include wecom/protect.conf; include wecom/identity.conf; proxy_pass http://APP; }
    location /reports/ {
        auth_request /_wecom/auth/user:lisi;
        include wecom/member.conf;
        include wecom/identity.conf;
        proxy_pass http://APP;
    }
    location /repos/ {
        set $wecom_challenge basic;
        auth_request /_wecom/auth/user:lisi;
        include wecom/member.conf;
    }
    location /quiet/ {
        auth_request /_wecom/auth/user:lisi;
        include wecom/member.conf;
        alias PREFIX/www/repos/;
    }
}
"""
DAY = 86400
JSON = "application/json; charset=utf-8"

Run = Callable[..., Awaitable[str]]


@pytest.fixture
def real(gateway: Gateway, behind: Any, start_nginx: Any) -> Any:
    """An nginx in front of the running gateway."""
    ports = {name: int(address.rpartition(":")[2]) for name, address in gateway.addresses.items()}
    nginx = start_nginx(SITE, cookie_name=gateway.live.now.sites.all[0].cookie_name, **ports)
    yield nginx
    assert not re.search(r"\[(alert|emerg|crit)\]", nginx.log())


@pytest.fixture
def token(gateway: Gateway, clock: Any) -> str:
    """A token for `/reports/` and `/repos/`."""
    return sealed(gateway, clock)


def sealed(gateway: Gateway, clock: Any, **changes: Any) -> str:
    config, now = gateway.live.now.config, int(clock())
    values = {"id": "t", "name": "ci", "rules": ("user:lisi",), "site": "default", "issued": now, "ends": now + DAY}
    return gateway.live.now.tokens.seal(Token(corp_id=config.corp_id, agent_id=config.agent_id, **values | changes))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a program and give what it says; one that fails fails the test, unless *fails*."""
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment |= {"HOME": str(tmp_path), "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1"}

    async def running(*command: str, fails: bool = False) -> str:
        how = {"capture_output": True, "text": True, "env": environment, "cwd": tmp_path, "timeout": PATIENCE_S}
        done = await asyncio.to_thread(subprocess.run, command, check=False, **how)
        assert (done.returncode != 0) is fails, done.stderr
        return done.stdout + done.stderr

    return running


@pytest.fixture
def curl(run: Run, real: Any) -> Callable[..., Awaitable[tuple[int, dict[str, str], str]]]:
    """Ask nginx by curl: status, headers in lower case, body."""

    async def asked(uri: str, *options: str) -> tuple[int, dict[str, str], str]:
        said = await run("curl", "-si", *options, f"http://localhost:{real.port}{uri}")
        head, _, body = said.partition("\n\n")
        status, *lines = head.splitlines()
        return int(status.split()[1]), {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines}, body

    return asked


class TestCurl:
    """A header, or a user name and a password."""

    @pytest.mark.parametrize("how", [("-H", "Authorization: Bearer {}"), ("-u", "ci:{}"), ("-u", "whoever:{}"), ("-u", ":{}")])
    async def test_reaches_the_application(self, curl, behind, token, how) -> None:
        """It is told that a machine comes, and which; the token itself does not arrive."""
        status, _, _ = await curl("/reports/x", *(part.format(token) for part in how))

        assert status == 200
        assert [behind.app[0].header(f"X-WeCom-{name}") for name in ("UserId", "Account", "Kind")] == ["token:ci"] * 2 + ["token"]
        assert "wgt_" not in str(behind.app[0].headers)

    async def test_reads_the_header_from_a_file(self, curl, behind, token, tmp_path) -> None:
        """So that the token stands in no list of processes."""
        (tmp_path / "header").write_text(f"Authorization: Bearer {token}\n", "utf-8")

        assert (await curl("/reports/x", "-H", f"@{tmp_path}/header"))[0] == 200
        assert behind.app[0].header("X-WeCom-UserId") == "token:ci"

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PROPFIND", "OPTIONS"])
    async def test_whatever_the_method(self, curl, behind, token, method) -> None:
        """A body arrives whole."""
        status, _, _ = await curl("/reports/x", "-X", method, "-u", f"ci:{token}", "-d", "x" * 5000)

        assert (status, behind.app[0].method, behind.app[0].length) == (200, method, 5000)

    async def test_acts_for_a_member(self, curl, behind, gateway, clock) -> None:
        """The application takes it for that member, by the account it knows."""
        token = sealed(gateway, clock, member="zhangsan", member_name="张三", account="10086")
        await curl("/reports/x", "-u", f"ci:{token}")

        told = [behind.app[0].header(f"X-WeCom-{name}") for name in ("UserId", "Account", "Name", "Kind")]
        assert told == ["zhangsan", "10086", "%E5%BC%A0%E4%B8%89", "token"]

    @pytest.mark.parametrize("changes, reason", [({"ends": 1_800_000_000}, "token-expired"), ({}, "token-forged")])
    @pytest.mark.parametrize("accept", ["*/*", "text/html", "application/json"])
    async def test_a_token_that_is_over_is_told_so(self, curl, behind, gateway, clock, changes, reason, accept) -> None:
        """By 401 and JSON, never by a redirect to WeCom, and without asking for a password."""
        token = sealed(gateway, clock, **changes) + ("" if changes else "x")
        for how in (("-H", f"Authorization: Bearer {token}"), ("-u", f"ci:{token}")):
            status, headers, body = await curl("/reports/x", "-H", f"Accept: {accept}", *how)

            assert (status, headers["content-type"], json.loads(body)["reason"]) == (401, JSON, reason)
            assert "www-authenticate" not in headers
        assert behind.app == []

    @pytest.mark.parametrize("uri", ["/app", "/repos"])
    async def test_a_location_without_its_rule_is_told_so(self, curl, behind, token, uri) -> None:
        """Where any member may enter, a token is 403 as JSON."""
        status, headers, body = await curl(uri, "-u", f"ci:{token}")

        assert (status, headers["content-type"], json.loads(body)["reason"]) == (403, JSON, "rule")
        assert behind.app == []

    async def test_another_site_is_told_so(self, curl, behind, gateway, clock) -> None:
        """A token for another site is 403."""
        status, _, body = await curl("/reports/x", "-u", f"ci:{sealed(gateway, clock, site='wiki')}")

        assert (status, json.loads(body)["reason"], behind.app) == (403, "other-site", [])

    async def test_a_foreign_password_signs_nobody_in(self, curl, behind) -> None:
        """It is the application's; without a session curl is led to the sign-in as ever."""
        status, headers, _ = await curl("/reports/x", "-u", "old:password")

        assert (status, "/connect/" in headers["location"] or "/sso/" in headers["location"], behind.app) == (302, True, [])


@pytest.fixture
async def repository(real: Any, run: Run) -> str:
    """A bare repository that nginx serves as plain files: its path below the site's root."""
    where = real.prefix / "www" / "repos" / "x.git"
    git = ("git", "-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "init.defaultBranch=main")
    await run(*git, "init", "-q", "work")
    await run(*git, "-C", "work", "commit", "-q", "--allow-empty", "-m", "the only one")
    await run(*git, "clone", "-q", "--bare", "work", str(where))
    await run(*git, "-C", str(where), "update-server-info")
    return "x.git"


class TestGit:
    """It knows HTTP Basic and nothing else, and sends a password only where it is asked for one."""

    async def test_clones_with_a_token(self, real, run, repository, token) -> None:
        """The location asks for a password, git sends the token."""
        await run("git", "clone", "-q", f"http://ci:{token}@localhost:{real.port}/repos/{repository}", "copy")

        assert "the only one" in await run("git", "-C", "copy", "log", "--oneline")

    async def test_asks_its_credential_helper(self, real, run, repository, token) -> None:
        """The token need not stand in the address."""
        helper = f"!f() {{ echo password={token}; }}; f"
        url = f"http://ci@localhost:{real.port}/repos/{repository}"
        await run("git", "-c", f"credential.helper={helper}", "clone", "-q", url, "copy")

        assert "the only one" in await run("git", "-C", "copy", "log", "--oneline")

    async def test_fails_with_one_that_is_over(self, real, run, repository, gateway, clock) -> None:
        """It is asked again, and gives up."""
        over = sealed(gateway, clock, ends=1_800_000_000)
        said = await run("git", "clone", "-q", f"http://ci:{over}@localhost:{real.port}/repos/{repository}", "copy", fails=True)

        assert "Authentication failed" in said

    async def test_is_not_asked_where_nobody_said_so(self, gateway, real, run, repository, token) -> None:
        """Without `$wecom_challenge` git keeps the token to itself."""
        await run("git", "clone", "-q", f"http://ci:{token}@localhost:{real.port}/quiet/{repository}", "copy", fails=True)

        assert set(gateway.live.now.telemetry.checks) == {(401, "no-session")}


class TestAskingForAPassword:
    """Programs are asked where the operator says so; people never."""

    BASIC = 'Basic realm="WeCom", charset="UTF-8"'

    @pytest.mark.parametrize("options", [(), ("-X", "PROPFIND"), ("-X", "OPTIONS"), ("-u", "old:password"), ("-u", "ci:wgt_x")])
    async def test_a_program_is_asked(self, curl, options) -> None:
        """Whatever it comes with that does not open."""
        status, headers, _ = await curl("/repos/x", *options)

        assert (status, headers.get("www-authenticate")) == (401, self.BASIC)

    @pytest.mark.parametrize(
        "headers",
        [
            {"Accept": "text/html"},
            {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Accept": "text/html"},
            {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
            {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        ],
    )
    async def test_a_browser_is_not(self, curl, headers) -> None:
        """A page leads to WeCom, and an image fails, without a dialog."""
        _, answered, _ = await curl("/repos/x", *(part for pair in headers.items() for part in ("-H", ": ".join(pair))))

        assert "www-authenticate" not in answered

    async def test_nor_is_anybody_elsewhere(self, curl) -> None:
        """Where nginx does not say so, no answer asks for a password."""
        for uri in ("/reports/x", "/quiet/x", "/app", "/_wecom/me"):
            for options in ((), ("-u", "ci:wgt_x"), ("-H", "X-WeCom-Challenge: basic")):
                assert "www-authenticate" not in (await curl(uri, *options))[1]
