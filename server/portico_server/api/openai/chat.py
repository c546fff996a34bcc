"""``POST /v1/chat/completions``. The relay forwards requests for models; answers of apps are translated from run
events into OpenAI's frames.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import orjson

from portico.wire import Cited, Claimed, Delta, Passage, Usage
from portico_server.api.exchange import Exchange, Presence
from portico_server.api.openai.bodies import CHAT
from portico_server.api.openai.other_forms import use_openai_form
from portico_server.api.openai.relay import AnswerRecorder, caller_of, fill_model, find, relay
from portico_server.api.openai.tool_fields import apply_allowed_tools
from portico_server.api.services import ApiServices
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.ids import new_id
from portico_server.core.passage import location_of, to_json
from portico_server.core.request import CalledTool, Chat, ChatReply
from portico_server.core.servable import Card, Servable, relays
from portico_server.runs.run import Run

_OURS = ("model", "messages", "stream", "stream_options", "n")
"""Fields that the protocol adapter handles itself. All other fields are options of the app."""


async def create(exchange: Exchange, services: ApiServices) -> None:
    """Answer a conversation, either with a complete document or with a stream."""
    body = await exchange.json()
    caller = caller_of(exchange)
    await fill_model(services, body, "chat/completions", caller)
    use_openai_form(body)
    CHAT.check(body)
    recorder = services.chats.record(dict(body), caller) if body.get("store") else None
    if "store" in body:  # this daemon stores the completion; a provider must not store it too
        del body["store"]
        body.pop("metadata", None)
    apply_allowed_tools(body)
    servable = await find(services, body["model"], "chat/completions", caller)
    refuse_unchecked(servable.card, body)
    if relays(servable):
        await relay(exchange, services, servable, "chat/completions", body, recorder)
    else:
        await _app(exchange, services, servable, body, recorder)


def refuse_unchecked(card: Card, options: Mapping[str, Any]) -> None:
    """Raise `InvalidRequest` if ``unsupported`` is set for a model or app that does not answer from documents."""
    if options.get("unsupported") is not None and "store" not in card.labels:
        raise InvalidRequest(
            f"'{card.name}' does not answer from the documents of a store, so its claims are not checked: "
            "omit 'unsupported'.",
            code="unsupported_parameter",
            param="unsupported",
        )


async def _app(
    exchange: Exchange,
    services: ApiServices,
    servable: Servable,
    body: Mapping[str, Any],
    recorder: AnswerRecorder | None,
) -> None:
    name = body["model"]
    for field, is_requested in (("n", (body.get("n") or 1) > 1), ("logprobs", body.get("logprobs"))):
        if is_requested:
            raise InvalidRequest(
                f"The app '{name}' does not support '{field}'; omit it, or call a model directly.",
                code="unsupported_parameter",
                param=field,
            )
    options = {key: value for key, value in body.items() if key not in _OURS}
    request = Chat(tuple(body["messages"]), options)
    run = await services.runner.start("chat/completions", name, request, caller_of(exchange), servable)
    exchange.extra.append((b"x-portico-run", run.id.encode()))
    completion = _Completion(name, int(run.created_at))
    if body.get("stream"):
        include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        frames = _frames(services, run, completion, include_usage)
        if recorder is not None:
            frames = recorder.follow(frames, lambda: run.usage)
        await exchange.stream(frames)
        return
    with Presence(exchange):
        reply = await services.runner.wait(run)
    file_notes = await _artifact_annotations(services, run)
    data = orjson.dumps(completion.to_json(_reply(reply, name), file_notes))
    if recorder is not None:
        await recorder.keep(data)
    await exchange.answer(200, data)


async def _frames(
    services: ApiServices, run: Run, completion: _Completion, include_usage: bool
) -> AsyncIterator[bytes]:
    """Yield the events of a run as chunks of a stream. Closing this generator cancels the run."""
    passages: tuple[Passage, ...] = ()
    has_started = False
    usage = Usage()
    try:
        async for _number, event in run.log.follow():
            match event:
                case Cited():
                    passages = event.passages
                case Delta(text=text) if text:
                    yield completion.chunk({"content": text}, first=not has_started)
                    has_started = True
                case Claimed(claim=claim):
                    yield completion.chunk({"claims": to_json([claim])}, first=not has_started)
                    has_started = True
                case Usage():
                    usage = event
        reply = _reply(
            await services.runner.wait(run), completion.model
        )  # raises the run's error if the run failed
        if closing_frames := completion.rest(reply, has_started=has_started):
            yield closing_frames
        cited_passages = reply.citations or passages
        notes = [*file_citations(cited_passages), *await _artifact_annotations(services, run)]
        yield completion.chunk({"annotations": notes} if notes else {}, finish=reply.finish_reason)
        if include_usage:
            yield completion.usage(usage if reply.usage == Usage() else reply.usage)
        yield b"data: [DONE]\n\n"
    finally:
        await run.leave()


async def _artifact_annotations(services: ApiServices, run: Run) -> list[dict[str, Any]]:
    """Return the files made by an app's tools as OpenAI file path annotations; the files' bytes are at
    ``/v1/files/ID/content``.
    """
    if services.registry.get(run.name, run.caller) is None:
        return []  # the chat app of a store makes no files
    rows = await services.artifacts.list(run.caller, run_id=run.id)
    return [
        {
            "type": "file_path",
            "file_path": {
                "file_id": row.id,
                "filename": row.name,
                "media_type": row.media_type,
                "bytes": row.bytes,
            },
        }
        for row in reversed(rows)
    ]


def _reply(result: Any, name: str) -> ChatReply:
    if not isinstance(result, ChatReply):
        raise PorticoError(f"'{name}' did not answer the conversation with a chat reply.")
    return result


class _Completion:
    """One answer. Its id, timestamp and model are the same in all chunks."""

    def __init__(self, model: str, created_at: int) -> None:
        self.model = model
        self._id = new_id("chatcmpl-")
        self._created = created_at

    def to_json(self, reply: ChatReply, file_notes: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        """Return the answer as one ``chat.completion``, with annotations for the files that the run made."""
        message: dict[str, Any] = {"role": "assistant", "content": reply.content, "refusal": None}
        if reply.tool_calls:
            message["content"] = reply.content or None
            message["tool_calls"] = [_to_tool_call(call) for call in reply.tool_calls]
        if notes := [*file_citations(reply.citations), *file_notes]:
            message["annotations"] = notes
        if reply.claims:
            message["claims"] = to_json(reply.claims)
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish_reason}
        return {**self._head("chat.completion"), "choices": [choice], "usage": _usage(reply.usage)}

    def chunk(self, delta: Mapping[str, Any], *, first: bool = False, finish: str | None = None) -> bytes:
        """Return one ``chat.completion.chunk``. The ``first`` chunk is preceded by a chunk with the role."""
        before = self._frame({"role": "assistant", "content": ""}, None) if first else b""
        return before + self._frame(delta, finish)

    def rest(self, reply: ChatReply, *, has_started: bool) -> bytes:
        """Return the parts that were not streamed: the text of an app that answered without events, and the tool calls
        for the client.

        `ToolCalled` events are not passed on, because the app itself answers these calls, not the client.
        """
        frames = b"" if has_started else self.chunk({"content": reply.content}, first=True)
        for index, call in enumerate(reply.tool_calls):
            frames += self.chunk({"tool_calls": [{"index": index, **_to_tool_call(call)}]})
        return frames

    def usage(self, usage: Usage) -> bytes:
        """Return the chunk with the usage and without choices, which ``include_usage`` requests."""
        document = {**self._head("chat.completion.chunk"), "choices": [], "usage": _usage(usage)}
        return b"data: " + orjson.dumps(document) + b"\n\n"

    def _frame(self, delta: Mapping[str, Any], finish: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        document = {**self._head("chat.completion.chunk"), "choices": [choice]}
        return b"data: " + orjson.dumps(document) + b"\n\n"

    def _head(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self.model}


def file_citations(passages: Sequence[Passage]) -> list[dict[str, Any]]:
    """Return the passages that support an answer as OpenAI file citations; ``index`` is the passage's citation number
    in the text.

    ``quote``, ``place`` and ``score`` are Portico's additions.
    """
    return [
        {
            "type": "file_citation",
            "file_citation": {
                "file_id": passage.file_id,
                "filename": passage.filename,
                "index": passage.rank,
                "quote": passage.text,
                "place": location_of(passage),
                "score": passage.score,
                "store": passage.store,
            },
        }
        for passage in passages
    ]


def _to_tool_call(call: CalledTool) -> dict[str, Any]:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }
