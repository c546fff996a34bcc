"""The steps that do the actual work: call a model, search, call a tool, wait for a person."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, Final

from portico.wire import Cited, Claimed, Delta, Event, Passage, Usage
from portico_server.core.addresses import SEEN_ADDRESSES, requested_addresses
from portico_server.core.context import Listener
from portico_server.core.errors import EngineFailed, InvalidRequest
from portico_server.core.origins import INPUT_ORIGINS, ORIGINS
from portico_server.core.question import NewQuestion, function_name
from portico_server.core.request import (
    AppOutput,
    Chat,
    ChatReply,
    Embed,
    Message,
    Ranked,
    Result,
    Search,
    SearchResult,
    ToolCall,
    ToolResult,
    Vectors,
)
from portico_server.core.request import Rerank as Reranking
from portico_server.core.scoped_value import ScopedValue
from portico_server.features.flows import spec
from portico_server.features.flows.expression import Expression, arguments, as_text, named_arguments
from portico_server.features.flows.format import formatted, response_format, unwrapped
from portico_server.features.flows.host import StepHost, by_name, deeper
from portico_server.features.flows.intent import choose_intent
from portico_server.features.flows.model_options import model_options
from portico_server.features.flows.note import NO_USAGE, StepNote
from portico_server.features.flows.scope import Scope

Leaf = Callable[[Any, Any, spec.FlowStep, Scope, str, StepNote], Awaitable[Any]]


SAFE_METHODS: Final = ("GET", "HEAD")
"""The methods of HTTP requests that change nothing."""


async def _llm(
    host: StepHost, op: spec.LlmStep, step: spec.FlowStep, scope: Scope, path: str, note: StepNote
) -> Any:
    messages = await host.budget.compute(_messages, op, scope)
    options = {}
    if op.options is not None:
        options = model_options(await host.budget.compute(_object, op.options, scope, "options"), "options")
    form = op.format
    if form.type == "json" and form.schema is not None:
        options["response_format"] = response_format(step.name, form.schema)
    note.input = {"model": op.model, "messages": messages, **({"options": options} if options else {})}
    for attempt in range(1, form.attempts + 1):
        reply = await ask(host, op.model, Chat(tuple(messages), options), step, note)
        if reply.tool_calls:
            return {"content": reply.content, "tool_calls": [asdict(call) for call in reply.tool_calls]}
        try:
            value = await formatted(form, reply.content, host.world.evaluator)
            if form.schema is not None:
                value = unwrapped(form.schema, value)
                await host.world.fits(form.schema, value, "The model's answer")
        except InvalidRequest as error:
            if attempt == form.attempts:
                error.code = "format_failed"
                raise
            messages += [
                {"role": "assistant", "content": reply.content},
                {
                    "role": "user",
                    "content": f"{error.message} Answer again, in the wanted format and nothing else.",
                },
            ]
        else:
            return value
    raise AssertionError("the last attempt returns or raises")


async def ask(host: StepHost, model: str, request: Chat, step: spec.FlowStep, note: StepNote) -> ChatReply:
    """Call a model or an app. If this step writes the flow's answer, its text is streamed to the listener."""

    async def ask_model(listener: Listener) -> ChatReply:
        reply = await host.context.call(model, request, listener=listener)
        if isinstance(reply, AppOutput):
            return ChatReply(as_text(reply.value), usage=reply.usage, citations=reply.citations)
        if not isinstance(reply, ChatReply):
            raise InvalidRequest(
                f"'{model}' is not a chat model: it answers with {type(reply).__name__}.", param="model"
            )
        return reply

    return await _stream_reply(host, ask_model, step, note)


@asynccontextmanager
async def call_app(host: StepHost, step: spec.FlowStep) -> AsyncIterator[None]:
    """Return a context in which an app knows the origins of the foreign data on which the step may depend."""
    origins, control = await host.origins(step)
    with (
        ScopedValue(INPUT_ORIGINS, origins),
        ScopedValue(ORIGINS, control),
        ScopedValue(SEEN_ADDRESSES, host.addresses),
    ):
        yield


