"""Guards around any Servable: what it is asked, what it answers, and what comes while it works."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from portico.wire import Cited, Delta, Event, Passage, ToolCalled, ToolReturned, Usage
from portico_server.core.attached_files import ReadsFiles
from portico_server.core.context import Context, ContextWithin
from portico_server.core.errors import EngineFailed, InvalidRequest
from portico_server.core.media import Draw, Speak, Transcript, holds_files
from portico_server.core.relay import Relay, RelayResponse, event_data
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
from portico_server.guards.call_guards import Guards
from portico_server.guards.guard import EVERYTHING, ContentBlocked, ContentGuard, GuardPlace
from portico_server.guards.held_text import HeldTexts, TextBlocked

CONTENT_FILTER: Final = "content_filter"
"""Why an answer ended, in OpenAI's word."""

_UNREAD: Final = frozenset(("model", "messages", "stream", "seed"))
"""Fields of a body that say nothing to a model, or are looked at otherwise. All others are: a model, or whoever serves
it, may read each of them.
"""

_UNREAD_OPTIONS: Final = frozenset(("user", "conversation", "seed"))
"""Options of a chat that name a session of an app, which would be another one under a label, and a number that no model
reads.
"""

_LEGACY: Final = "function_call"
"""The one call of a function, as it was before there were several."""

_CALLS: Final = frozenset(("tool_calls", _LEGACY))

_UNREAD_OF_MESSAGE: Final = frozenset(("role", "tool_call_id")) | _CALLS

_UNREAD_OF_CALL: Final = frozenset(("id", "type", "index"))

_TEXTS: Final = ("content", "reasoning_content", "reasoning", "refusal", "text")
"""Fields of a message, of a piece of one and of a choice that are texts of the model."""

_STREAMED: Final = frozenset((*_TEXTS, "role", "tool_calls"))
"""What a piece of a message may have. Anything else comes in pieces too, which nobody could hold back."""

MAX_INDEX: Final = 10_000
"""Of a choice, or of a call of a tool."""

_FRAME: Final = frozenset(("id", "object", "created", "model", "system_fingerprint", "service_tier", "usage"))
"""What a frame may have beside its choices."""


def guarded(
    servable: Servable,
    guards: Iterable[ContentGuard],
    aliases: Mapping[str, str],
    files: ReadsFiles | None = None,
) -> Servable:
    """The servable within the guards that are around it; itself if there are none. ``files`` reads what comes with a
    question: guards see its text, and so does the model.
    """
    key = servable.card.key
    # What is around either side of a split is around both, and an alias of a version means its app.
    names = frozenset({key}) | getattr(servable, "names", frozenset())
    around = tuple(
        guard
        for guard in guards
        if EVERYTHING in guard.on
        or not names.isdisjoint(guard.on)
        or any(aliases.get(name) in names for name in guard.on)
    )
    if not around:
        return servable
    if relays(servable):
        return GuardedModel(servable, Guards(around), files)  # type: ignore[arg-type]  # it is a servable too
    return GuardedServable(servable, Guards(around), files)


class GuardedServable:
    """A `Servable`: ``inner``, and nothing passes that the guards do not let pass."""

    def __init__(self, inner: Servable, guards: Guards, files: ReadsFiles | None = None) -> None:
        self.inner = inner
        self.guards = guards
        self.files = files

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
                    request,
                    messages=tuple(
                        await guard_messages(
                            await self._read(request.messages, context), self.guards, context
                        )
                    ),
                    options=await guard_fields(
                        request.options, _UNREAD_OPTIONS, "input", self.guards, context
                    ),
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

    async def _read(self, messages: Sequence[Message], context: Context) -> Sequence[Message]:
        """The messages with the text of their files."""
        if self.files is None or not holds_files(messages):
            return messages
        return await self.files.as_text(messages, context.caller)

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
    """Messages of a chat as they may pass: texts of tools as results, those of everybody else as input, calls of tools
    as arguments. All texts of one place are searched together: of many messages it is done in a thread.
    """
    passed: list[dict[str, Any]] = [dict(message) for message in messages]
    read: dict[GuardPlace, list[tuple[dict[str, Any], str]]] = {}
    for message in passed:
        place: GuardPlace = "tool_results" if message.get("role") in ("tool", "function") else "input"
        for name in message.keys() - _UNREAD_OF_MESSAGE:
            read.setdefault(place, []).append((message, name))
        for name in _CALLS & message.keys():
            message[name] = calls = _copied(message[name])
            for call in calls if isinstance(calls, list) else [calls]:
                if isinstance(call, dict):
                    fields = [(call, field) for field in call.keys() - _UNREAD_OF_CALL]
                    read.setdefault("tool_arguments", []).extend(fields)
    for place, fields in read.items():
        found = await guards.value([{name: holder[name]} for holder, name in fields], place, context)
        for (holder, name), changed in zip(fields, found, strict=True):
            del holder[name]
            holder |= changed
    return list(passed)


