"""Speaks to LMDeploy's server, each choice as a streamed call of its own. Imports aiohttp.

Source: LMDeploy 0.18, ``lmdeploy/serve/openai``.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Mapping
from typing import Any

import orjson

from portico_server.core.errors import PorticoError
from portico_server.core.relay import Relay
from portico_server.engines.answer import close
from portico_server.engines.child import Child
from portico_server.engines.llamacpp.prepare import Prepared
from portico_server.engines.llamacpp.speaker import Facts, LlamaSpeaker
from portico_server.engines.lmdeploy.asked import asked
from portico_server.engines.lmdeploy.spelling import Spelling
from portico_server.engines.lmdeploy.stops import Stops
from portico_server.engines.protocol import Description
from portico_server.engines.transport import CONNECTION_ERRORS, Route, Transport, read_all

_SESSIONS = itertools.count(1 << 40)
"""Numbers for calls that may be ended from here; far from those that LMDeploy gives."""


class LmSpeaker(LlamaSpeaker):
    """A `Speaker` for one LMDeploy server. ``biases``: see `asked`."""

    def __init__(
        self,
        transport: Transport,
        child: Child,
        name: str,
        description: Description,
        *,
        template_has_tools: bool,
        biases: bool,
        spelling: Spelling,
    ) -> None:
        facts = Facts(description.context_length, template_has_tools, fingerprint=None, sees=True)
        super().__init__(transport, child, name, facts, description)
        self._biases = biases
        self._spelling = spelling
        self._abort = Route(child.endpoint(name, base=""), "abort_request")

    async def open(
        self, operation: str, body: dict[str, Any], deadline: float | None
    ) -> AsyncIterator[bytes]:
        """Begin a streamed call: its frames. Raises `PorticoError`, also for an error that is the first of them."""
        given = body.get("stop") or []
        stops = Stops([given] if isinstance(given, str) else [str(text) for text in given])
        body = {key: value for key, value in body.items() if key != "stop"}
        if given:
            body["session_id"] = next(_SESSIONS)
        frames = await super().open(operation, body, deadline)
        try:
            first = await anext(frames, b"")
            for document in _documents(first):
                if document.get("error"):
                    raise self.failure(document)
        except CONNECTION_ERRORS as error:
            raise await self.explain(error) from error
        except BaseException:
            await close(frames)
            raise
        reads = given or body.get("logprobs")
        whole = _chained(first, frames)
        return self._read(whole, body, stops, deadline) if reads else whole

    def _prepare(self, request: Relay) -> Prepared:
        return asked(
            request, self._name, template_has_tools=self._facts.template_has_tools, biases=self._biases
        )

    def _lora(self, request: Relay) -> dict[str, Any]:
        return {"model": self._name if request.adapter is None else request.adapter.name}

    async def _read(
        self, frames: AsyncIterator[bytes], body: Mapping[str, Any], stops: Stops, deadline: float | None
    ) -> AsyncIterator[bytes]:
        """The frames up to the first stop, with log-probabilities as OpenAI tells them, and the usage."""
        told: list[Any] = []  # log-probabilities of text that is held back
        try:
            async for data in frames:
                for document in _documents(data):
                    ended = stops.hit
                    for choice in document.get("choices") or ():
                        self._cut(choice, stops, told, int(body.get("top_logprobs") or 1))
                    if not ended or not document.get("choices"):
                        yield b"data: " + orjson.dumps(document) + b"\n\n"
                    if stops.hit and not ended and not await self._end(body["session_id"], deadline):
                        return
        finally:
            await close(frames)

    def _cut(self, choice: dict[str, Any], stops: Stops, told: list[Any], wanted: int) -> None:
        holder, key = (choice, "text") if "text" in choice else (choice.setdefault("delta", {}), "content")
        shown = stops.feed(holder.get(key) or "")
        finish = choice.get("finish_reason")
        if finish and not stops.hit:
            shown += stops.rest()
        if stops.hit:
            choice["finish_reason"] = "stop"
        if shown or holder.get(key):
            holder[key] = shown
        if (logprobs := choice.get("logprobs")) is not None:
            told += self._spelling.logprobs(logprobs, wanted)["content"]
        choice["logprobs"] = None
        if told and not stops.hit and (shown or not stops.holds):
            choice["logprobs"] = {"content": list(told)}
            told.clear()

    async def _end(self, session: int, deadline: float | None) -> bool:
        """Have LMDeploy end a call, so that it tells what it counted; whether it does."""
        body = orjson.dumps({"session_id": session})
        with contextlib.suppress(PorticoError, *CONNECTION_ERRORS):
            response = await self._transport.post(self._abort, body, deadline=deadline, reuse=False)
            await read_all(response, deadline=deadline)
            return response.status in (200, 400)  # 400: it has ended by itself
        return False


async def _chained(first: bytes, frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        if first:
            yield first
        async for data in frames:
            yield data
    finally:
        await close(frames)


def _documents(data: bytes) -> list[dict[str, Any]]:
    """The JSON objects in some frames."""
    texts = (line.partition(b":")[2].strip() for line in data.split(b"\n") if line.startswith(b"data:"))
    found = [orjson.loads(text) for text in texts if text != b"[DONE]"]
    return [document for document in found if isinstance(document, dict)]