async def _call_tool(host: StepHost, step: spec.FlowStep, name: str, call: ToolCall) -> Result:
    """Call a tool, whose rule decides about the foreign data on which the step may depend."""
    origins, _control = await host.origins(step)
    with (
        ScopedValue(ORIGINS, origins),
        ScopedValue(INPUT_ORIGINS, ()),
        ScopedValue(SEEN_ADDRESSES, host.addresses),
    ):
        return await host.context.call(f"tool/{name}", call)


async def _stream_reply(
    host: StepHost, asked_ask: Callable[[Listener], Awaitable[ChatReply]], step: spec.FlowStep, note: StepNote
) -> ChatReply:
    """Return a reply. If this step writes the flow's answer, pass the reply's events on to the flow's listener."""
    is_streamed = step.at in host.voices and getattr(step.op, "format", spec.OutputFormat()).type == "text"
    spoke = False

    async def pass_on(event: Event) -> None:
        nonlocal spoke
        if isinstance(event, Delta):
            if is_streamed:
                spoke = note.spoke = True
                await host.context.emit(event)
        elif isinstance(event, Cited | Claimed):
            if is_streamed:
                await host.context.emit(event)
        elif not isinstance(event, Usage):
            await host.context.emit(event)

    async with call_app(host, step):
        reply = await asked_ask(pass_on)
    note.usage = reply.usage if note.usage is NO_USAGE else note.usage + reply.usage
    if is_streamed and not spoke and reply.content:
        await host.context.emit(Delta(reply.content))
        spoke = True
    host.spoken = host.spoken or spoke
    if is_streamed and reply.citations:
        host.citations = reply.citations
        host.claims = reply.claims
    return reply


def _messages(op: spec.LlmStep, scope: Scope) -> list[Message]:
    """Return the system message, the few-shot examples, the history and the user's message, in the same order for
    every engine.
    """
    out: list[Message] = []
    if op.system is not None:
        out.append({"role": "system", "content": as_text(op.system.of(scope))})
    if op.few_shot is not None:
        out += _conversation(op.few_shot.of(scope), "few_shot")
    if op.history is not None:
        history = op.history.of(scope)
        out += _conversation(scope.history if history is True else history or [], "history")
    if op.messages is not None:
        out += _conversation(op.messages.of(scope), "messages")
    if op.user is not None:
        out.append({"role": "user", "content": _content(op.user.of(scope))})
    elif op.messages is None:
        value = scope.value
        if _is_conversation(value):
            out += value
        else:
            out.append({"role": "user", "content": _content(value)})
    return out


def _conversation(value: Any, path: str) -> list[Message]:
    if not _is_conversation(value) and value != []:
        raise InvalidRequest(
            f"'{path}' must be a list of messages, each an object with 'role' and 'content'.", param=path
        )
    return list(value)


def _is_conversation(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and "role" in item for item in value)
    )


def _content(value: Any) -> Any:
    """Return a message's content: a list of parts (text, images) stays unchanged, everything else becomes text."""
    return value if _are_parts(value) else as_text(value)


def _are_parts(value: Any) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(part, dict) and "type" in part for part in value)
    )


def _words(value: Any) -> str:
    """Return a value as text for classification. An attachment is replaced by its kind."""
    if not _are_parts(value):
        return as_text(value)
    return "\n".join(
        str(part.get("text", "")) if part["type"] == "text" else _ATTACHED.get(part["type"], "[file]")
        for part in value
    )


_ATTACHED: Final = {"input_audio": "[audio recording]", "image_url": "[image]"}


def _object(expression: Expression | None, scope: Scope, field: str) -> dict[str, Any]:
    """Return the value of a field that must be an object; empty if the field is absent."""
    value = expression.of(scope) if expression is not None else None
    if value is not None and not isinstance(value, dict):
        raise InvalidRequest(f"'{field}' must be an object.", code="type_clash", param=field)
    return dict(value or {})


async def _intent(
    host: StepHost, op: spec.IntentStep, step: spec.FlowStep, scope: Scope, path: str, note: StepNote
) -> Any:
    history = await host.value(op.history, scope) if op.history is not None else None
    conversation = _conversation(scope.history if history is True else history or [], "history")
    name, usage = await choose_intent(
        host.context, op, _words(await host.value(op.text, scope)), conversation
    )
    note.usage = usage
    return name


