"""Several processes at one port, sockets that systemd holds, and what it is told."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from gateway.errors import ConfigError
from gateway.listeners import Listener, bound
from gateway.systemd import inherited, notify
from tests.conftest import free_port
from tests.machine import Machine, Process, machine_in
from tests.patience import PATIENCE_S

HOME = "http://localhost:8080/"
UNITS = Path(__file__).parents[1] / "scripts" / "systemd"
SHARED = {"WECOM_GATEWAY_LISTEN_REUSE_PORT": "true"}


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Machine]:
    async with machine_in(tmp_path) as machine:
        yield machine


def ops(number: int, port: int) -> dict[str, str]:
    """The ops listener of process *number*: an address of its own."""
    return {"WECOM_GATEWAY_LISTEN_OPS": f"127.0.0.{number}:{port}"}


async def ask(machine: Machine, times: int = 1) -> list[int]:
    """Ask the check, each time on a connection of its own."""
    statuses = []
    for _ in range(times):
        connector = aiohttp.TCPConnector(force_close=True)
        url = f"http://{machine.listen['check']}/_wecom/auth"
        async with aiohttp.ClientSession(connector=connector) as http, http.get(url, headers={"Host": "localhost"}) as answer:
            statuses.append(answer.status)
    return statuses


# ── one port, several processes ────────────────────────────────────────────────────────────────────────────────────


async def test_four_processes_share_the_ports(machine: Machine) -> None:
    """With ``reuse_port`` four processes answer at the same two ports, and each counts what it answered at its own ops."""
    port = free_port()
    for number in range(1, 5):
        await machine.running(SHARED | ops(number, port))

    statuses = await ask(machine, 100)
    counted = []
    for number in range(1, 5):
        async with machine.http.get(f"http://127.0.0.{number}:{port}/metrics") as answer:
            found = re.search(r'checks_total\{reason="no-session",status="401"\} (\S+)', await answer.text())
            counted.append(float(found[1]) if found else 0)

    assert set(statuses) == {401}
    assert sum(counted) == 100
    assert min(counted) > 0


@pytest.mark.parametrize("name", ["check", "ops"])
async def test_a_second_process_is_told_what_it_needs(machine: Machine, name: str) -> None:
    """A second process that may not share a port ends at once, and names what it would need."""
    await machine.running()
    second = await machine.serve(ops(2, free_port()) if name == "check" else SHARED)

    assert await second.ends() == 1
    hint = {"check": "listen.reuse_port = true", "ops": "WECOM_GATEWAY_LISTEN_OPS="}[name]
    told = [line for line in second.said if line.startswith("settings: ")]
    assert len(told) == 1
    assert told[0].startswith(f"settings: listen.{name}: cannot listen on {machine.listen[name]}: Address already in use; ")
    assert hint in told[0]
    assert "does another gateway run?" in told[0]


async def test_who_waits_to_be_accepted_is_served(tmp_path: Path) -> None:
    """A connection made in the moment before a process stops listening gets its answer, by TCP and by unix socket."""
    answers = []
    for address in (f"127.0.0.1:{free_port()}", f"unix:{tmp_path}/x.sock"):
        server = web.Server(lambda _: asyncio.sleep(0, web.Response(text="served")), access_log=None)
        listener = Listener("check", web.ServerRunner(server))
        await listener.open(address, (), shared=True)
        with connected(address) as browser:  # nothing is awaited in between: the server has not accepted it
            browser.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            await listener.refuse()
            with pytest.raises(OSError):
                connected(address)
            answers.append(await asyncio.to_thread(browser.makefile("rb").read))
        await listener.close()

    assert [answer.rpartition(b"\r\n")[2] for answer in answers] == [b"served", b"served"]


def connected(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    if host == "unix":
        client = socket.socket(socket.AF_UNIX)
        try:
            client.connect(port)
        except OSError:
            client.close()
            raise
        return client
    return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


async def test_a_unix_socket_is_taken_over(tmp_path: Path) -> None:
    """The next process takes the path of the one before in one step; the end of the former leaves it alone."""
    address = f"unix:{tmp_path}/x.sock"
    names = ["first", "second"]
    listeners = []
    for name in names:
        server = web.Server(lambda _, name=name: asyncio.sleep(0, web.Response(text=name)), access_log=None)
        listeners.append(Listener("check", web.ServerRunner(server)))
        await listeners[-1].open(address, (), shared=False)
    await listeners[0].close()

    connector = aiohttp.UnixConnector(f"{tmp_path}/x.sock")
    async with aiohttp.ClientSession(connector=connector) as http, http.get("http://localhost/") as answer:
        text = await answer.text()
    await listeners[1].close()

    assert text == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["x.sock"]


def test_a_file_is_no_socket(tmp_path: Path) -> None:
    """A path where a file stands is refused, and the file stays."""
    path = tmp_path / "precious"
    path.write_text("kept")

    with pytest.raises(ConfigError, match=r"^listen\.check: cannot listen on unix:.*no socket"):
        bound("check", f"unix:{path}", shared=False)

    assert path.read_text() == "kept"


# ── sockets that systemd holds ─────────────────────────────────────────────────────────────────────────────────────


async def activated(machine: Machine, names: str = "check:pages") -> Process:
    """Start behind the real ``systemd-socket-activate``, which listens and starts us at the first connection."""
    program = shutil.which("systemd-socket-activate")
    assert program
    held = [option for name in ("check", "pages") for option in ("-l", machine.listen[name])]
    environment = [f"--setenv={name}" for name in ("PATH", "PYTHONPATH", "STATE_DIRECTORY")]
    return await machine.serve(before=[program, *held, f"--fdname={names}", *environment])


async def reached(address: str) -> None:
    """Connect once somebody listens."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            with suppress(OSError):
                return connected(address).close()
            await asyncio.sleep(0.01)