def _copied(calls: Any) -> Any:
    """Calls of tools whose fields can be changed."""
    if isinstance(calls, list):
        return [_copied(call) for call in calls]
    return dict(calls) if isinstance(calls, dict) else calls


async def guard_fields(
    given: Mapping[str, Any], but: frozenset[str], place: GuardPlace, guards: Guards, context: Context
) -> dict[str, Any]:
    """An object of which all fields but some are as they may pass."""
    read = {name: value for name, value in given.items() if name not in but}
    if not read:
        return dict(given)
    kept = {name: value for name, value in given.items() if name in but}
    return {**kept, **await guards.value(read, place, context)}


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
                await self._send(await texts.take(event.text), event.index)
                return
            case Usage():
                self.usage += event
            case Cited():
                passages = await guard_passages(event.passages, self._guards, self._outer)
                nearest = await guard_passages(event.nearest, self._guards, self._outer)
                event = replace(event, passages=passages, nearest=nearest)
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
        return GuardedModel(inner, self.guards, self.files)  # type: ignore[arg-type]

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
                    f"A guard reads what is asked here, so '{name}' must be text: numbers of tokens are not taken.",
                    code="unsupported_parameter",
                    param=name,
                )
        return body

    async def _transcript(self, relayed: RelayResponse, context: Context) -> AsyncIterator[bytes]:
        data = await _whole(relayed.chunks)
        if relayed.media_type.startswith("application/json"):
            yield orjson.dumps(await self.guards.value(orjson.loads(data), "output", context))
        else:
            yield (await self.guards.texts([data.decode()], "output", context))[0].encode()


