"""Guards around any Servable: what it is asked, what it answers, and what comes while it works."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from portico.wire import Cited, Delta, Event, Passage, ToolCalled, ToolReturned, Usage
from portico_server.core.context import Context, ContextWithin
from portico_server.core.errors import InvalidRequest
from portico_server.core.media import Draw, Speak, Transcript
from portico_server.core.relay import Operation, Relay, RelayResponse
from portico_server.core.request import (
    AppInput,
    AppOutput,
    Chat,
    Embed,
    Found,
    Message,
    Reply,
    Request,
    Rerank,
    Result,
    Search,
    ToolCall,
    ToolResult,
)
from portico_server.core.servable import Card, Relays, Servable, relays
from portico_server.guards.guard import EVERYTHING, ContentBlocked, ContentGuard, Guards
from portico_server.guards.held_text import HeldTexts, TextBlocked

CONTENT_FILTER: Final = "content_filter"
"""Why an answer ended, in OpenAI's word."""

_FIELDS: Final[Mapping[Operation, tuple[str, ...]]] = {
    "completions": ("prompt", "suffix"),
    "embeddings": ("input",),
    "rerank": ("query", "documents"),
    "moderations": (),
    "audio/speech": ("input", "instructions"),
    "audio/transcriptions": ("prompt",),
    "audio/translations": ("prompt",),
    "images/generations": ("prompt",),
    "images/edits": ("prompt",),
}
"""Fields of a body that are texts; of a chat it is its messages."""

_TEXTS: Final = ("content", "reasoning_content", "reasoning", "refusal", "text")
"""Fields of a message, of a piece of one and of a choice that are texts of the model."""


def guarded(servable: Servable, guards: Iterable[ContentGuard], aliases: Mapping[str, str]) -> Servable:
    """The servable within the guards that are around it; itself if there are none."""
    key = servable.card.key
    around = tuple(
        guard
        for guard in guards
        if EVERYTHING in guard.on or key in guard.on or any(aliases.get(name) == key for name in guard.on)
    )
    if not around:
        return servable
    if relays(servable):
        return GuardedModel(servable, Guards(around))  # type: ignore[arg-type]  # it is a servable too
    return GuardedServable(servable, Guards(around))


class GuardedServable:
    """A `Servable`: ``inner``, and nothing passes that the guards do not let pass."""

    def __init__(self, inner: Servable, guards: Guards) -> None:
        self.inner = inner
        self.guards = guards

    @property
    def card(self) -> Card:
        return self.inner.card

    async def call(self, request: Request, context: Context) -> Result:
        """As the inner one does. Raises `ContentBlocked` if what it is asked must not pass."""
        try:
            request = await self._asked(request, context)
        except ContentBlocked as error:
            if isinstance(request, ToolCall):  # the model that called it may do something else
                return ToolResult(error.message, is_error=True)
            raise
        if not self.guards.at("output", "tool_arguments", "tool_results"):
            return await self.inner.call(request, context)
        within = _GuardedContext(context, self.guards)
        try:
            result = await self.inner.call(request, within)
            await within.end()
        except TextBlocked as blocked:
            return await self._cut(within, blocked, request)
        return await self._answered(result, request, context)

    async def _asked(self, request: Request, context: Context) -> Request:
        texts, value = self.guards.texts, self.guards.value
        match request:
            case Chat():
                return replace(
                    request, messages=tuple(await guard_messages(request.messages, self.guards, context))
                )
            case AppInput():
                return replace(request, value=await value(request.value, "input", context))
            case ToolCall():
                return replace(request, arguments=await value(request.arguments, "tool_arguments", context))
            case Search():
                return replace(request, query=(await texts([request.query], "input", context))[0])
            case Embed() if request.spans is None:
                return replace(request, input=tuple(await texts(request.input, "input", context)))
            case Rerank():
                query, *documents = await texts([request.query, *request.documents], "input", context)
                return replace(request, query=query, documents=tuple(documents))
            case Speak():
                return replace(request, input=(await texts([request.input], "input", context))[0])
            case Draw():
                return replace(request, prompt=(await texts([request.prompt], "input", context))[0])
        return request

    async def _cut(self, within: _GuardedContext, blocked: TextBlocked, request: Request) -> Result:
        """The end of an answer of which a part must not pass."""
        message = await within.blocked(blocked)
        if not isinstance(request, Chat):
            raise ContentBlocked(message)
        return Reply(within.sent, CONTENT_FILTER, usage=within.usage)

    async def _answered(self, result: Result, request: Request, context: Context) -> Result:
        texts, value = self.guards.texts, self.guards.value
        match result:
            case Reply():
                try:
                    content = (await texts([result.content], "output", context))[0]
                except ContentBlocked as error:
                    return replace(result, content=error.message, finish_reason=CONTENT_FILTER, tool_calls=())
                calls = [
                    replace(call, arguments=(await texts([call.arguments], "tool_arguments", context))[0])
                    for call in result.tool_calls
                ]
                return replace(result, content=content, tool_calls=tuple(calls))
            case AppOutput():
                return replace(result, value=await value(result.value, "output", context))
            case ToolResult():
                try:
                    (text,) = await texts([result.text], "tool_results", context)
                    structured = await value(result.structured, "tool_results", context)
                except ContentBlocked as error:
                    return ToolResult(error.message, is_error=True)
                return replace(result, text=text, structured=structured)
            case Found():
                return replace(result, passages=await guard_passages(result.passages, self.guards, context))
            case Transcript():
                (text,) = await texts([result.text], "output", context)
                parts = await texts([part.text for part in result.segments], "output", context)
                words = await texts([part.text for part in result.words], "output", context)
                return replace(
                    result,
                    text=text,
                    segments=tuple(map(lambda part, said: replace(part, text=said), result.segments, parts)),
                    words=tuple(map(lambda part, said: replace(part, text=said), result.words, words)),
                )
        return result


