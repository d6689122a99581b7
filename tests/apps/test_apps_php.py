"""PHP under php-fpm, as ``examples/php.conf`` has it: an unmodified page that reads REMOTE_USER."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.apps.contract import Contract
from tests.apps.stand import SERVED, Stand, a_folder, running, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")

POOL = """
[global]
error_log = /proc/self/fd/2
daemonize = no
[www]
{user}
listen = {folder}/php.sock
pm = static
pm.max_children = 2
php_admin_value[post_max_size] = 512M
php_admin_value[memory_limit] = 512M
"""


def fpm() -> str:
    """Where php-fpm is: its name has its version in it."""
    found = shutil.which("php-fpm") or next(map(str, sorted(Path("/usr/sbin").glob("php-fpm*"))), "")
    assert found, "php-fpm is not installed"
    return found


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stand() -> AsyncIterator[Stand]:
    with a_folder() as folder:
        root = os.geteuid() == 0
        (folder / "fpm.conf").write_text(POOL.format(folder=folder, user="user = root\ngroup = root" if root else ""), "utf-8")
        for place in ("", "finance", "public"):
            shutil.copytree(SERVED / "php", folder / "php" / place, dirs_exist_ok=True)
        places = {"/var/www/php": f"{folder}/php", "/run/php/php-fpm.sock": f"{folder}/php.sock"}
        command = [fpm(), "-n", "-F", "-y", str(folder / "fpm.conf"), *(["-R"] if root else [])]
        async with (
            serving(*command, ready="ready to handle"),
            running("php.conf", folder=folder, places=places, hosts=["php.example.com"]) as stand,
        ):
            yield stand


class TestPhp(Contract):
    """A page that knows nothing of the gateway."""
