"""The demo as a person runs it: a process, its ports, its folder, its end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import aiohttp
import pytest

from gateway.demo import child
from gateway.demo.invitation import invitation, tunnel
from gateway.demo.plan import CannotRun, Plan, Ports, option_of
from gateway.demo.walk import walk
from tests.conftest import free_port
from tests.patience import PATIENCE_S

ROOT = Path(__file__).parents[1]


def free_ports() -> Ports:
    """Seven ports nobody listens on."""
    return Ports(*(free_port() for _ in asdict(Ports())))


def options(ports: Ports) -> list[str]:
    return [text for name, port in asdict(ports).items() for text in (option_of(name), str(port))]


class Demo:
    """A demo in a process of its own."""

    def __init__(self, *arguments: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "demo", *arguments],
            cwd=ROOT,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def read_until(self, wanted: str) -> str:
        """What it printed up to and with the line that holds *wanted*."""
        assert self.process.stdout
        lines: list[str] = []
        for line in self.process.stdout:
            lines.append(line)
            if wanted in line:
                return "".join(lines)
        raise AssertionError(f"it ended without saying {wanted!r}: {''.join(lines)} {self.process.communicate()[1]}")

    def end(self) -> tuple[int, str, str]:
        """Exit status, and what else it printed, to both outputs."""
        out, err = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, out, err

    def descendants(self) -> list[int]:
        """Every process below the demo's, by Linux's own list."""
        found, waiting = [], [self.process.pid]
        while waiting:
            children = Path(f"/proc/{waiting.pop()}/task").glob("*/children")
            below = [int(pid) for each in children for pid in each.read_text().split()]
            found += below
            waiting += below
        return found


@pytest.fixture
def demos() -> Iterator[list[Demo]]:
    """The demos of one test; none outlives it."""
    started: list[Demo] = []
    yield started
    for demo in started:
        demo.process.kill()
        demo.process.communicate()


Running = tuple[Demo, Ports, str]
"""A demo that is up, its ports and what it printed."""


def run_in(folder: Path) -> Running:
    ports = free_ports()
    demo = Demo(*options(ports), "--state", str(folder), SSH_CONNECTION="")
    return demo, ports, demo.read_until("Ctrl-C")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "state"


@pytest.fixture(scope="module")
def shared(state: Path) -> Iterator[Running]:
    """One demo for the tests that only look; its folder is *state*."""
    running = run_in(state)
    yield running
    running[0].process.terminate()
    running[0].end()


@pytest.fixture
def running(demos: list[Demo], tmp_path: Path) -> Running:
    """A demo of the test's own; its folder is ``tmp_path / "state"``."""
    running = run_in(tmp_path / "state")
    demos.append(running[0])
    return running


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_check_walks_the_chain(demos: list[Demo]) -> None:
    """``demo --check`` takes every step from refusal to sign-out through a real nginx, and exits 0."""
    demos.append(Demo(*options(free_ports()), "--check"))

    status, out, err = demos[0].end()
    assert (status, err) == (0, "")
    assert out.count("ok  ") == 12


async def test_two_ways_of_the_legacy_app(shared: Running) -> None:
    """The legacy app shows what it received as a page, and as JSON to whoever asks for it."""
    url = f"http://127.0.0.1:{shared[1].app}/app/x?q=%E5%BC%A0"
    identity = {"X-WeCom-UserId": "zhangsan", "X-WeCom-Name": "%E5%BC%A0%E4%B8%89", "Cookie": "theme=<dark>"}
    async with aiohttp.ClientSession() as http:
        page = await (await http.get(url, headers=identity)).text()
        seen = await (await http.post(url, data="a=1", headers=identity | {"Accept": "application/json"})).json()

    assert "张三" in page
    assert "&lt;dark&gt;" in page
    assert (seen["method"], seen["uri"], seen["user_id"], seen["cookies"], seen["body"]) == (
        "POST", "/app/x?q=%E5%BC%A0", "zhangsan", {"theme": "<dark>"}, "a=1",
    )  # fmt: skip


async def test_whole_site_is_closed_by_default(shared: Running) -> None:
    """The index and ``/public/`` are open; everything else, named or not, is 401 for a script without a session."""
    found = {}
    async with aiohttp.ClientSession(headers={"Accept": "application/json"}) as http:
        for path in ("/", "/public/", "/app/", "/site/", "/finance/", "/index.html", "/unheard/of", "/_wecom/auth"):
            async with http.get(f"http://127.0.0.1:{shared[1].site}{path}") as response:
                found[path] = response.status

    opened = {"/": 200, "/public/": 200, "/_wecom/auth": 404}
    assert found == dict.fromkeys(found, 401) | opened


