"""A low-level ``aiohttp.web.Server`` that answers every request with an empty 204: what the gateway is compared with.

python -m tests.bench.bare PORT
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from aiohttp import web


async def answer(_: web.BaseRequest) -> web.StreamResponse:
    return web.Response(status=204)


async def serve(port: int) -> None:
    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
