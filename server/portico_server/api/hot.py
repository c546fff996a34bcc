"""The hot paths: plain functions over raw ASGI, without a framework around them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from portico_server.api.anthropic import messages
from portico_server.api.exchange import Exchange
from portico_server.api.openai import audio, chat, embeddings, images, realtime
from portico_server.api.openai.responses import create as responses
from portico_server.api.openai.responses import socket as response_socket
from portico_server.api.services import ApiServices
from portico_server.api.socket import WebSocket

Handler: TypeAlias = Callable[[Exchange, ApiServices], Awaitable[None]]

HOT: Mapping[str, Mapping[str, Handler | None]] = {
    "/v1/chat/completions": {"POST": chat.create, "GET": None},
    "/v1/completions": {"POST": chat.create_completion},
    "/v1/embeddings": {"POST": embeddings.create},
    "/v1/responses": {"POST": responses.create},
    "/v1/audio/speech": {"POST": audio.speak},
    "/v1/audio/transcriptions": {"POST": audio.transcribe},
    "/v1/audio/translations": {"POST": audio.translate},
    "/v1/images/generations": {"POST": images.generate},
    "/v1/images/edits": {"POST": images.edit},
    "/v1/images/variations": {"POST": images.vary},
    "/v1/messages": {"POST": messages.create},
    "/v1/messages/count_tokens": {"POST": messages.count_tokens},
}
"""By path, then by method; ``None``: the web adapter answers. `api.schema` describes them in ``/openapi.json``."""

SocketHandler: TypeAlias = Callable[[WebSocket, ApiServices], Awaitable[None]]

SOCKETS: Mapping[str, SocketHandler] = {
    "/v1/responses": response_socket.serve,
    realtime.PATH: realtime.serve,
}
"""WebSockets, by path."""