async def _embed(
    host: StepHost, op: spec.EmbedStep, step: spec.FlowStep, scope: Scope, path: str, note: StepNote
) -> Any:
    input_value = await host.value(op.text, scope)
    is_list = isinstance(input_value, list)
    texts = tuple(as_text(item) for item in (input_value if is_list else [input_value]))
    if not texts:
        return []
    found_vectors = await host.context.call(op.model, Embed(texts))
    if not isinstance(found_vectors, Vectors):
        raise InvalidRequest(f"'{op.model}' is not an embedding model.", param="model")
    note.usage = found_vectors.usage
    vectors = [list(array("f", data)) for data in found_vectors.data]
    return vectors if is_list else vectors[0]


async def _agent(
    host: StepHost, op: spec.AgentStep, step: spec.FlowStep, scope: Scope, path: str, note: StepNote
) -> Any:
    session = as_text(await host.value(op.session, scope)) if op.session is not None else ""
    content = _content(await host.value(op.message, scope))
    if op.agent is not None:
        return await _inline(host, op, op.agent, content, session, step, note)
    message = {"role": "user", "content": content}
    options = {"conversation": session} if session else {}
    reply = await ask(host, op.name, Chat((message,), options), step, note)
    return reply.content


async def _inline(
    host: StepHost,
    op: spec.AgentStep,
    agent: Mapping[str, Any],
    content: Any,
    session: str,
    step: spec.FlowStep,
    note: StepNote,
) -> Any:
    """Return the answer of an inline agent: the value of its output format, or its text if it has none."""
    agents, value = host.world.agents, None
    assert agents is not None
    near = any(_is_listener_s(host, name) for name in agents.functions(agent))
    note.input = content

    async def ask_model(listener: Listener) -> ChatReply:
        nonlocal value
        context = deeper(host.context, op.name, listener)
        value, reply = await agents.ask(agent, content, context, session=session, near=near)
        return reply

    await _stream_reply(host, ask_model, step, note)
    return value


async def _tool(
    host: StepHost, op: spec.ToolStep, step: spec.FlowStep, scope: Scope, path: str, note: StepNote
) -> Any:
    given_arguments = await host.value(op.arguments, scope)
    if not isinstance(given_arguments, dict):
        raise InvalidRequest(
            f"The tool '{op.name}' requires an object of arguments, but the input is not an object. Set "
            "'arguments'.",
            code="type_clash",
        )
    given_arguments = _with_files(host, op.name, given_arguments)
    note.input = given_arguments
    answer = await _call_tool(host, step, op.name, ToolCall(given_arguments, key=host.key(note.path)))
    return _result(op.name, answer)