def test_the_text_names_what_to_open(shared: Running, state: Path) -> None:
    """The printed text names each address and the folder with the settings."""
    _, ports, text = shared
    for path in ("/app/", "/site/", "/finance/", "/public/"):
        assert f"http://localhost:{ports.site}{path}" in text
    assert f"http://127.0.0.1:{ports.site}/app/" in text
    assert f"http://127.0.0.1:{ports.control}/_sandbox/" in text
    assert f"check --config {state / 'gateway.toml'}" in text


def test_the_printed_command_works_on_the_running_demo(shared: Running) -> None:
    """The printed ``check`` line, pasted as it is, reads the demo's settings."""
    line = next(each for each in shared[2].splitlines() if " check --config " in each)

    found = subprocess.run(["bash", "-c", line], cwd=ROOT, capture_output=True, text=True, check=True)
    assert f"callback host: localhost:{shared[1].site}" in found.stdout


def test_the_curl_line_signs_in(shared: Running, tmp_path: Path) -> None:
    """The printed ``curl -L`` line, pasted as it is, ends at the app with X-WeCom-UserId: zhangsan."""
    lines = shared[2].replace("/tmp/wecom-jar", str(tmp_path / "jar")).replace("\\\n", "").splitlines()
    line = next(each for each in lines if "curl -sL" in each)

    found = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert '"X-WeCom-UserId": "zhangsan"' in found.stdout
    assert '"uri": "/app/report?year=2025"' in found.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_everything(running: Running, number: signal.Signals) -> None:
    """Ctrl-C, SIGTERM and a closed terminal end the demo with status 0, and no child of it lives on."""
    demo, _, _ = running
    children = demo.descendants()
    demo.process.send_signal(number)

    assert demo.end()[0] == 0
    assert len(children) >= 3
    assert alive(children) == []


async def test_killed_outright_it_leaves_nothing(running: Running) -> None:
    """Even after SIGKILL of the demo itself its children end: the kernel tells them."""
    demo, ports, _ = running
    connections = [await asyncio.open_connection("127.0.0.1", port) for port in (ports.ops, ports.site)]
    demo.process.kill()

    async with asyncio.timeout(PATIENCE_S):
        for reader, writer in connections:
            assert await reader.read() == b""
            writer.close()


def test_the_state_folder_is_kept(demos: list[Demo], tmp_path: Path) -> None:
    """``--state`` keeps settings, keys, nginx.conf and logs; the next start uses the same signing key."""
    state = tmp_path / "deep" / "er"
    arguments = [*options(free_ports()), "--state", str(state), "--check"]
    demos.append(Demo(*arguments))
    assert demos[0].end()[0] == 0
    key = (state / "keys" / "signing-key").read_text()
    demos.append(Demo(*arguments))
    assert demos[1].end()[0] == 0

    assert (state / "keys" / "signing-key").read_text() == key
    assert (state / "keys" / "signing-key").stat().st_mode & 0o077 == 0
    assert tomllib.loads((state / "gateway.toml").read_text())["callback_site"] == "demo"
    assert (state / "nginx.conf").is_file()
    assert "zhangsan" in (state / "logs" / "access.log").read_text()


def test_without_state_nothing_stays(demos: list[Demo], tmp_path: Path) -> None:
    """Without ``--state`` the folder is a temporary one, and removed at the end."""
    demos.append(Demo(*options(free_ports()), "--check", TMPDIR=str(tmp_path)))

    assert demos[0].end()[0] == 0
    assert list(tmp_path.iterdir()) == []


def test_someone_elses_folder_is_refused(demos: list[Demo], tmp_path: Path) -> None:
    """A folder with other files is left alone: ``--state /etc/nginx`` must not overwrite an nginx.conf."""
    (tmp_path / "nginx.conf").write_text("mine")
    demos.append(Demo(*options(free_ports()), "--state", str(tmp_path)))

    status, _, err = demos[0].end()
    assert status == 1
    assert f"--state {tmp_path}" in err
    assert (tmp_path / "nginx.conf").read_text() == "mine"


@pytest.mark.parametrize("name", asdict(Ports()))
def test_a_taken_port_names_its_option(name: str) -> None:
    """For each port that is taken the error names the option that gives another."""
    ports = free_ports()
    with socket.create_server(("127.0.0.1", asdict(ports)[name])), pytest.raises(CannotRun) as caught:
        ports.refuse_taken()

    assert str(caught.value).startswith(f"{option_of(name)} {asdict(ports)[name]}: address already in use")


