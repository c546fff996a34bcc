"""Everything that a run may ask of the client that began it, in the words of MCP: a person, by a form, or the client's
own model, by a conversation (`portico_server.models.client_model` puts such questions).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import mcp_types as types
from mcp.server.context import ServerRequestContext

from portico.wire import Asked
from portico_server.core.dataclass import dataclass

# What a run asks of a person, as a form of the client, and the client's answer.


_NOTE: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {
        "note": {"type": "string", "title": "Note", "description": "What you would like to say about it."}
    },
}
_PLAIN: Final = frozenset({"string", "number", "integer", "boolean"})


@dataclass(frozen=True, slots=True)
class ElicitedAnswer:
    """A client's answer, as `portico_server.runs.questions.QuestionService.answer` takes it."""

    accepted: bool
    value: Any = None
    note: str = ""


def can_elicit(context: ServerRequestContext[Any]) -> bool:
    """Whether the client of this request shows forms."""
    capabilities = context.session.client_capabilities
    offered = None if capabilities is None else capabilities.elicitation
    return offered is not None and (offered.form is not None or offered.url is None)


def form(question: Asked) -> types.ElicitRequest | None:
    """The form for a question. ``None`` for a function of a client, and for an answer that no form can take."""
    schema = _NOTE if question.kind == "approval" else _schema(question) if question.kind == "input" else None
    if schema is None:
        return None
    return types.ElicitRequest(
        params=types.ElicitRequestFormParams(message=_message(question), requested_schema=dict(schema))
    )


def elicited(question: Asked, result: types.ElicitResult) -> ElicitedAnswer:
    """What the client's user has decided. A form that was closed unanswered is a refusal."""
    content = result.content or {}
    if result.action != "accept":
        return ElicitedAnswer(
            False, note="" if result.action == "decline" else "The form was closed without an answer."
        )
    if question.kind == "approval":
        return ElicitedAnswer(True, note=str(content.get("note") or ""))
    wrapped = (question.answer_schema or {}).get("type") != "object"
    return ElicitedAnswer(True, content.get("value") if wrapped else content)


def _message(question: Asked) -> str:
    if question.kind != "approval":
        return question.message or f"'{question.name}' needs an answer."
    arguments = json.dumps(dict(question.arguments), ensure_ascii=False, indent=2, default=str)
    return (
        f"{question.message or f'May {question.name!r} be called?'}\n\n{question.name}: {arguments[:4_000]}"
    )


def _schema(question: Asked) -> Mapping[str, Any] | None:
    """The protocol's forms are objects of plain fields; anything else that is such a field becomes one, ``value``."""
    schema = question.answer_schema or {"type": "string"}
    if schema.get("type") == "object":
        fields = schema.get("properties") or {}
        plain = all(_is_field(item) for item in fields.values())
        kept = {key: schema[key] for key in ("type", "properties", "required") if key in schema}
        return kept if plain and fields else None
    if _is_field(schema):
        return {"type": "object", "properties": {"value": dict(schema)}, "required": ["value"]}
    return None


def _is_field(schema: Any) -> bool:
    """Whether a form has a field for that: one plain value, or several of a list of words."""
    if not isinstance(schema, Mapping):
        return False
    items = schema.get("items")
    if schema.get("type") == "array" and isinstance(items, Mapping):
        return bool(items.get("enum") or items.get("anyOf"))
    return schema.get("type") in _PLAIN


def can_ask(context: ServerRequestContext[Any]) -> bool:
    """Whether the client of this request can be asked anything."""
    return can_elicit(context) or bool(client_model_features(context))


def request(context: ServerRequestContext[Any], question: Asked) -> types.InputRequest | None:
    """The request for a question; ``None`` if this client cannot answer it."""
    if question.kind == "chat":
        return sampling_request(question) if client_model_features(context) else None
    return form(question) if can_elicit(context) else None


def requests(context: ServerRequestContext[Any], questions: Iterable[Asked]) -> dict[str, types.InputRequest]:
    """The requests for questions, by their ids, as far as this client can answer them."""
    found = {question.id: request(context, question) for question in questions}
    return {key: one for key, one in found.items() if one is not None}


def answer_in(question: Asked, result: types.InputResponse) -> ElicitedAnswer | None:
    """What a client has answered; ``None`` if that is an answer to something else."""
    match result:
        case types.CreateMessageResult() | types.CreateMessageResultWithTools() if question.kind == "chat":
            return ElicitedAnswer(True, sampled_answer(result))
        case types.ElicitResult() if question.kind != "chat":
            return elicited(question, result)
    return None


def read(question: Asked, response: dict[str, Any]) -> types.InputResponse:
    """An answer from its JSON. Raises pydantic's `ValidationError`."""
    if question.kind == "chat":
        return types.CreateMessageResultWithTools.model_validate(response)
    return types.ElicitResult.model_validate(response)


DEFAULT_MAX_TOKENS: Final = 4_096
"""Tokens of an answer, where the call says nothing of that: the protocol wants a number."""

_DATA: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+);base64,(.+)", re.DOTALL)
_FINISHED: Final = {"maxTokens": "length", "toolUse": "tool_calls"}


def client_model_features(context: ServerRequestContext[Any]) -> frozenset[str]:
    """What the client of this request lends: see `portico_server.runs.run.Run.client_model_features`."""
    capabilities = context.session.client_capabilities
    offered = None if capabilities is None else capabilities.sampling
    if offered is None:
        return frozenset()
    return frozenset({"chat"} if offered.tools is None else {"chat", "tools"})