async def guard_messages(
    messages: Iterable[Message], guards: Guards, context: Context
) -> list[Mapping[str, Any]]:
    """Messages of a chat as they may pass: texts of tools as results, those of everybody else as input."""
    passed: list[Mapping[str, Any]] = []
    for message in messages:
        role, content = message.get("role"), message.get("content")
        place: Any = "tool_results" if role in ("tool", "function") else "input"
        changed = dict(message)
        if isinstance(content, str):
            changed["content"] = (await guards.texts([content], place, context))[0]
        elif isinstance(content, list):
            changed["content"] = [
                {**part, "text": (await guards.texts([part["text"]], place, context))[0]}
                if isinstance(part, dict) and isinstance(part.get("text"), str)
                else part
                for part in content
            ]
        if message.get("tool_calls") and guards.at("tool_arguments"):
            changed["tool_calls"] = await _guard_calls(message["tool_calls"], guards, context)
        passed.append(changed)
    return passed


async def _guard_calls(calls: Iterable[Any], guards: Guards, context: Context) -> list[Any]:
    passed = []
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict) and isinstance(function.get("arguments"), str):
            (arguments,) = await guards.texts([function["arguments"]], "tool_arguments", context)
            call = {**call, "function": {**function, "arguments": arguments}}
        passed.append(call)
    return passed


async def guard_passages(
    passages: Iterable[Passage], guards: Guards, context: Context
) -> tuple[Passage, ...]:
    """Passages that were found as they may pass; one that must not is left out."""
    passed = []
    for passage in passages:
        try:
            (text,) = await guards.texts([passage.text], "tool_results", context)
        except ContentBlocked:
            continue
        passed.append(passage if text == passage.text else replace(passage, text=text))
    return tuple(passed)