def _has_tokens(given: Any) -> bool:
    """Whether a prompt is numbers of tokens in place of text."""
    return isinstance(given, list) and any(
        isinstance(item, int) or (isinstance(item, list) and item and isinstance(item[0], int))
        for item in given
    )


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
        document = _read(await _whole(chunks))
        choices = [await self._choice(choice) for choice in _objects(document.get("choices"))]
        try:
            document = await self._fields(document, _FRAME | {"choices"})
        except ContentBlocked:
            document = {name: value for name, value in document.items() if name in _FRAME}
        yield orjson.dumps({**document, "choices": choices})

    async def _fields(self, given: Mapping[str, Any], but: frozenset[str]) -> dict[str, Any]:
        return await guard_fields(given, but, "output", self._guards, self._context)

    async def _choice(self, choice: dict[str, Any]) -> dict[str, Any]:
        choice = {name: value for name, value in choice.items() if name != "logprobs"}
        message = choice.get("message")
        try:
            choice = await self._fields(choice, frozenset(("index", "finish_reason", "message")))
            if message:
                (calls,) = await guard_messages(
                    [{name: value for name, value in _object(message).items() if name in _CALLS}],
                    self._guards,
                    self._context,
                )
                choice["message"] = {**await self._fields(message, _CALLS | {"role"}), **calls}
        except ContentBlocked as error:
            said: dict[str, Any] = {
                "message": {"role": "assistant", "content": error.message, "refusal": None}
            }
            if "text" in choice:
                said = {"text": error.message}
            return {"index": _number(choice.get("index")), **said, "finish_reason": CONTENT_FILTER}
        return choice

    async def frames(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """An answer that comes in pieces. Closing it closes what it comes from."""
        try:
            async for chunk in chunks:
                for frame in chunk.split(b"\n\n"):
                    data = event_data(frame.replace(b"\r", b""))
                    if data == b"[DONE]":
                        for rest in self._rest():
                            yield rest
                        await self._report()
                        yield b"data: [DONE]\n\n"
                    elif data:
                        document = await self._passed(_read(data))
                        if document is not None:
                            yield _frame(document)
                    elif frame:  # it keeps the connection alive
                        yield b":\n\n"
        except TextBlocked as blocked:
            for frame in self._cut(blocked):
                yield frame
            await self._report()
        finally:
            await _close(chunks)

    async def _passed(self, document: dict[str, Any]) -> dict[str, Any] | None:
        """What may pass of a frame, and nothing else; ``None`` if that is nothing."""
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

    async def _piece(self, given: dict[str, Any]) -> dict[str, Any]:
        index, delta = _number(given.get("index")), _object(given.get("delta") or {})
        choice: dict[str, Any] = {"index": index, "finish_reason": given.get("finish_reason")}
        if "text" in given:
            self._name = "text"
            choice["text"] = await self._taken(index, "text", given)
        if "delta" in given:
            choice["delta"] = {
                name: await self._taken(index, name, delta) if name in _TEXTS else value
                for name, value in delta.items()
                if name in _STREAMED and name != "tool_calls"
            }
        if calls := _objects(delta.get("tool_calls")):
            choice["delta"]["tool_calls"] = [await self._call_piece(index, part) for part in calls]
        if isinstance(delta.get(_LEGACY), dict):
            choice["delta"][_LEGACY] = (await self._call_piece(index, {_LEGACY: delta[_LEGACY]}))[_LEGACY]
        if choice["finish_reason"] is not None:
            for key in [key for key in self._texts if key[0] == index]:
                self._add(choice, key, self._texts[key].end())
        return choice

    async def _taken(self, index: int, name: str, holder: Mapping[str, Any]) -> str | None:
        given = holder.get(name)
        if isinstance(given, list):  # parts, of which the texts are what is said
            given = "".join(str(part.get("text") or "") for part in _objects(given))
        return await self._held(index, name, 0, "output").take(given) if isinstance(given, str) else None

    async def _call_piece(self, index: int, part: dict[str, Any]) -> dict[str, Any]:
        number = _number(part.get("index"))
        call: dict[str, Any] = {"index": number}
        call |= {name: part[name] for name in ("id", "type") if isinstance(part.get(name), str)}
        for kind, text in (("function", "arguments"), ("custom", "input"), (_LEGACY, "arguments")):
            given = part.get(kind)
            if not isinstance(given, dict):
                continue
            call[kind] = {}
            if isinstance(given.get("name"), str):
                (call[kind]["name"],) = await self._guards.texts(
                    [given["name"]], "tool_arguments", self._context
                )
            if isinstance(given.get(text), str):
                texts = self._held(index, f"{kind}.{text}", number, "tool_arguments")
                call[kind][text] = await texts.take(given[text])
        return call

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
        kind, _, text = name.partition(".")
        if not text:
            delta[name] = (delta.get(name) or "") + rest
            return
        if kind == _LEGACY:
            called = delta.setdefault(_LEGACY, {})
            called[text] = called.get(text, "") + rest
            return
        for part in delta.setdefault("tool_calls", []):
            if part["index"] == number and kind in part:
                part[kind][text] = part[kind].get(text, "") + rest
                return
        delta["tool_calls"].append({"index": number, kind: {text: rest}})

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


def _read(data: bytes) -> dict[str, Any]:
    """Raises `EngineFailed` for what no guard can look at."""
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
        "The model sent something other than an answer in OpenAI's form, which no guard can look at."
    )


def _frame(document: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(document) + b"\n\n"
