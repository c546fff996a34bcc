"""``/ag-ui/NAME``: run an app or a model and stream its events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

import orjson

from portico_server.api.errors import NotAllowedHere, to_portico_error
from portico_server.api.exchange import Exchange
from portico_server.api.openai.bodies import CHAT
from portico_server.api.openai.relay import caller_of, find
from portico_server.api.services import ApiServices
from portico_server.core.errors import PorticoError
from portico_server.core.request import Chat, ChatReply
from portico_server.features.ag_ui.body import ASKED, chat_of
from portico_server.features.ag_ui.events import AgUiEvents
from portico_server.runs.run import Run

PREFIX: Final = "/ag-ui/"
OPERATION: Final = "ag-ui"
"""Operation name in usage rows for runs started over AG-UI."""


async def _frames(
    services: ApiServices, run: Run, events: AgUiEvents, exchange_id: str
) -> AsyncIterator[bytes]:
    """Yield the events of a run as frames. Closing this generator cancels the run."""
    try:
        yield _to_bytes(events.begin())
        try:
            async for _number, event in run.log.follow():
                if frames := events.of(event):
                    yield _to_bytes(frames)
            reply = await services.runner.wait(run)
            if not isinstance(reply, ChatReply):
                raise PorticoError(f"'{run.name}' did not answer the conversation with a chat reply.")
            yield _to_bytes(events.end(reply))
        except Exception as error:  # noqa: BLE001  # logged, and said in the protocol's own form
            yield _to_bytes(events.fail(to_portico_error(error, exchange_id)))
    finally:
        await run.leave()


def _to_bytes(events: Sequence[Mapping[str, Any]]) -> bytes:
    return b"".join(b"data: " + orjson.dumps(event) + b"\n\n" for event in events)


async def serve(exchange: Exchange, services: ApiServices) -> None:
    """Run an app or a model and stream its events."""
    path: str = exchange.scope["path"]
    exchange.scope["portico.route"] = f"{PREFIX}{{name}}"
    if exchange.scope["method"] != "POST":
        raise NotAllowedHere(exchange.scope["method"], path, "POST")
    name, caller = path.removeprefix(PREFIX), caller_of(exchange)
    body = await exchange.json()
    ASKED.check(body)
    await find(services, name, "chat/completions", caller)
    chat = chat_of(name, body)
    CHAT.check({**chat, "stream": True})
    options = {key: value for key, value in chat.items() if key not in ("model", "messages")}
    run = await services.runner.start(OPERATION, name, Chat(tuple(chat["messages"]), options), caller)
    exchange.extra.append((b"x-portico-run", run.id.encode()))
    await exchange.stream(_frames(services, run, AgUiEvents(body, run), exchange.id))