class _GuardedContext(ContextWithin):
    """Lets through events of which nothing must be held back, and pieces of the answer when they may pass."""

    __slots__ = ("_guards", "_texts", "sent", "usage")

    def __init__(self, outer: Context, guards: Guards) -> None:
        super().__init__(outer)
        self._guards = guards
        self._texts: dict[int, HeldTexts] = {}
        self.sent = ""
        self.usage = Usage()

    async def emit(self, event: Event) -> None:
        """Raises `TextBlocked` if the answer must not continue."""
        match event:
            case Delta() if self._guards.at("output"):
                texts = self._texts.setdefault(event.index, HeldTexts(self._guards, "output"))
                await self._send(texts.feed(event.text), event.index)
                return
            case Usage():
                self.usage += event
            case Cited():
                passages = await guard_passages(event.passages, self._guards, self._outer)
                event = replace(event, passages=passages)
            case ToolCalled():
                (arguments,) = await self._guards.texts([event.arguments], "tool_arguments", self._outer)
                event = replace(event, arguments=arguments)
            case ToolReturned():
                try:
                    (text,) = await self._guards.texts([event.text], "tool_results", self._outer)
                except ContentBlocked as error:
                    text = error.message
                event = replace(event, text=text)
        await self._outer.emit(event)

    async def _send(self, text: str, index: int) -> None:
        if text:
            self.sent += text if not index else ""
            await self._outer.emit(Delta(text, index))

    async def end(self) -> None:
        """Let the rest pass. Raises `TextBlocked`."""
        for index, texts in self._texts.items():
            await self._send(texts.end(), index)

    async def blocked(self, blocked: TextBlocked) -> str:
        """End the answer with the reason, which is returned."""
        message = blocked.guard.explain(blocked.kinds, "output")
        await self._send(blocked.sent, 0)
        await self._send(f"\n\n{message}" if self.sent else message, 0)
        await self._guards.report(blocked.guard, blocked.kinds, "output", self._outer)
        return message


# The hot path.


class GuardedModel(GuardedServable):
    """The same for what also `Relays`."""

    inner: Relays  # type: ignore[assignment]  # what relays is a servable too

    def over(self, inner: Relays) -> GuardedModel:
        """The same guards around another part of the model."""
        return GuardedModel(inner, self.guards)  # type: ignore[arg-type]

    async def relay(self, request: Relay, context: Context) -> RelayResponse:
        """See `portico_server.core.servable.Relays`. Raises `ContentBlocked` if what it is asked must not pass."""
        request = replace(request, body=await self._body(request, context), original=None)
        written = request.operation in ("audio/transcriptions", "audio/translations")
        if written and request.stream and self.guards.at("output"):
            raise InvalidRequest(
                "A guard reads what is written down here, so it is not streamed: leave out 'stream'.",
                code="unsupported_parameter",
                param="stream",
            )
        relayed = await self.inner.relay(request, context)
        if request.operation in ("chat/completions", "completions"):
            if self.guards.at("output", "tool_arguments"):
                stream = _GuardedStream(self.guards, context)
                read = stream.frames if request.stream else stream.document
                relayed.chunks = read(relayed.chunks)
        elif written and self.guards.at("output"):
            relayed.chunks = self._transcript(relayed, context)
        return relayed

    async def _body(self, request: Relay, context: Context) -> dict[str, Any]:
        body = dict(request.body)
        if request.operation == "chat/completions":
            body["messages"] = await guard_messages(body["messages"], self.guards, context)
            return body
        for field in _FIELDS[request.operation]:
            if field in body:
                body[field] = await self.guards.value(body[field], "input", context)
        return body

    async def _transcript(self, relayed: RelayResponse, context: Context) -> AsyncIterator[bytes]:
        data = await _whole(relayed.chunks)
        if relayed.media_type.startswith("application/json"):
            yield orjson.dumps(await self.guards.value(orjson.loads(data), "output", context))
        else:
            yield (await self.guards.texts([data.decode()], "output", context))[0].encode()


async def _whole(chunks: AsyncIterator[bytes]) -> bytes:
    try:
        return b"".join([chunk async for chunk in chunks])
    finally:
        await _close(chunks)


async def _close(chunks: AsyncIterator[bytes]) -> None:
    aclose: Callable[[], Any] | None = getattr(chunks, "aclose", None)
    if aclose is not None:
        await aclose()


