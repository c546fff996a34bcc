"""The work of a response: call the model and its tools until the model has answered or the client must act."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from typing import Any, Final

from portico.wire import Cited, Claimed, Delta, Passage, Usage
from portico.wire import Event as RunEvent
from portico_server.core.context import Context, Listener
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.relay import Relay
from portico_server.core.request import Chat, ChatReply, Message, Result
from portico_server.core.servable import Relays, Servable, relays
from portico_server.features.responses import hosted, mcp_tool
from portico_server.features.responses.answer_reader import AnswerReader
from portico_server.features.responses.chat_options import chat_options
from portico_server.features.responses.citations import file_citations
from portico_server.features.responses.code_tool import made_notes
from portico_server.features.responses.compaction import (
    CompactedConversation,
    cuts,
    quote_user_messages,
    window,
)
from portico_server.features.responses.compactor import BYTES_PER_TOKEN, SHORT, Compactor, size_of
from portico_server.features.responses.event_builder import EventBuilder, status_after
from portico_server.features.responses.items import Item
from portico_server.features.responses.items import read as read_items
from portico_server.features.responses.messages import messages_of
from portico_server.features.responses.open_items import Event
from portico_server.features.responses.request import ResponseRequest
from portico_server.features.responses.search_tool import app_in_place_of
from portico_server.features.responses.stream_reader import CallPiece, EndPiece, TextPiece, pieces
from portico_server.features.responses.tool_context import Emit, OfferedTool, ResponseServices, ToolContext
from portico_server.features.responses.truncation import drop_older_half, halve_longest_result
from portico_server.runs.run import charge_call

MAX_ROUNDS: Final = 32
"""Maximum number of model calls for a response; in the last round, the model has no hosted tools."""

MAX_CALLS: Final = 64
"""Maximum number of hosted tool calls, unless the request sets another limit."""

MAX_SHORTENING_COUNT: Final = 8
"""Maximum number of times that one question to the model is shortened because it exceeds the context."""


@dataclass(frozen=True, slots=True)
class PreparedResponse:
    """A validated request, ready to be answered by a resolved model or app.

    ``before`` are the items of the conversation, ending with the request's input; ``head`` are messages that precede
    them; ``media`` maps file ids in them to ``data:`` URLs. ``session`` is the session of an app that keeps its own
    history. ``after`` is the number of the last item in the stored conversation.
    """

    ask: ResponseRequest
    servable: Servable
    machine: EventBuilder
    before: Sequence[Item]
    head: Sequence[Message] = ()
    media: Mapping[str, str] = field(default_factory=dict)
    session: str = ""
    after: int | None = None

    def messages(self) -> list[Message]:
        """Return the current conversation, including the items that this response has added."""
        items = [*self.before, *self.machine.output]
        chat_messages = messages_of(items, self.ask.instructions, self.media)
        if not self.head:
            return chat_messages
        first = 1 if self.ask.instructions else 0
        return [*chat_messages[:first], *self.head, *chat_messages[first:]]

    def relayed(self) -> Relays | None:
        """Return the model if the engine's own chunks can be relayed, else ``None``."""
        return self.servable if relays(self.servable) else None


@contextmanager
def named_as_input() -> Iterator[None]:
    """Make errors about a chat's messages name ``input``, the field that the client sent."""
    try:
        yield
    except PorticoError as error:
        if (error.param or "").startswith("messages["):
            error.param = "input"
        raise


CallApp = Callable[[Chat, Listener], Awaitable[Result]]
"""Answers a chat; the listener receives the events."""

_TOOL_OPTIONS: Final = ("tools", "tool_choice", "parallel_tool_calls")

Note = Callable[[OfferedTool | None], Awaitable[None]]
"""Records the progress of a response: before a tool is called, and after all requested calls."""


async def unheard(_events: Sequence[Event]) -> None:
    """Discard the events, for a caller that waits for the complete response."""


async def unnoted(_offer: OfferedTool | None) -> None:
    """Record nothing, for a response that cannot outlive the daemon."""


