"""PHP under php-fpm, as ``examples/php.conf`` has it: an unmodified page that reads REMOTE_USER."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.apps.contract import Contract
from tests.apps.servers import SERVED, php_fpm
from tests.apps.stand import Stand, a_folder, running
from tests.examples import placed

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stand() -> AsyncIterator[Stand]:
    with a_folder() as folder:
        for place in ("", "finance", "public"):
            shutil.copytree(SERVED / "php", folder / "php" / place, dirs_exist_ok=True)
        places = {"/var/www/php": f"{folder}/php", "/run/php/php-fpm.sock": f"{folder}/php.sock"}
        servers = placed("php.conf", places)
        async with php_fpm(folder), running(servers, folder=folder, hosts=["php.example.com"]) as stand:
            yield stand


class TestPhp(Contract):
    """A page that knows nothing of the gateway."""
