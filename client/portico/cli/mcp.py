"""`portico mcp`: the daemon as an MCP server on standard input and output."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator

import typer

from portico.cli.session import session

app = typer.Typer()


_SETTINGS = '{"mcpServers": {"portico": {"command": "portico", "args": ["mcp"]}}}'


@app.command(epilog=f"Example, in an assistant's settings: {_SETTINGS}")
def mcp(context: typer.Context) -> None:
    """Serve the daemon's tools and documents to an assistant that speaks MCP over standard input and output.

    Assistants that speak MCP over HTTP need no bridge: give them the daemon's URL with /mcp at its end.
    """
    # httpx takes a quarter of a second: not before it is needed.
    from portico._mcp_bridge import Bridge
    from portico._transport import Address

    ours = session(context)
    bridge = Bridge(Address.of(ours.address(), ours.key), _write)
    try:
        asyncio.run(bridge.run(_lines(sys.stdin.fileno())))
    except* BrokenPipeError:
        # The client has gone without closing our input; what Python still holds for it has no reader.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


async def _lines(descriptor: int) -> AsyncIterator[bytes]:
    """Lines from a file descriptor of any kind, until its end.

    A thread reads: event loops can wait for pipes, but not for files and terminals. It reads the descriptor
    itself, because a thread that is blocked in a buffered reader breaks the interpreter's exit.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    def read() -> None:
        rest = b""
        try:
            while chunk := os.read(descriptor, 65_536):
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    loop.call_soon_threadsafe(queue.put_nowait, line)
            loop.call_soon_threadsafe(queue.put_nowait, rest)
            loop.call_soon_threadsafe(queue.put_nowait, None)
        except RuntimeError:
            return  # the loop has ended: nobody reads any more

    threading.Thread(target=read, name="stdin", daemon=True).start()
    while (line := await queue.get()) is not None:
        yield line