@dataclass(slots=True)
class ResponseWork:
    """The work of one response. ``emit`` sends events to the client, ``note`` records the progress.

    After `run`, only the last events are missing; `finish` returns them.
    """

    prepared: PreparedResponse
    around: ResponseServices
    emit: Emit = unheard
    note: Note = unnoted
    usage: Usage = Usage()
    reason: str = "stop"
    thoughts: int = 0
    model: str = ""
    """Name of the model that gave the last answer; empty for an app."""
    context: Context = field(init=False)
    _bench: ToolContext = field(init=False)
    _cited_passages: tuple[Passage, ...] = ()
    _calls: int = 0
    _counted_tokens: int = 0
    _declined: list[Message] = field(default_factory=list)

    async def run(self, context: Context) -> None:
        """Produce the answer. Raises `PorticoError` on failure."""
        response = self.prepared
        self.context = context
        card = response.servable.card
        self.model = card.name if card.kind == "model" else ""
        self._bench = ToolContext(
            response.ask, response.machine, context, self.around, self.emit, response.before
        )
        response.machine.annotate = self._notes
        if response.ask.compacts or response.ask.threshold is not None:
            await self._compact()
        if response.ask.compacts:
            return
        await hosted.grasp(self._bench)
        await self._approved()
        if await self._answer_by_app():
            return
        for number in range(1, MAX_ROUNDS + 1):
            may_call = number < MAX_ROUNDS and self._calls < self._max_calls and not self._bench.repeated
            offers = self._bench.offers if may_call else {}
            hearing = await self._round(offers, first=number == 1)
            self.reason, self.thoughts = hearing.reason, self.thoughts + hearing.thoughts
            await self._say(self.prepared.machine.settle(status_after(self.reason)))
            if (
                not hearing.daemon_calls or not offers or self.reason == "length"
            ):  # a call that was cut off is not executed
                return
            await self._do(hearing)
            if hearing.asks_client or self._bench.waits:
                return
            if self._remaining_tokens() == 0:
                self.reason = "length"
                return

    async def _answer_by_app(self) -> bool:
        """Let the app of the stores answer if the model cannot search them. Return whether it answered."""
        messages = self.prepared.messages()
        last = messages[-1] if messages else {}
        is_text = last.get("role") == "user" and isinstance(last["content"], str) and last["content"].strip()
        if self.prepared.relayed() is None or self._max_calls < 1 or not is_text:
            return False
        options = self._options(self._bench.offers, first=True)
        app = await app_in_place_of(self._bench, self.prepared.servable.card, options)
        if app is None:
            return False
        hearing = AnswerReader(self.prepared.machine)
        options = {name: value for name, value in options.items() if name not in _TOOL_OPTIONS}
        with named_as_input():
            await self._ask_app(messages, options, hearing, app.call)
        self.reason = hearing.reason
        await self._say(self.prepared.machine.settle(status_after(self.reason)))
        return True

    def finish(self) -> list[Event]:
        """Return the last events."""
        return self.prepared.machine.end(self.reason, self.usage, self.thoughts)

    async def _round(self, offers: Mapping[str, OfferedTool], *, first: bool) -> AnswerReader:
        namespaces = {
            tool.spoken: (tool.namespace, tool.name) for tool in self._bench.functions if tool.namespace
        }
        hearing = AnswerReader(self.prepared.machine, self._bench.offers, namespaces)
        options = self._options(offers, first=first)
        messages = [*self.prepared.messages(), *self._declined]
        for attempt in range(MAX_SHORTENING_COUNT + 1):
            try:
                with named_as_input():
                    await self._ask(messages, options, hearing)
                return hearing
            except PorticoError as error:
                shorter_messages = self._shorten(messages, error) if attempt < MAX_SHORTENING_COUNT else None
                if shorter_messages is None:
                    raise
                messages = shorter_messages
        raise AssertionError("the last attempt returns or raises")

    def _shorten(self, messages: list[Message], error: PorticoError) -> list[Message] | None:
        """Return the messages to ask with instead, if the model refuses them as too long, or ``None``.

        Only ``truncation: auto`` lets the daemon drop what the client sent. The results of the daemon's own tools are
        always cut to what the model can read.
        """
        if error.code != "context_length_exceeded":
            return None
        if self.prepared.servable.card.labels.get("durability", "off") != "off":
            return None  # a durable app has already used the whole conversation
        shorter_messages = drop_older_half(messages) if self.prepared.ask.truncate else None
        own_calls = {item.get("call_id") or item["id"] for item in self.prepared.machine.output}
        return shorter_messages or halve_longest_result(messages, own_calls)

    async def _ask(self, messages: list[Message], options: Mapping[str, Any], hearing: AnswerReader) -> None:
        model = self.prepared.relayed()
        if model is None:
            await self._ask_app(messages, options, hearing, self._call_app)
            return
        body = {
            **options,
            "model": self.prepared.ask.model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        request = Relay("chat/completions", body)
        async with charge_call(self.context, self.prepared.servable, request) as spend:
            relay_response = await model.relay(request, self.context)
            if relay_response.answered_by:
                self.model = self.prepared.machine.response["model"] = relay_response.answered_by
            self.prepared.machine.unenforced = relay_response.unenforced
            try:
                async for chunk in relay_response.chunks:
                    await self._say([event for piece in pieces(chunk) for event in hearing.hear(piece)])
            finally:
                close = getattr(relay_response.chunks, "aclose", None)
                if close is not None:
                    await close()
                spend(relay_response)  # also if the client abandons the answer
                await self._spend(relay_response.usage)

    async def _call_app(self, chat: Chat, listen: Listener) -> Result:
        return await self.context.call(self.prepared.ask.model, chat, listener=listen)

    async def _ask_app(
        self, messages: list[Message], options: Mapping[str, Any], hearing: AnswerReader, call_app: CallApp
    ) -> None:
        """Ask an app, which reports its work as run events; the client receives the app's text and passages."""
        has_spoken = False

        async def listen(event: RunEvent) -> None:
            nonlocal has_spoken
            if isinstance(event, Delta):
                has_spoken = has_spoken or bool(event.text)
                if event.text:
                    await self._say(hearing.hear(TextPiece(event.text)))
            elif isinstance(event, Cited):
                self._cited_passages = event.passages
                await self.context.emit(event)
            elif isinstance(event, Claimed):
                has_spoken = True
                await self._say(self.prepared.machine.claim(event.claim))
                await self.context.emit(event)
            elif not isinstance(event, Usage):
                await self.context.emit(event)

        if self.prepared.session:
            options = {**options, "conversation": self.prepared.session}
        reply = await call_app(Chat(tuple(messages), options), listen)
        if not isinstance(reply, ChatReply):
            raise PorticoError(f"'{self.prepared.ask.model}' returned an invalid answer to a conversation.")
        self._cited_passages = reply.citations or self._cited_passages
        if not has_spoken and reply.content:
            await self._say(hearing.hear(TextPiece(reply.content)))
        for key, call in enumerate(reply.tool_calls):
            await self._say(hearing.hear(CallPiece(key, call.id, call.name, call.arguments)))
        hearing.hear(EndPiece(reply.finish_reason))
        await self._spend(reply.usage)

    async def _spend(self, usage: Usage) -> None:
        self.usage += usage
        await self.context.emit(usage)

    async def _compact(self) -> None:
        """Have the model summarize everything if the client requests a compaction. Otherwise, if the conversation
        exceeds the client's threshold, summarize the items before the last position where the conversation can be
        cut.
        """
        response, machine, ask = self.prepared, self.prepared.machine, self.prepared.ask
        if any(item["type"] == "compaction" for item in machine.output):
            return  # made before a crash
        shown_items = list(window(response.before))
        places = [len(shown_items)] if ask.compacts else cuts(shown_items)
        if ask.threshold is not None and not ask.compacts:
            size = await size_of(response.messages(), ask.model, self.context)
            places = places if size > ask.threshold else []
        model = response.relayed()
        if not places or model is None:
            return
        notes = Compactor(response.servable, model, ask, response.media, self.context)
        summarised_items = shown_items[: places[-1]]
        summary = await notes.on(summarised_items)
        if not ask.keeps:
            quotations = quote_user_messages(
                summarised_items, (ask.threshold or SHORT) // 2 * BYTES_PER_TOKEN
            )
            summary = f"{summary}\n\n{quotations}".strip()
        self.usage += notes.usage
        self._counted_tokens = notes.usage.completion_tokens
        behind = read_items(shown_items[places[-1] :], machine.mint)
        content = CompactedConversation(summary, behind, ask.keeps).sealed()
        item: Item = {"id": machine.mint("cmp_"), "type": "compaction", "encrypted_content": content}
        index, events = machine.add(item)
        await self._say([*events, machine.finish(index)])
        await self.note(None)

    async def _say(self, events: Sequence[Event]) -> None:
        if events:
            await self.emit(events)

    async def _do(self, hearing: AnswerReader) -> None:
        """Execute the calls in order. Decline the calls beyond the limit."""
        self._bench.origins = mcp_tool.origins_of(self._bench)
        for call in hearing.daemon_calls:
            if self._calls >= self._max_calls:
                self._decline(call.id, call.name, call.arguments, "No more tools may be called. Answer now.")
                continue
            self._calls += 1
            offer = self._bench.offers.get(call.name)
            await self.note(offer)
            refusal = await hosted.use(self._bench, call)
            if refusal is not None:
                self._decline(call.id, call.name, call.arguments, refusal)
        await self.note(None)

    def _decline(self, call_id: str, name: str, arguments: str, reason: str) -> None:
        """Record a declined call and the reason, which only the model sees."""
        call_id = call_id or f"call_aside_{len(self._declined)}"
        function = {"name": name or "unnamed", "arguments": arguments or "{}"}
        call = {"id": call_id, "type": "function", "function": function}
        self._declined += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call_id, "content": reason},
        ]

    async def _approved(self) -> None:
        """Execute the calls that the client approves in this request."""
        self._bench.origins = mcp_tool.origins_of(self._bench)
        requests = {i["id"]: i for i in self.prepared.before if i["type"] == "mcp_approval_request"}
        used_ids = {i["approval_request_id"] for i in self._all_items() if i["type"] == "mcp_call"}
        for number, item in enumerate(self.prepared.ask.input):
            if item["type"] != "mcp_approval_response":
                continue
            request = requests.get(item["approval_request_id"])
            at = f"input[{number}].approval_request_id"
            if request is None:
                raise InvalidRequest(
                    f"The approval request '{item['approval_request_id']}' does not exist in this "
                    "conversation. Send 'previous_response_id' of the response that asked for approval.",
                    param=at,
                )
            if not item["approve"] or request["id"] in used_ids:
                continue
            offer = self._bench.tools.get((request["server_label"], request["name"]))
            if offer is None:
                raise InvalidRequest(
                    f"The tool '{request['name']}' of '{request['server_label']}' is not among 'tools'. Send "
                    "the server in 'tools' again, together with the approval.",
                    param=at,
                )
            await self.note(offer)
            await mcp_tool.call(self._bench, offer, request["arguments"], approval_id=request["id"])
            await self.note(None)

    def _all_items(self) -> list[Item]:
        return [*self.prepared.before, *self.prepared.machine.output]

    @property
    def _max_calls(self) -> int:
        return MAX_CALLS if self.prepared.ask.most_calls is None else self.prepared.ask.most_calls

    def _remaining_tokens(self) -> int | None:
        """Return the number of tokens left for the answer, or ``None`` without a limit."""
        max_tokens = self.prepared.ask.most_tokens
        spent_tokens = self.usage.completion_tokens - self._counted_tokens
        return None if max_tokens is None else max(0, max_tokens - spent_tokens)

    def _options(self, offers: Mapping[str, OfferedTool], *, first: bool) -> dict[str, Any]:
        hidden = self._bench.hidden
        offered_tools = [offer for name, offer in offers.items() if name not in hidden]
        functions = [tool for tool in self._bench.functions if tool.spoken not in hidden]
        options = chat_options(self.prepared.ask, offered_tools, functions, first=first)
        remaining_tokens = self._remaining_tokens()
        if remaining_tokens is not None:
            options["max_tokens"] = max(1, remaining_tokens)
        return options

    def _notes(self, text: str) -> list[dict[str, Any]]:
        """Return the sources of a text: passages that it cites, all sources of an app, and files that code created."""
        notes = file_citations(text, self._bench.passages)
        notes += file_citations(text, self._cited_passages, all_of_them=True)
        artifacts, self._bench.made = self._bench.made, []
        return notes + made_notes(text, artifacts)