def test_a_taken_port_is_exit_status_1(demos: list[Demo]) -> None:
    """A taken port ends the command with status 1 and one line, before anything is started."""
    ports = free_ports()
    with socket.create_server(("127.0.0.1", ports.site)):
        demos.append(Demo(*options(ports)))
        status, out, err = demos[0].end()

    assert (status, out) == (1, "")
    assert f"--port {ports.site}: address already in use" in err
    assert len(err.splitlines()) == 1


def test_one_port_for_two_things_is_refused() -> None:
    """The same number for two options is an error that names both."""
    ports = free_ports()
    with pytest.raises(CannotRun, match="--port and --app-port: both are"):
        Ports(**asdict(ports) | {"app": ports.site}).refuse_taken()


def test_without_nginx_it_says_how_to_get_it(tmp_path: Path) -> None:
    """Without nginx the error names the package to install."""
    from gateway.demo import nginx

    with pytest.raises(CannotRun, match="apt install nginx"):
        nginx.find(path=str(tmp_path))


def test_a_dead_child_ends_the_demo(running: Running, tmp_path: Path) -> None:
    """When the gateway dies the demo ends with status 1, says who died and shows the end of its log."""
    demo, _, _ = running
    gateway = next(pid for pid in demo.descendants() if b"serve" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))
    os.kill(gateway, signal.SIGKILL)

    status, _, err = demo.end()
    assert status == 1
    assert "gateway ended by itself (exit status -9)" in err
    assert str(tmp_path / "state" / "logs" / "gateway.log") in err
    assert "listening" in err


async def test_the_walk_says_what_broke(running: Running, tmp_path: Path) -> None:
    """When WeCom refuses the app's secret, ``--check`` names the step that did not hold and what came instead."""
    ports, said = running[1], list[str]()
    plan = Plan(tmp_path / "state", ports)
    async with aiohttp.ClientSession() as http:
        fault = {"path": "gettoken", "errcode": 40001, "times": 99}
        async with http.post(f"{plan.control_url}faults", json=fault) as response:
            assert response.status in (200, 201)

    with pytest.raises(CannotRun, match="broken: following it signs in silently") as caught:
        await walk(plan, said.append)
    assert "expected" in str(caught.value) or "not as the app does" in str(caught.value)
    assert len(said) == 2


async def test_the_walk_of_a_dead_demo_breaks_at_once() -> None:
    """With nothing listening the first step is broken, and no step is said to hold."""
    said: list[str] = []
    with pytest.raises(CannotRun, match="broken: a script without a session"):
        await walk(Plan(Path("/nowhere"), free_ports()), said.append)

    assert said == []


async def test_a_child_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    """A child that ignores SIGTERM is killed after a while."""
    program = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); signal.pause()"
    log = tmp_path / "log"
    async with child.running(
        "stubborn", [sys.executable, "-c", program], log=log, cwd=tmp_path, environment={}, patience_s=0.1
    ) as started:
        while not log.read_text():
            await asyncio.sleep(0)

    assert started.process.returncode == -signal.SIGKILL
    assert alive([started.process.pid]) == []


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """A state folder below a file is refused by name."""
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotRun, match=f"--state {tmp_path}/file/state: not a directory"):
        Plan(tmp_path / "file" / "state").claim()


def test_through_ssh_the_whole_tunnel_line_is_printed() -> None:
    """On a remote machine the text holds the ssh line that forwards all that a browser needs."""
    plan = Plan(Path("/state"))
    environment = {"SSH_CONNECTION": "192.0.2.7 51822 192.0.2.1 2222", "USER": "ops"}

    line = "ssh -L 8080:127.0.0.1:8080 -L 9190:127.0.0.1:9190 -L 9191:127.0.0.1:9191 -p 2222 ops@192.0.2.1"
    assert tunnel(plan, environment) == line
    assert line in invitation(plan, environment)
    assert "ssh" not in invitation(plan, {})


def test_settings_of_the_environment_do_not_reach_the_demo(demos: list[Demo]) -> None:
    """WECOM_GATEWAY_… variables meant for a real gateway change nothing in the demo's."""
    demos.append(Demo(*options(free_ports()), "--check", WECOM_GATEWAY_CORP_ID="wwsomebodyelse0000"))

    assert demos[0].end()[0] == 0