class _GuardedStream:
    """An answer in OpenAI's words on its way to the client."""

    def __init__(self, guards: Guards, context: Context) -> None:
        self._guards = guards
        self._context = context
        self._texts: dict[tuple[int, str, int], HeldTexts] = {}
        self._like: dict[str, Any] = {}
        """A chunk without choices, for those that are made here."""
        self._name = "content"

    async def document(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """An answer that comes whole."""
        document = orjson.loads(await _whole(chunks))
        for choice in document.get("choices") or ():
            await self._choice(choice)
        yield orjson.dumps(document)

    async def _choice(self, choice: dict[str, Any]) -> None:
        message = choice.get("message") or {}
        choice.pop("logprobs", None)
        try:
            for holder in (message, choice):
                for name in _TEXTS:
                    if isinstance(holder.get(name), str):
                        (holder[name],) = await self._guards.texts([holder[name]], "output", self._context)
            if message.get("tool_calls"):
                message["tool_calls"] = await _guard_calls(message["tool_calls"], self._guards, self._context)
        except ContentBlocked as error:
            choice["finish_reason"] = CONTENT_FILTER
            if "text" in choice:
                choice["text"] = error.message
            else:
                choice["message"] = {"role": "assistant", "content": error.message, "refusal": None}

    async def frames(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """An answer that comes in pieces. Closing it closes what it comes from."""
        try:
            async for chunk in chunks:
                for frame in chunk.split(b"\n\n"):
                    if not frame.startswith(b"data: {"):
                        if frame.startswith(b"data: [DONE]"):
                            for rest in self._rest():
                                yield rest
                            await self._report()
                        if frame:
                            yield frame + b"\n\n"
                        continue
                    document = orjson.loads(frame[6:])
                    if self._held_back(document):
                        continue
                    yield _frame(document)
        except TextBlocked as blocked:
            for frame in self._cut(blocked):
                yield frame
            await self._report()
        finally:
            await _close(chunks)

    def _held_back(self, document: dict[str, Any]) -> bool:
        """Put what may pass in the place of what came; whether that is nothing."""
        choices = document.get("choices")
        if not choices:
            return False
        if not self._like:
            self._like = {name: value for name, value in document.items() if name not in ("choices", "usage")}
        for choice in choices:
            self._piece(choice)
        return not document.get("usage") and not any(
            choice.get("finish_reason")
            or choice.get("text")
            or any(map(_says, (choice.get("delta") or {}).items()))
            for choice in choices
        )

    def _piece(self, choice: dict[str, Any]) -> None:
        index, delta = choice.get("index", 0), choice.get("delta") or {}
        choice.pop("logprobs", None)
        if "text" in choice:
            self._name = "text"
        ended = choice.get("finish_reason") is not None
        for holder in (delta, choice):
            for name in _TEXTS:
                if isinstance(holder.get(name), str):
                    holder[name] = self._held(index, name, 0, "output").feed(holder[name])
        for part in delta.get("tool_calls") or ():
            function = part.get("function") or {}
            if isinstance(function.get("arguments"), str):
                texts = self._held(index, "arguments", part.get("index", 0), "tool_arguments")
                function["arguments"] = texts.feed(function["arguments"])
        if ended:
            for key in [key for key in self._texts if key[0] == index]:
                self._add(choice, key, self._texts[key].end())

    def _held(self, index: int, name: str, number: int, place: str) -> HeldTexts:
        return self._texts.setdefault((index, name, number), HeldTexts(self._guards, place))

    def _add(self, choice: dict[str, Any], key: tuple[int, str, int], rest: str) -> None:
        """The rest of a text in the last piece of its choice."""
        _index, name, number = key
        if not rest:
            return
        if name == "text":
            choice["text"] = choice.get("text", "") + rest
            return
        delta = choice.setdefault("delta", {})
        if name != "arguments":
            delta[name] = (delta.get(name) or "") + rest
            return
        for part in delta.setdefault("tool_calls", []):
            if part.get("index", 0) == number:
                part.setdefault("function", {})["arguments"] = part["function"].get("arguments", "") + rest
                return
        delta["tool_calls"].append({"index": number, "function": {"arguments": rest}})

    def _rest(self) -> list[bytes]:
        """What is held of choices whose end never came."""
        frames = []
        for key, texts in self._texts.items():
            choice: dict[str, Any] = {"index": key[0], "finish_reason": None}
            self._add(choice, key, texts.end())
            if len(choice) > 2:
                frames.append(_frame({**self._like, "choices": [choice]}))
        return frames

    def _cut(self, blocked: TextBlocked) -> list[bytes]:
        """The end of an answer that must not continue: what may pass, the reason, and OpenAI's word for it."""
        place: Any = "output" if "output" in blocked.guard.where else "tool_arguments"
        text = f"{blocked.sent}\n\n{blocked.guard.explain(blocked.kinds, place)}".lstrip()
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


def _says(item: tuple[str, Any]) -> bool:
    """Whether a field of a piece says something."""
    return bool(item[1])


def _frame(document: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(document) + b"\n\n"
