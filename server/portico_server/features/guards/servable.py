"""Guards around any servable: they inspect its requests, its results, and the events that it emits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from portico.schemas.stores import StoreThemes
from portico.wire import Cited, Claimed, Delta, Event, ToolCalled, ToolReturned, Usage
from portico_server.core.attached_files import ReadsFiles
from portico_server.core.context import Context, ContextWithin
from portico_server.core.media import Draw, Speak, Transcription, holds_files
from portico_server.core.request import (
    AppInput,
    AppOutput,
    Chat,
    ChatReply,
    Embed,
    Message,
    Request,
    Rerank,
    Result,
    Search,
    SearchResult,
    ToolCall,
    ToolResult,
)
from portico_server.core.servable import Card, Servable
from portico_server.core.tables import ComputedValue, TableList
from portico_server.core.themes import ChangedFiles
from portico_server.features.guards.call_guards import Guards
from portico_server.features.guards.fields import (
    CONTENT_FILTER,
    guard_claims,
    guard_content,
    guard_fields,
    guard_messages,
    guard_passages,
)
from portico_server.features.guards.guard import ContentBlocked
from portico_server.features.guards.held_text import HeldTexts, TextBlocked

_UNREAD_OPTIONS: Final = frozenset(("user", "conversation", "seed"))
"""Chat options that guards skip: identifiers of an app's session, which masking would change, and the seed, a number
that models do not read as text.
"""


class GuardedServable:
    """A `Servable` around ``inner`` whose texts pass through the guards."""

    def __init__(self, inner: Servable, guards: Guards, files: ReadsFiles | None = None) -> None:
        self.inner = inner
        self.guards = guards
        self.files = files

    @property
    def card(self) -> Card:
        return self.inner.card

    async def call(self, request: Request, context: Context) -> Result:
        """Call the inner servable. Raises `ContentBlocked` if a guard blocks the request."""
        try:
            request = await self._check_request(request, context)
        except ContentBlocked as error:
            # the model that called the tool receives an error, so that it can continue without
            # the tool
            if isinstance(request, ToolCall):
                return ToolResult(error.message, is_error=True)
            raise
        if not self.guards.at("output", "tool_arguments", "tool_results"):
            return await self.inner.call(request, context)
        within = _GuardedContext(context, self.guards)
        try:
            result = await self.inner.call(request, within)
            await within.end()
        except TextBlocked as text_blocked:
            return await self._cut(within, text_blocked, request)
        return await self._check_result(result, request, context)

    async def _check_request(self, request: Request, context: Context) -> Request:
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
        """Return the messages with the text of their attached files."""
        if self.files is None or not holds_files(messages):
            return messages
        return await self.files.as_text(messages, context.caller)

    async def _cut(self, within: _GuardedContext, text_blocked: TextBlocked, request: Request) -> Result:
        """Return the result of a blocked answer: the text that was sent, including the reason. Raises `ContentBlocked`
        if the request is not a chat.
        """
        message = await within.end_blocked(text_blocked)
        if not isinstance(request, Chat):
            raise ContentBlocked(message)
        return ChatReply(within.sent, CONTENT_FILTER, usage=within.usage)

    async def _check_result(self, result: Result, request: Request, context: Context) -> Result:
        texts, value = self.guards.texts, self.guards.value
        match result:
            case ChatReply():
                try:
                    content = (await texts([result.content], "output", context))[0]
                except ContentBlocked as error:
                    return ChatReply(error.message, CONTENT_FILTER, usage=result.usage, model=result.model)
                calls = [
                    replace(call, arguments=(await texts([call.arguments], "tool_arguments", context))[0])
                    for call in result.tool_calls
                ]
                return replace(
                    result,
                    content=content,
                    tool_calls=tuple(calls),
                    citations=await guard_passages(result.citations, self.guards, context),
                    claims=await guard_claims(result.claims, self.guards, context),
                )
            case AppOutput():
                return replace(result, value=await value(result.value, "output", context))
            case ToolResult():
                try:
                    (text,) = await texts([result.text], "tool_results", context)
                    structured_content = await value(result.structured, "tool_results", context)
                except ContentBlocked as error:
                    return ToolResult(error.message, is_error=True)
                return replace(result, text=text, structured=structured_content)
            case SearchResult():
                passed_groups = [
                    await guard_passages((passage,), self.guards, context) for passage in result.passages
                ]
                names = zip(passed_groups, result.names, strict=False)  # there are no names unless requested
                return replace(
                    result,
                    passages=tuple(passage for group in passed_groups for passage in group),
                    names=tuple(passage_names for group, passage_names in names if group),
                    trace=await guard_content(result.trace, self.guards, context),
                )
            case StoreThemes() | ChangedFiles():
                return await guard_content(result, self.guards, context)
            case TableList():
                # a value computed from masked cells would be wrong
                tables = [
                    table
                    for table in result.tables
                    if await guard_content((table,), self.guards, context) == (table,)
                ]
                return TableList(tuple(tables))
            case ComputedValue():
                try:
                    return await guard_content(result, self.guards, context)
                except ContentBlocked:
                    return ComputedValue(None)
            case Transcription():
                (text,) = await texts([result.text], "output", context)
                parts = await texts([part.text for part in result.segments], "output", context)
                words = await texts([part.text for part in result.words], "output", context)
                return replace(
                    result,
                    text=text,
                    segments=tuple(
                        map(lambda part, new_text: replace(part, text=new_text), result.segments, parts)
                    ),
                    words=tuple(
                        map(lambda part, new_text: replace(part, text=new_text), result.words, words)
                    ),
                )
        return result


class _GuardedContext(ContextWithin):
    """A context that guards the events of a run. It emits the text of the answer only once the text may pass."""

    __slots__ = ("_guards", "_texts", "sent", "usage")

    def __init__(self, outer: Context, guards: Guards) -> None:
        super().__init__(outer)
        self._guards = guards
        self._texts: dict[int, HeldTexts] = {}
        self.sent = ""
        self.usage = Usage()

    async def emit(self, event: Event) -> None:
        """Emit an event. Raises `TextBlocked` if a guard blocks the answer."""
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
            case Claimed():
                (claim,) = await guard_claims([event.claim], self._guards, self._outer)
                event = replace(event, claim=claim)
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
        """Emit the text that was held back. Raises `TextBlocked`."""
        for index, texts in self._texts.items():
            await self._send(texts.end(), index)

    async def end_blocked(self, text_blocked: TextBlocked) -> str:
        """End the answer with the reason, and return the reason."""
        message = text_blocked.guard.explain(text_blocked.kinds, "output")
        await self._send(text_blocked.sent, 0)
        await self._send(f"\n\n{message}" if self.sent else message, 0)
        await self._guards.report(text_blocked.guard, text_blocked.kinds, "output", self._outer)
        return message