async def test_sockets_held_by_systemd(machine: Machine) -> None:
    """Both sockets that systemd passes are used, by name; what it does not pass is opened as the settings say."""
    process = await activated(machine)
    await process.says("Listening on")
    await reached(machine.listen["check"])
    line = await process.says("listening:")

    browser = machine.browser()
    page = await browser.open(HOME)
    async with machine.http.get(f"http://{machine.listen['ops']}/healthz") as answer:
        alive = answer.status

    assert all(address in line for address in machine.listen.values())
    assert (page.status, page.headers["X-WeCom-UserId"], alive) == (200, "zhangsan", 200)


async def test_a_held_socket_outlives_the_process(machine: Machine) -> None:
    """Whoever comes while no process runs waits at the socket that is held, and the next process answers."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        machine.listen["check"] = f"127.0.0.1:{held.getsockname()[1]}"
        first = await holding(machine, held)
        await first.says("listening:")
        await first.signal(signal.SIGTERM)
        assert await first.ends() == 0
        waiting = asyncio.create_task(ask(machine))
        await asyncio.sleep(0)
        await holding(machine, held)

        assert await waiting == [401]


async def holding(machine: Machine, held: socket.socket) -> Process:
    """Start as systemd would: the socket as descriptor 3, the variables with the process's own id."""
    script = f'exec 3<&{held.fileno()}; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=check; exec "$@"'
    return await machine.serve(before=["bash", "-c", script, "bash"], pass_fds=[held.fileno()])


async def test_an_unknown_socket_is_refused(machine: Machine) -> None:
    """A socket by a name that is none of ours ends the start with the line to correct."""
    process = await activated(machine, "check:web")
    await process.says("Listening on")
    await reached(machine.listen["check"])

    assert await process.ends() == 1
    assert "FileDescriptorName= must be one of check, pages, ops" in "".join(process.said)


@pytest.mark.parametrize("pid", ["", "1", "x"])
def test_sockets_of_another_process_are_left_alone(pid: str) -> None:
    """Variables meant for another process are no sockets of ours, and no child of ours sees them."""
    environment = {"LISTEN_PID": pid, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "check:pages", "HOME": "/"}

    assert inherited(environment) == {}
    assert environment == {"HOME": "/"}


