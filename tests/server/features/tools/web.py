"""A small website on this machine, for tests of code that fetches pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Site:
    """The site's address, as ``127.0.0.1:PORT``, and the requests it received."""

    host: str
    requests: list[web.Request] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.host}"


@asynccontextmanager
async def serving(pages: Mapping[str, Handler]) -> AsyncIterator[Site]:
    """Serve ``pages`` by their paths, with every method, for the duration of a ``with`` block."""
    site = Site("")

    @web.middleware
    async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
        await request.read()
        site.requests.append(request)
        return await handler(request)

    application = web.Application(middlewares=[note])
    for path, handler in pages.items():
        application.router.add_route("*", path, handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        site.host = f"127.0.0.1:{runner.addresses[0][1]}"
        yield site
    finally:
        await runner.cleanup()


def page(text: str, media_type: str = "text/html", status: int = 200) -> Handler:
    """Return a handler that always sends the same page."""

    async def handle(_request: web.Request) -> web.StreamResponse:
        return web.Response(text=text, content_type=media_type, status=status)

    return handle


def redirect(location: str, status: int = 302) -> Handler:
    """A redirect."""

    async def handle(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": location})

    return handle
