"""PHP under php-fpm, as ``examples/php.conf`` has it: an unmodified page that reads REMOTE_USER."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.apps.contract import HTML, JSON, Contract
from tests.apps.servers import SERVED, php_fpm
from tests.apps.stand import Stand, a_folder, running
from tests.examples import placed

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def stand() -> AsyncIterator[Stand]:
    with a_folder() as folder:
        for place in ("", "finance", "public"):
            shutil.copytree(SERVED / "php", folder / "php" / place, dirs_exist_ok=True)
            (folder / "php" / place / ".env").write_text("secret", "utf-8")
        places = {"/var/www/php": f"{folder}/php", "/run/php/php-fpm.sock": f"{folder}/php.sock"}
        servers = placed("php.conf", places)
        async with php_fpm(folder), running(servers, folder=folder, hosts=["php.example.com"]) as stand:
            yield stand


class TestPhp(Contract):
    """A page that knows nothing of the gateway."""

    async def test_a_page_that_is_no_file_is_the_front_controller_s(self, stand: Stand) -> None:
        """A path without a file reaches index.php, as a member, with the path asked for."""
        told = await (await stand.member()).told("/orders/17?tab=2")

        assert (told.user, told.raw("REQUEST_URI")) == ("zhangsan", b"/orders/17?tab=2")

    @pytest.mark.parametrize(
        "uri", ["/finance/", "/finance/index.php", "/finance", "//finance//index.php", "/public/..%2ffinance/index.php"]
    )
    async def test_no_way_round_the_rule(self, stand: Stand, uri: str) -> None:
        """However the folder is written, its page is for those whom its rule names."""
        answer = await (await stand.member("wangwu")).get(uri, JSON)

        assert answer.status in (301, 403)

    @pytest.mark.parametrize(
        "uri", ["/.env", "/.git/config", "/.git/hook.php", "/public/.env", "/index.php/finance/x", "/finance/.env"]
    )
    async def test_what_is_closed_to_everybody(self, stand: Stand, uri: str) -> None:
        """Hidden files, and other names of other pages, are refused to members, without our asking anybody to sign in."""
        answer = await (await stand.member()).get(uri, HTML)

        assert (answer.status, "secret" in answer.text, "Location" in answer.headers) == (403, False, False)
