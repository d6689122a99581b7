"""Application servers as an operator runs them: php-fpm, uWSGI, gunicorn, Radicale."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from tests.conftest import free_port
from tests.patience import PATIENCE_S

SERVED = Path(__file__).parent / "served"

POOL = """
[global]
error_log = {folder}/fpm.log
daemonize = no
[www]
{user}
listen = {folder}/php.sock
pm = static
pm.max_children = 2
php_admin_value[post_max_size] = 512M
php_admin_value[memory_limit] = 512M
"""

UWSGI = ("uwsgi_python3", "--master", "--processes", "2", "--die-on-term", "--need-app", "--buffer-size=32768")


def php_fpm(folder: Path) -> AbstractAsyncContextManager[None]:
    """Serve PHP on ``php.sock`` in *folder*. Its program has its version in its name."""
    program = shutil.which("php-fpm") or next(map(str, sorted(Path("/usr/sbin").glob("php-fpm*"))), "php-fpm")
    root = os.geteuid() == 0
    (folder / "fpm.conf").write_text(POOL.format(folder=folder, user="user = root\ngroup = root" if root else ""), "utf-8")
    command = [program, "-n", "-F", "-O", "-y", str(folder / "fpm.conf"), *(["-R"] if root else [])]
    return serving(*command, ready="ready to handle")


def uwsgi(folder: Path, where: str, module: str, **env: str) -> AbstractAsyncContextManager[None]:
    """Serve on ``app.sock`` by uWSGI's own protocol. Its Python is Debian's: Django, pure Python, is lent to it."""
    paths = ["--pythonpath", str(SERVED / where), "--pythonpath", sysconfig.get_path("purelib")]
    command = [*UWSGI, "--socket", f"{folder}/app.sock", *paths, "--module", module]
    return serving(*command, ready="spawned uWSGI worker 2", env={"STATE": str(folder), **env})


def gunicorn(folder: Path, where: str, module: str, **env: str) -> AbstractAsyncContextManager[None]:
    """Serve on ``app.sock`` by HTTP."""
    command = [sys.executable, "-m", "gunicorn", "--bind", f"unix:{folder}/app.sock", "--chdir", str(SERVED / where), "--preload"]
    return serving(*command, module, ready="Booting worker", env={"STATE": str(folder), **env})


@contextlib.asynccontextmanager
async def serving(*command: str, ready: str, env: Mapping[str, str] | None = None) -> AsyncIterator[None]:
    """Run an application's server; it is ready when it says so in what it prints."""
    process = await asyncio.create_subprocess_exec(
        *command, env=os.environ | dict(env or {}), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout
    said = bytearray()
    is_ready = asyncio.Event()
    reading = asyncio.create_task(_read(process.stdout, said, ready.encode(), is_ready))
    try:
        async with asyncio.timeout(PATIENCE_S):
            await is_ready.wait()
        assert process.returncode is None, said.decode(errors="replace")
        yield
        assert process.returncode is None, said.decode(errors="replace")
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        await reading


async def _read(stream: asyncio.StreamReader, said: bytearray, ready: bytes, is_ready: asyncio.Event) -> None:
    """Read all that a server prints; the event is set as soon as *ready* was among it, or the server ended."""
    while chunk := await stream.read(4096):
        said += chunk
        if ready in said:
            is_ready.set()
    is_ready.set()


RADICALE = """
[server]
hosts = 127.0.0.1:{port}
[auth]
type = http_x_remote_user
urldecode_username = True
[storage]
filesystem_folder = {folder}/collections
"""


@contextlib.asynccontextmanager
async def radicale(folder: Path) -> AsyncIterator[str]:
    """Serve calendars, and give the address."""
    port = free_port()
    (folder / "radicale.conf").write_text(RADICALE.format(port=port, folder=folder), "utf-8")
    command = [sys.executable, "-m", "radicale", "--config", str(folder / "radicale.conf")]
    async with serving(*command, ready="Radicale server ready"):
        yield f"127.0.0.1:{port}"
