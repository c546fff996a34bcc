"""A client for LMDeploy's server: builds requests, restores the text of tokens, applies stop texts, and reads one
stream per choice. Imports aiohttp.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import orjson

from portico_server.core.errors import PorticoError
from portico_server.core.relay import Relay
from portico_server.features.gpu_engines.lmdeploy.requests import requests_for
from portico_server.features.gpu_engines.lmdeploy.token_spelling import TokenSpelling
from portico_server.models.answers import close_chunks
from portico_server.models.engines.openai_client.client import (
    ChoiceStreamClient,
    ServerFacts,
)
from portico_server.models.engines.openai_client.requests import (
    PreparedRequest,
)
from portico_server.models.protocol import ModelDescription
from portico_server.models.server_process import ServerProcess
from portico_server.models.transport import CONNECTION_ERRORS, EngineRoute, EngineTransport, read_all


class StopTexts:
    """A filter that passes text on until the first of ``texts`` occurs. It holds back text that may be the beginning
    of one of ``texts``.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = [text for text in texts if text]
        self._pending_text = ""
        self.hit = False

    @property
    def holds(self) -> bool:
        """Return whether the filter holds back text."""
        return bool(self._pending_text)

    def feed(self, text: str) -> str:
        """Add ``text``, and return the text that can be passed on now."""
        if self.hit:
            return ""
        pending_text = self._pending_text + text
        ends = [place for stop in self._texts if (place := pending_text.find(stop)) >= 0]
        if ends:
            self.hit, self._pending_text = True, ""
            return pending_text[: min(ends)]
        keep = max((_overlap(pending_text, stop) for stop in self._texts), default=0)
        self._pending_text = pending_text[len(pending_text) - keep :]
        return pending_text[: len(pending_text) - keep]

    def rest(self) -> str:
        """Return the text that was held back, once the stream has ended."""
        held_text, self._pending_text = self._pending_text, ""
        return held_text


def _overlap(text: str, stop: str) -> int:
    """Return the number of characters at the end of ``text`` that are the beginning of ``stop``."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0


_SESSIONS = itertools.count(1 << 40)
"""Session numbers for calls that this client may end early. They are far from the numbers that LMDeploy itself
assigns.
"""


class LmDeployClient(ChoiceStreamClient):
    """An `EngineClient` for one LMDeploy server. For ``biases``, see `requests_for`."""

    def __init__(
        self,
        transport: EngineTransport,
        child: ServerProcess,
        name: str,
        description: ModelDescription,
        *,
        template_has_tools: bool,
        biases: bool,
        spelling: TokenSpelling,
    ) -> None:
        facts = ServerFacts(description.context_length, template_has_tools, fingerprint=None, sees=True)
        super().__init__(transport, child, name, facts, description)
        self._biases = biases
        self._spelling = spelling
        self._abort = EngineRoute(child.endpoint(name, base=""), "abort_request")

    async def open(
        self, operation: str, body: dict[str, Any], deadline: float | None
    ) -> AsyncIterator[bytes]:
        """Start a streamed call and yield its frames. Raises `PorticoError`, also if the first frame is an error."""
        stop_value = body.get("stop") or []
        stops = StopTexts([stop_value] if isinstance(stop_value, str) else [str(text) for text in stop_value])
        body = {key: value for key, value in body.items() if key != "stop"}
        if stop_value:
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
            await close_chunks(frames)
            raise
        reads = stop_value or body.get("logprobs")
        all_frames = _chained(first, frames)
        return self._read(all_frames, body, stops, deadline) if reads else all_frames

    def _prepare(self, request: Relay) -> PreparedRequest:
        return requests_for(
            request, self._name, template_has_tools=self._facts.template_has_tools, biases=self._biases
        )

    async def _read(
        self, frames: AsyncIterator[bytes], body: Mapping[str, Any], stops: StopTexts, deadline: float | None
    ) -> AsyncIterator[bytes]:
        """Yield the frames up to the first stop text, with log-probabilities in OpenAI's format, and the usage."""
        held_logprobs: list[Any] = []  # log-probabilities of the text that is held back
        try:
            async for data in frames:
                for document in _documents(data):
                    has_ended = stops.hit
                    for choice in document.get("choices") or ():
                        self._cut(choice, stops, held_logprobs, int(body.get("top_logprobs") or 1))
                    if not has_ended or not document.get("choices"):
                        yield b"data: " + orjson.dumps(document) + b"\n\n"
                    if stops.hit and not has_ended and not await self._end(body["session_id"], deadline):
                        return
        finally:
            await close_chunks(frames)

    def _cut(
        self, choice: dict[str, Any], stops: StopTexts, held_logprobs: list[Any], top_count: int
    ) -> None:
        holder, key = (choice, "text") if "text" in choice else (choice.setdefault("delta", {}), "content")
        shown_text = stops.feed(holder.get(key) or "")
        finish = choice.get("finish_reason")
        if finish and not stops.hit:
            shown_text += stops.rest()
        if stops.hit:
            choice["finish_reason"] = "stop"
        if shown_text or holder.get(key):
            holder[key] = shown_text
        if (logprobs := choice.get("logprobs")) is not None:
            held_logprobs += self._spelling.logprobs(logprobs, top_count)["content"]
        choice["logprobs"] = None
        if held_logprobs and not stops.hit and (shown_text or not stops.holds):
            choice["logprobs"] = {"content": list(held_logprobs)}
            held_logprobs.clear()

    async def _end(self, session: int, deadline: float | None) -> bool:
        """Ask LMDeploy to end a call, so that it reports the token counts. Return whether LMDeploy has accepted."""
        body = orjson.dumps({"session_id": session})
        with contextlib.suppress(PorticoError, *CONNECTION_ERRORS):
            response = await self._transport.post(self._abort, body, deadline=deadline, reuse=False)
            await read_all(response, deadline=deadline)
            return response.status in (200, 400)  # status 400 means that the call has already ended
        return False


async def _chained(first: bytes, frames: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    try:
        if first:
            yield first
        async for data in frames:
            yield data
    finally:
        await close_chunks(frames)


def _documents(data: bytes) -> list[dict[str, Any]]:
    """Return the JSON objects in a piece of a stream."""
    texts = (line.partition(b":")[2].strip() for line in data.split(b"\n") if line.startswith(b"data:"))
    documents = [orjson.loads(text) for text in texts if text != b"[DONE]"]
    return [document for document in documents if isinstance(document, dict)]