@pytest.mark.parametrize("what", ["file", "closed", "not listening"])
def test_only_listening_sockets_are_taken(tmp_path: Path, what: str) -> None:
    """What is passed must be a socket that listens: else one line says which directive to correct."""
    script = "import sys\nfrom gateway.systemd import inherited\nfrom gateway.errors import ConfigError\n"
    script += "try:\n inherited()\nexcept ConfigError as error:\n print(error)"
    with socket.socket() as idle, (tmp_path / "file").open("w") as file:
        number = {"file": file.fileno(), "closed": -1, "not listening": idle.fileno()}[what]
        shell = f"exec 3{'>&-' if number < 0 else f'<&{number}'}; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=check;"
        passed = [number] if number > 0 else []
        told = subprocess.run(
            ["bash", "-c", f'{shell} exec "$@"', "bash", sys.executable, "-c", script],
            capture_output=True, text=True, pass_fds=passed, check=True,
        )  # fmt: skip

    assert told.stdout.startswith("systemd: ")


# ── what systemd is told ───────────────────────────────────────────────────────────────────────────────────────────


async def test_systemd_is_told(machine: Machine, tmp_path: Path) -> None:
    """``READY=1`` comes once it listens, ``STOPPING=1`` when it was told to end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(PATIENCE_S)
        process = await machine.serve({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        ready = await asyncio.to_thread(systemd.recv, 100)
        status = await ask(machine)
        await process.signal(signal.SIGTERM)
        stopping = await asyncio.to_thread(systemd.recv, 100)

    assert (ready, status, stopping) == (b"READY=1", [401], b"STOPPING=1")


@pytest.mark.parametrize("address", ["", "relative", "/no/such/socket", "@nobody-listens-here"])
def test_nobody_to_tell(address: str) -> None:
    """Without systemd, or with it gone, telling it does nothing."""
    notify("READY=1", {"NOTIFY_SOCKET": address})


def test_an_abstract_address_is_told_too() -> None:
    """``@name`` is an abstract socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0wecom-gateway-{os.getpid()}")
        systemd.settimeout(PATIENCE_S)
        notify("READY=1", {"NOTIFY_SOCKET": f"@wecom-gateway-{os.getpid()}"})

        assert systemd.recv(100) == b"READY=1"


# ── the unit files ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """The shipped units, instance 1, with a program that is there."""
    folder = tmp_path / "units"
    shutil.copytree(UNITS, folder)
    service = (folder / "wecom-gateway@.service").read_text("utf-8")
    (folder / "wecom-gateway@1.service").write_text(service.replace("/usr/local/bin/wecom-gateway", "/bin/true"), "utf-8")
    return folder


def test_units_are_sound(units: Path) -> None:
    """``systemd-analyze verify`` finds nothing wrong with the shipped units."""
    files = ["./wecom-gateway@1.service", "./wecom-gateway-check.socket", "./wecom-gateway-pages.socket"]
    told = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=yes", *files], cwd=units, capture_output=True, text=True, check=False
    )

    assert (told.returncode, told.stderr) == (0, "")


def test_units_confine_the_service(units: Path) -> None:
    """By systemd's own count the service is exposed to 2 of 10 at most."""
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=20", "--no-pager", "./wecom-gateway@1.service"]
    told = subprocess.run(command, cwd=units, capture_output=True, text=True, check=False)

    assert told.returncode == 0, told.stdout


def test_units_and_settings_agree() -> None:
    """The sockets listen where the settings and ``upstream.conf`` have it by default, under names that we know."""
    upstream = (UNITS.parents[1] / "nginx" / "upstream.conf").read_text("utf-8")
    for name in ("check", "pages"):
        text = (UNITS / f"wecom-gateway-{name}.socket").read_text("utf-8")
        listens = re.findall(r"^ListenStream=(\S+)$", text, re.MULTILINE)
        assert [f"server {address};" in upstream for address in listens] == [True]
        assert f"FileDescriptorName={name}\n" in text