def sampling_request(question: Asked) -> types.CreateMessageRequest:
    """A chat as the client is asked for it."""
    options: Mapping[str, Any] = question.arguments.get("options") or {}
    given = [tool["function"] for tool in options.get("tools") or () if tool.get("type") == "function"]
    choice = options.get("tool_choice")
    if isinstance(choice, Mapping):  # one tool by its name: the protocol knows only that one must be called
        wanted = (choice.get("function") or {}).get("name")
        given, choice = [tool for tool in given if tool["name"] == wanted], "required"
    system, messages = _conversation(question.arguments.get("messages") or ())
    body = _form_of_answer(options.get("response_format"))
    stop = options.get("stop")
    params = types.CreateMessageRequestParams(
        messages=messages,
        system_prompt="\n\n".join([*system, *body]) or None,
        max_tokens=int(
            options.get("max_completion_tokens") or options.get("max_tokens") or DEFAULT_MAX_TOKENS
        ),
        temperature=options.get("temperature"),
        stop_sequences=[stop] if isinstance(stop, str) else list(stop) if stop else None,
        tools=[_tool(tool) for tool in given] or None,
        tool_choice=types.ToolChoice.model_validate({"mode": choice}) if given and choice else None,
    )
    return types.CreateMessageRequest(params=params)


def sampled_answer(result: types.CreateMessageResult | types.CreateMessageResultWithTools) -> dict[str, Any]:
    """The answer of the client's model, as `portico_server.models.client_model` wants it."""
    blocks = result.content if isinstance(result.content, list) else [result.content]
    calls = [
        {"id": block.id, "name": block.name, "arguments": json.dumps(block.input, ensure_ascii=False)}
        for block in blocks
        if isinstance(block, types.ToolUseContent)
    ]
    text = "".join(block.text for block in blocks if isinstance(block, types.TextContent))
    reason = _FINISHED.get(result.stop_reason or "", "stop")
    found = {"content": text, "model": result.model, "finish_reason": "tool_calls" if calls else reason}
    return {**found, "tool_calls": calls} if calls else found


def _conversation(messages: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[types.SamplingMessage]]:
    """The words of the system, and the turns. Results of tools that follow each other are one turn."""
    system: list[str] = []
    turns: list[types.SamplingMessage] = []
    for message in messages:
        role = message.get("role")
        if role in ("system", "developer"):
            system += [block.text for block in _blocks(message) if isinstance(block, types.TextContent)]
            continue
        blocks: list[types.SamplingMessageContentBlock] = list(_blocks(message))
        if role == "tool":
            blocks = [_result(message, blocks)]
            if turns and _holds_results(turns[-1]):
                blocks = [*turns.pop().content_as_list, *blocks]
        blocks += [_use(call) for call in message.get("tool_calls") or ()]
        if blocks:
            turns.append(
                types.SamplingMessage(
                    role="assistant" if role == "assistant" else "user",
                    content=blocks[0] if len(blocks) == 1 else blocks,
                )
            )
    if not turns:  # the protocol wants somebody to have spoken
        text = "\n\n".join(system)
        turns, system = [_said(text)], []
    return system, turns


def _said(text: str) -> types.SamplingMessage:
    return types.SamplingMessage(role="user", content=types.TextContent(type="text", text=text))


def _holds_results(turn: types.SamplingMessage) -> bool:
    return all(isinstance(block, types.ToolResultContent) for block in turn.content_as_list)


def _blocks(message: Mapping[str, Any]) -> Iterator[types.SamplingContent]:
    content = message.get("content")
    parts: Iterable[Mapping[str, Any]] = (
        [{"type": "text", "text": content}] if isinstance(content, str) else content or ()
    )
    for part in parts:
        match part:
            case {"type": "text", "text": str(text)}:
                if text:
                    yield types.TextContent(type="text", text=text)
            case {"type": "image_url", "image_url": {"url": str(url)}}:
                found = _DATA.fullmatch(url)
                if found is not None:
                    yield types.ImageContent(type="image", mime_type=found[1], data=found[2])
                else:
                    yield types.TextContent(type="text", text=f"[a picture: {url[:2_000]}]")
            case {"type": "input_audio", "input_audio": {"data": str(data), "format": str(form)}}:
                yield types.AudioContent(type="audio", mime_type=f"audio/{form}", data=data)
            case _:
                yield types.TextContent(type="text", text=f"[{part.get('type')}, left out]")


def _result(
    message: Mapping[str, Any], blocks: Sequence[types.SamplingMessageContentBlock]
) -> types.ToolResultContent:
    return types.ToolResultContent(
        tool_use_id=str(message.get("tool_call_id") or ""),
        content=[block for block in blocks if isinstance(block, types.TextContent | types.ImageContent)],
    )


def _use(call: Mapping[str, Any]) -> types.ToolUseContent:
    function = call.get("function") or {}
    try:
        given = json.loads(function.get("arguments") or "{}")
    except ValueError:
        given = {}
    return types.ToolUseContent(
        id=str(call.get("id") or ""),
        name=str(function.get("name") or ""),
        input=given if isinstance(given, dict) else {},
    )


def _tool(function: Mapping[str, Any]) -> types.Tool:
    return types.Tool(
        name=function["name"],
        description=function.get("description"),
        input_schema=dict(function.get("parameters") or {"type": "object"}),
    )


def _form_of_answer(body: Any) -> list[str]:
    """The protocol cannot hold a model to a schema, so the prompt describes it."""
    if not isinstance(body, Mapping) or body.get("type") not in ("json_object", "json_schema"):
        return []
    schema = (body.get("json_schema") or {}).get("schema")
    matching = f" that matches this JSON Schema: {json.dumps(schema, ensure_ascii=False)}" if schema else ""
    return [f"Answer with JSON alone, without a fence around it{matching}."]
