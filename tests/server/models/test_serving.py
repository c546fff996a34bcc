"""The HTTP server code that workers share."""

import asyncio
import logging

import aiohttp
import pytest
from aiohttp import web

from portico_server.models.engines import worker_http


@pytest.mark.slow
async def test_a_caller_that_leaves_in_the_middle_leaves_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    end_event = asyncio.Event()

    async def talk(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"word " * 100)
                await asyncio.sleep(0)
        finally:
            end_event.set()

    application = worker_http.application("")
    application.router.add_get("/", talk)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with aiohttp.ClientSession() as session:
        answer = await session.get(f"http://127.0.0.1:{runner.addresses[0][1]}/")
        await answer.content.readany()
        answer.close()
        await asyncio.wait_for(end_event.wait(), 60)
    await runner.cleanup()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