def _with_files(host: StepHost, tool: str, given_arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a tool call. If the tool expects text and an argument is a message with a recording, the
    argument becomes the recording as a data URL.
    """
    servable = host.world.registry.get(f"tool/{tool}", host.context.caller)
    properties = ((servable.card.input_schema if servable is not None else None) or {}).get(
        "properties"
    ) or {}
    return {
        name: _recording(value) if (properties.get(name) or {}).get("type") == "string" else value
        for name, value in given_arguments.items()
    }


def _recording(value: Any) -> Any:
    """Return the recording in a message's parts as a data URL if there is exactly one; return other values
    unchanged.
    """
    if not _are_parts(value):
        return value
    sounds = [part["input_audio"] for part in value if part["type"] == "input_audio"]
    if len(sounds) != 1 or not isinstance(sounds[0], dict):
        return value
    return f"data:audio/{sounds[0].get('format', 'wav')};base64,{sounds[0].get('data', '')}"


def _result(name: str, result: Result) -> Any:
    """Return a tool's result as a value: its structured content if it has any, or else its text."""
    assert isinstance(result, ToolResult)
    if result.is_error:
        raise InvalidRequest(f"The tool '{name}' failed: {result.text[:2000]}", code="tool_failed")
    value: Any = dict(result.structured) if result.structured is not None else result.text
    if not result.artifacts:
        return value
    links = [
        {"name": artifact.name, "media_type": artifact.media_type, "link": artifact.link}
        for artifact in result.artifacts
    ]
    return {**value, "artifacts": links} if isinstance(value, dict) else {"text": value, "artifacts": links}


async def _http(
    host: StepHost, op: spec.HttpStep, step: spec.FlowStep, scope: Scope, path: str, note: StepNote
) -> Any:
    given_arguments: dict[str, Any] = {"url": as_text(await host.value(op.url, scope)), "method": op.method}
    headers = await host.budget.compute(_object, op.headers, scope, "headers")
    if op.method not in SAFE_METHODS:
        headers.setdefault("Idempotency-Key", host.key(note.path))
    if headers:
        given_arguments["headers"] = headers
    if op.body is not None:
        body = await host.value(op.body, scope)
        given_arguments["body" if isinstance(body, str) else "json"] = body
    note.input = {"url": given_arguments["url"], "method": op.method}
    call = ToolCall(given_arguments, key=host.key(note.path))
    if op.method in SAFE_METHODS and host.addresses.names_host(given_arguments["url"]):
        result = await host.context.call("tool/http_request", call)
    else:
        result = await _call_tool(host, step, "http_request", call)
    answer = _result("http_request", result)
    status = answer["status"]
    if status >= 400:
        message = f"{op.method} {answer['url']} answered {status}: {answer['text'][:500]}"
        # After temporary errors, a retry may succeed.
        passing = status in (408, 425, 429) or status >= 500
        raise (
            EngineFailed(message, code="http_error")
            if passing
            else InvalidRequest(message, code="http_error")
        )
    return answer


async def _retrieve(
    host: StepHost, op: spec.RetrieveStep, step: spec.FlowStep, scope: Scope, path: str, note: StepNote
) -> Any:
    query = as_text(await host.value(op.query, scope))
    filters = await host.value(op.filters, scope) if op.filters is not None else None
    search = Search(
        query,
        max_num_results=op.top_k,
        filters=host.world.filters(filters, "filters") if filters else None,
        score_threshold=op.threshold,
        ranker=op.ranker,
        groups=op.groups,
    )
    note.input = {"stores": list(op.stores), "query": query}
    passages: list[Passage] = []
    for store in op.stores:
        search_result = await host.context.call(f"store/{store}", search)
        assert isinstance(search_result, SearchResult)
        passages += search_result.passages
    if len(op.stores) > 1:
        passages.sort(key=lambda passage: -passage.score)
    return [{**asdict(passage), "rank": rank} for rank, passage in enumerate(passages[: op.top_k], 1)]


async def _rerank(
    host: StepHost, op: spec.RerankStep, step: spec.FlowStep, scope: Scope, path: str, note: StepNote
) -> Any:
    documents = await host.value(op.documents, scope)
    if not isinstance(documents, list):
        raise InvalidRequest("A rerank step requires a list of texts or passages.", code="type_clash")
    if not documents:
        return []
    texts = tuple(
        as_text(item["text"] if isinstance(item, dict) and "text" in item else item) for item in documents
    )
    ranking = await host.context.call(
        op.model, Reranking(as_text(await host.value(op.query, scope)), texts, op.top_k)
    )
    if not isinstance(ranking, Ranked):
        raise InvalidRequest(f"'{op.model}' is not a rerank model.", param="model")
    note.usage = ranking.usage
    out = []
    for rank, (index, score) in enumerate(ranking.results, 1):
        item = documents[index]
        out.append({**item, "score": score, "rank": rank} if isinstance(item, dict) else item)
    return out


async def _code(
    host: StepHost, op: spec.CodeStep, step: spec.FlowStep, scope: Scope, path: str, note: StepNote
) -> Any:
    return await host.call(op.code, scope)


async def _client(
    host: StepHost, op: spec.ClientStep, step: spec.FlowStep, scope: Scope, path: str, note: StepNote
) -> Any:
    args = await host.budget.compute(arguments, op.args, scope)
    kwargs = await host.budget.compute(named_arguments, op.kwargs, scope)
    if _is_listener_s(host, op.function):
        question = NewQuestion(
            "function",
            op.function,
            arguments={"args": args, "kwargs": kwargs},
            key=_turn_path(host, path),
            limit=op.limit,
        )
    else:
        question = await _call_served(host, op, step, args, kwargs, _turn_path(host, path))
    note.input = dict(question.arguments)
    answer = await host.context.ask(question)
    if not answer.accepted:
        raise InvalidRequest(
            f"The client's function '{op.function}' failed: {answer.note or 'no reason was given'}",
            code="client_function_failed",
        )
    return answer.value


def _is_listener_s(host: StepHost, function: str) -> bool:
    """Return whether the client listening to the run executes a function."""
    if host.answered is None:
        return not host.world.served.has(function, host.context.caller)
    return function in host.answered


async def _call_served(
    host: StepHost,
    op: spec.ClientStep,
    step: spec.FlowStep,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    key: str,
) -> NewQuestion:
    """Wait until a worker serves a function, and return the question for its workers. If the operator must approve the
    call, wait for the approval first.
    """
    if not host.journal.durable:
        host.world.served.require(op.function, host.context.caller)
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    with host.pause_limit():
        card = await host.world.served.function(op.function, host.context.caller, op.limit)
    given_arguments = by_name(card, args, kwargs)
    if card.input_schema is not None:
        await host.world.fits(
            card.input_schema, given_arguments, f"The input of the function '{op.function}'"
        )
    on_data = card.labels.get("on_data", "allow")
    is_checked = on_data != "allow" and (
        card.labels.get("read_only") is not True
        or any(address not in host.addresses for address in requested_addresses(given_arguments))
    )
    origins = (await host.origins(step))[0] if is_checked else ()
    if origins and on_data == "refuse":
        raise InvalidRequest(
            f"The function '{op.function}' was not called because of {'; '.join(origins)}. The operator refuses "
            "calls that depend on such data.",
            code="refused",
        )
    if card.labels.get("needs_approval") or origins:
        question = NewQuestion(
            "approval",
            op.function,
            f"Call the function '{op.function}'?"
            + (f" Portico asks because of {'; '.join(origins)}." if origins else ""),
            given_arguments,
            key=f"{key}/approval",
        )
        answer = await host.context.ask(question)
        if not answer.accepted:
            raise InvalidRequest(f"The call was refused. {answer.note}".rstrip(), code="refused")
        started_at = loop.time()
    remaining_s = max(0.01, op.limit - (loop.time() - started_at))
    title = f"Call to the function '{op.function}'."
    name = function_name(op.function, card.owner)
    return NewQuestion(
        "function", name, title, arguments=given_arguments, key=key, limit=remaining_s, served=True
    )


def _turn_path(host: StepHost, path: str) -> str:
    """Return the path of a step together with the number of repetitions, as the key under which an answer is found
    again.
    """
    return host.key(path).partition(":")[2]


async def _approve(
    host: StepHost, op: spec.ApproveStep, step: spec.FlowStep, scope: Scope, path: str, note: StepNote
) -> Any:
    message = as_text(await host.value(op.message, scope))
    kind = "input" if op.answer_schema is not None else "approval"
    note.input = message
    answer = await host.context.ask(
        NewQuestion(
            "input" if kind == "input" else "approval",
            step.name,
            message=message,
            arguments={"value": scope.value},
            answer_schema=op.answer_schema,
            key=_turn_path(host, path),
            limit=op.limit,
        )
    )
    if not answer.accepted:
        raise InvalidRequest(f"Approval was refused. {answer.note}".rstrip(), code="refused")
    return scope.value if op.answer_schema is None else answer.value


async def _emit(
    host: StepHost, op: spec.EmitStep, step: spec.FlowStep, scope: Scope, path: str, note: StepNote
) -> Any:
    await host.context.emit(Delta(as_text(await host.value(op.text, scope))))
    return scope.value


LEAVES: Mapping[str, Leaf] = {
    "llm": _llm,
    "intent": _intent,
    "embed": _embed,
    "agent": _agent,
    "tool": _tool,
    "http": _http,
    "retrieve": _retrieve,
    "rerank": _rerank,
    "code": _code,
    "client": _client,
    "approve": _approve,
    "emit": _emit,
}


def asking(value: Any) -> Chat:
    """Return the request that passes a value to an app that is not a flow. The app is called like a chat model."""
    messages: Sequence[Message] = (
        value if _is_conversation(value) else [{"role": "user", "content": _content(value)}]
    )
    return Chat(tuple(messages))
