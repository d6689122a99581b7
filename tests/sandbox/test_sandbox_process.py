"""The sandbox as a process of its own."""

from __future__ import annotations

import asyncio
import json
import signal
import sys

import aiohttp
import pytest

PROGRAM = """
from gateway.sandbox import run
run(0, 0, oauth_domain="sso.example.com", ready=lambda sandbox: print(sandbox.control_url, flush=True))
"""


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
async def test_run(stop):
    """run() says when both ports answer and ends cleanly on a signal."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", "-c", PROGRAM, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    line = await process.stdout.readline()
    async with aiohttp.ClientSession() as http, http.get(line.decode().strip()) as answer:
        overview = json.loads(await answer.text())
    process.send_signal(stop)
    rest, errors = await process.communicate()

    assert overview["oauth_domain"] == "sso.example.com"
    assert (process.returncode, rest, errors) == (0, b"", b"")
