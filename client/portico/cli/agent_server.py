"""`portico agent-server`: connects editors that support the Agent Client Protocol to one of the daemon's agents."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import Annotated

import typer

from portico.cli.session import Invocation, invocation
from portico.errors import InvalidRequest

app = typer.Typer()


@app.command(epilog="Example: portico agent-server --agent clerk")
def agent_server(
    context: typer.Context,
    agent: Annotated[str | None, typer.Option(help="The agent that answers (default: the only one).")] = None,
) -> None:
    """Serve the Agent Client Protocol on standard input and output, for editors such as Zed."""
    if find_spec("acp") is None:
        from portico._installed import how_to_add

        raise InvalidRequest(f"Editors need the extra 'acp': {how_to_add('acp')}")
    asyncio.run(_serve(invocation(context), agent))


async def _serve(connection: Invocation, agent: str | None) -> None:
    from portico._agent_server import serve
    from portico.client import AsyncClient

    async with AsyncClient(connection.url, connection.key) as client:
        await serve(client, agent)
