"""Guards on the hot path of a model."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from portico_server.core.context import Context
from portico_server.core.errors import EngineFailed, InvalidRequest
from portico_server.core.relay import Relay, RelayResponse, event_data
from portico_server.core.servable import Relays
from portico_server.features.guards.call_guards import Guards
from portico_server.features.guards.fields import (
    CALL_FIELDS,
    CONTENT_FILTER,
    LEGACY_CALL,
    guard_fields,
    guard_messages,
)
from portico_server.features.guards.guard import ContentBlocked
from portico_server.features.guards.held_text import HeldTexts, TextBlocked
from portico_server.features.guards.servable import GuardedServable

_UNREAD: Final = frozenset(("model", "messages", "stream", "seed"))
"""Fields of the body that do not affect the model's text, or that other code inspects. Guards inspect all other
fields, because the model or its server may read them.
"""


_TEXTS: Final = ("content", "reasoning_content", "reasoning", "refusal", "text")
"""Fields of a message, a message delta or a choice that contain text from the model."""


_STREAMED: Final = frozenset((*_TEXTS, "role", "tool_calls"))
"""Fields of a message delta that reach the client. Other fields are dropped, because their text also arrives in pieces
but is not held back.
"""


MAX_INDEX: Final = 10_000
"""Maximum index of a choice or a tool call."""


_FRAME: Final = frozenset(("id", "object", "created", "model", "system_fingerprint", "service_tier", "usage"))
"""Fields of a frame that reach the client, in addition to its choices."""


class GuardedModel(GuardedServable):
    """A `GuardedServable` that can also relay raw bodies."""

    inner: Relays  # type: ignore[assignment]  # what relays is a servable too

    def over(self, inner: Relays) -> GuardedModel:
        """Return a model that applies the same guards to ``inner``, for example to the first model of a fallback."""
        return GuardedModel(inner, self.guards, self.files)  # type: ignore[arg-type]

    async def relay(self, request: Relay, context: Context) -> RelayResponse:
        """See `portico_server.core.servable.Relays`. Raises `ContentBlocked` if the request must not pass."""
        request = replace(request, body=await self._body(request, context), original=None)
        is_transcript = request.operation in ("audio/transcriptions", "audio/translations")
        if is_transcript and request.stream and self.guards.at("output"):
            raise InvalidRequest(
                "A guard inspects this output, so it cannot be streamed: omit 'stream'.",
                code="unsupported_parameter",
                param="stream",
            )
        relay_response = await self.inner.relay(request, context)
        if request.operation in ("chat/completions", "completions"):
            if self.guards.at("output", "tool_arguments"):
                stream = _GuardedStream(self.guards, context)
                read = stream.frames if request.stream else stream.document
                relay_response.chunks = read(relay_response.chunks)
        elif is_transcript and self.guards.at("output"):
            relay_response.chunks = self._transcript(relay_response, context)
        return relay_response

    async def _body(self, request: Relay, context: Context) -> dict[str, Any]:
        if request.operation == "moderations" or not self.guards.at(
            "input", "tool_results", "tool_arguments"
        ):
            return request.body
        body = await guard_fields(request.body, _UNREAD, "input", self.guards, context)
        if request.operation == "chat/completions":
            messages = await self._read(body["messages"], context)
            body["messages"] = await guard_messages(messages, self.guards, context)
        for name in ("prompt", "input"):
            if self.guards.at("input") and _has_tokens(request.body.get(name)):
                raise InvalidRequest(
                    f"A guard inspects this input, so '{name}' must be text, not token ids.",
                    code="unsupported_parameter",
                    param=name,
                )
        return body

    async def _transcript(self, relay_response: RelayResponse, context: Context) -> AsyncIterator[bytes]:
        data = await _join_chunks(relay_response.chunks)
        if relay_response.media_type.startswith("application/json"):
            yield orjson.dumps(await self.guards.value(orjson.loads(data), "output", context))
        else:
            yield (await self.guards.texts([data.decode()], "output", context))[0].encode()


def _has_tokens(value: Any) -> bool:
    """Return whether a prompt contains token ids instead of text."""
    return isinstance(value, list) and any(
        isinstance(item, int) or (isinstance(item, list) and item and isinstance(item[0], int))
        for item in value
    )


async def _join_chunks(chunks: AsyncIterator[bytes]) -> bytes:
    try:
        return b"".join([chunk async for chunk in chunks])
    finally:
        await _close(chunks)


async def _close(chunks: AsyncIterator[bytes]) -> None:
    aclose: Callable[[], Any] | None = getattr(chunks, "aclose", None)
    if aclose is not None:
        await aclose()


class _GuardedStream:
    """Guards the response of a model in OpenAI's format before it reaches the client."""

    def __init__(self, guards: Guards, context: Context) -> None:
        self._guards = guards
        self._context = context
        self._texts: dict[tuple[int, str, int], HeldTexts] = {}
        self._like: dict[str, Any] = {}
        """A chunk without choices, the template for chunks created by the guard."""
        self._name = "content"

    async def document(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield a guarded response that is not streamed."""
        document = _read(await _join_chunks(chunks))
        choices = [await self._choice(choice) for choice in _objects(document.get("choices"))]
        try:
            document = await self._fields(document, _FRAME | {"choices"})
        except ContentBlocked:
            document = {name: value for name, value in document.items() if name in _FRAME}
        yield orjson.dumps({**document, "choices": choices})

    async def _fields(self, document: Mapping[str, Any], but: frozenset[str]) -> dict[str, Any]:
        return await guard_fields(document, but, "output", self._guards, self._context)

    async def _choice(self, choice: dict[str, Any]) -> dict[str, Any]:
        choice = {name: value for name, value in choice.items() if name != "logprobs"}
        message = choice.get("message")
        try:
            choice = await self._fields(choice, frozenset(("index", "finish_reason", "message")))
            if message:
                (calls,) = await guard_messages(
                    [{name: value for name, value in _object(message).items() if name in CALL_FIELDS}],
                    self._guards,
                    self._context,
                )
                choice["message"] = {**await self._fields(message, CALL_FIELDS | {"role"}), **calls}
        except ContentBlocked as error:
            content: dict[str, Any] = {
                "message": {"role": "assistant", "content": error.message, "refusal": None}
            }
            if "text" in choice:
                content = {"text": error.message}
            return {"index": _number(choice.get("index")), **content, "finish_reason": CONTENT_FILTER}
        return choice

    async def frames(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield a guarded streamed response. Closing this iterator closes ``chunks``."""
        try:
            async for chunk in chunks:
                for frame in chunk.split(b"\n\n"):
                    data = event_data(frame.replace(b"\r", b""))
                    if data == b"[DONE]":
                        for remaining_bytes in self._rest():
                            yield remaining_bytes
                        await self._report()
                        yield b"data: [DONE]\n\n"
                    elif data:
                        document = await self._pass_frame(_read(data))
                        if document is not None:
                            yield _frame(document)
                    elif frame:  # keeps the connection alive
                        yield b":\n\n"
        except TextBlocked as text_blocked:
            for frame in self._cut(text_blocked):
                yield frame
            await self._report()
        finally:
            await _close(chunks)

    async def _pass_frame(self, document: dict[str, Any]) -> dict[str, Any] | None:
        """Return the frame with the text that may pass, or ``None`` if no text remains."""
        if document.get("error"):
            return {"error": await self._guards.value(document["error"], "output", self._context)}
        frame = {name: value for name, value in document.items() if name in _FRAME}
        if not self._like:
            self._like = {name: value for name, value in frame.items() if name != "usage"}
        choices = [await self._piece(choice) for choice in _objects(document.get("choices"))]
        says = any(
            choice.get("finish_reason") or choice.get("text") or any(choice.get("delta", {}).values())
            for choice in choices
        )
        return {**frame, "choices": choices} if says or frame.get("usage") or not choices else None

    async def _piece(self, given_choice: dict[str, Any]) -> dict[str, Any]:
        index, delta = _number(given_choice.get("index")), _object(given_choice.get("delta") or {})
        choice: dict[str, Any] = {"index": index, "finish_reason": given_choice.get("finish_reason")}
        if "text" in given_choice:
            self._name = "text"
            choice["text"] = await self._pass_text(index, "text", given_choice)
        if "delta" in given_choice:
            choice["delta"] = {
                name: await self._pass_text(index, name, delta) if name in _TEXTS else value
                for name, value in delta.items()
                if name in _STREAMED and name != "tool_calls"
            }
        if calls := _objects(delta.get("tool_calls")):
            choice["delta"]["tool_calls"] = [await self._call_piece(index, part) for part in calls]
        if isinstance(delta.get(LEGACY_CALL), dict):
            choice["delta"][LEGACY_CALL] = (await self._call_piece(index, {LEGACY_CALL: delta[LEGACY_CALL]}))[
                LEGACY_CALL
            ]
        if choice["finish_reason"] is not None:
            for key in [key for key in self._texts if key[0] == index]:
                self._add(choice, key, self._texts[key].end())
        return choice

    async def _pass_text(self, index: int, name: str, holder: Mapping[str, Any]) -> str | None:
        value = holder.get(name)
        if isinstance(value, list):  # a list of content parts; guards inspect the joined text
            value = "".join(str(part.get("text") or "") for part in _objects(value))
        return (
            await self._held_texts(index, name, 0, "output").take(value) if isinstance(value, str) else None
        )

    async def _call_piece(self, index: int, part: dict[str, Any]) -> dict[str, Any]:
        number = _number(part.get("index"))
        call: dict[str, Any] = {"index": number}
        call |= {name: part[name] for name in ("id", "type") if isinstance(part.get(name), str)}
        for kind, text in (("function", "arguments"), ("custom", "input"), (LEGACY_CALL, "arguments")):
            given_call = part.get(kind)
            if not isinstance(given_call, dict):
                continue
            call[kind] = {}
            if isinstance(given_call.get("name"), str):
                (call[kind]["name"],) = await self._guards.texts(
                    [given_call["name"]], "tool_arguments", self._context
                )
            if isinstance(given_call.get(text), str):
                texts = self._held_texts(index, f"{kind}.{text}", number, "tool_arguments")
                call[kind][text] = await texts.take(given_call[text])
        return call

    def _held_texts(self, index: int, name: str, number: int, place: str) -> HeldTexts:
        return self._texts.setdefault((index, name, number), HeldTexts(self._guards, place))

    def _add(self, choice: dict[str, Any], key: tuple[int, str, int], remainder: str) -> None:
        """Append the remaining text to the choice."""
        _index, name, number = key
        if not remainder:
            return
        if name == "text":
            choice["text"] = choice.get("text", "") + remainder
            return
        delta = choice.setdefault("delta", {})
        kind, _, text = name.partition(".")
        if not text:
            delta[name] = (delta.get(name) or "") + remainder
            return
        if kind == LEGACY_CALL:
            legacy_call = delta.setdefault(LEGACY_CALL, {})
            legacy_call[text] = legacy_call.get(text, "") + remainder
            return
        for part in delta.setdefault("tool_calls", []):
            if part["index"] == number and kind in part:
                part[kind][text] = part[kind].get(text, "") + remainder
                return
        delta["tool_calls"].append({"index": number, kind: {text: remainder}})

    def _rest(self) -> list[bytes]:
        """Return frames with the held-back text of choices that did not end with a finish reason."""
        frames = []
        for key, texts in self._texts.items():
            choice: dict[str, Any] = {"index": key[0], "finish_reason": None}
            self._add(choice, key, texts.end())
            if len(choice) > 2:
                frames.append(_frame({**self._like, "choices": [choice]}))
        return frames

    def _cut(self, text_blocked: TextBlocked) -> list[bytes]:
        """Return the last frames of a blocked response: the text that may pass, the reason, and OpenAI's finish
        reason.
        """
        place: Any = "output" if "output" in text_blocked.guard.where else "tool_arguments"
        text = f"{text_blocked.sent}\n\n{text_blocked.guard.explain(text_blocked.kinds, place)}".lstrip()
        piece: dict[str, Any] = {"text": text} if self._name == "text" else {"delta": {"content": text}}
        last: dict[str, Any] = {"text": ""} if self._name == "text" else {"delta": {}}
        choices = (
            {"index": 0, **piece, "finish_reason": None},
            {"index": 0, **last, "finish_reason": CONTENT_FILTER},
        )
        return [*(_frame({**self._like, "choices": [choice]}) for choice in choices), b"data: [DONE]\n\n"]

    async def _report(self) -> None:
        for texts in self._texts.values():
            for guard, kinds in texts.found:
                place: Any = texts.place
                await self._guards.report(guard, kinds, place, self._context)


def _read(data: bytes) -> dict[str, Any]:
    """Parse a JSON object. Raises `EngineFailed` for data that is not a JSON object, because guards cannot inspect
    it.
    """
    try:
        return _object(orjson.loads(data))
    except orjson.JSONDecodeError as error:
        raise _unreadable() from error


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _unreadable()
    return value


def _objects(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value or [], list):
        raise _unreadable()
    return [_object(item) for item in value or ()]


def _number(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value <= MAX_INDEX else 0


def _unreadable() -> EngineFailed:
    return EngineFailed(
        "The model did not respond in OpenAI's format, so guards cannot inspect the response."
    )


def _frame(document: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(document) + b"\n\n"
