"""A flow as a Servable: one name under which it can be called as a chat model, as a tool and as an app."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from portico.wire import Delta
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest
from portico_server.core.request import AppInput, AppOutput, Chat, ChatReply, Message, Request
from portico_server.core.servable import Card
from portico_server.features.flows.execute import Execution
from portico_server.features.flows.expression import as_text
from portico_server.features.flows.spec import AgentStep, FlowSpec, IntentStep, LlmStep, SubflowStep
from portico_server.features.flows.tree import every

MESSAGES = "messages"
"""Name of the input property in which a flow can receive the whole conversation."""


class Executions(Protocol):
    """Executes flows within a run: `portico_server.features.flows.flows.Flows`."""

    address: str

    async def call(
        self, flow: FlowSpec, context: Context, value: Any, history: Sequence[Message] = ()
    ) -> tuple[Any, Execution]: ...

    def execution(
        self, flow: FlowSpec, context: Context, *, answered_functions: frozenset[str] | None = frozenset()
    ) -> Execution: ...


class FlowApp:
    """Runs a flow within the run that calls it.

    `AppInput` passes the input unchanged. `Chat` passes the text of the last message. If the input schema is an
    object, `Chat` passes an object with this text as its only required text property, and with the whole conversation
    under ``messages``. The earlier messages are the flow's ``history``.
    """

    def __init__(
        self,
        flow: FlowSpec,
        executions: Executions,
        *,
        owner: str | None = None,
        created_at: int = 0,
        version: int = 0,
        id: str = "",
    ) -> None:
        self.flow = flow
        self._executions = executions
        self.card = Card(
            name=flow.name,
            kind="app",
            title=flow.title or flow.name,
            description=flow.description,
            capabilities=frozenset({"chat", "app"}),
            input_schema=flow.input_schema,
            output_schema=flow.output_schema,
            labels={
                "app": "flow",
                "version": version,
                "durability": flow.durability,
                "uses": models_asked(flow),
            },
            owner=owner,
            created=created_at,
            id=id,
        )

    async def call(self, request: Request, context: Context) -> ChatReply | AppOutput:
        if isinstance(request, AppInput):
            value, execution = await self._executions.call(self.flow, context, request.value)
            return AppOutput(value, execution.usage, execution.citations)
        if not isinstance(request, Chat):
            raise InvalidRequest(
                f"'{self.card.name}' is an app: it accepts chat messages, or an input that matches its "
                "schema."
            )
        input_value, history = as_input(self.flow, request.messages)
        value, execution = await self._executions.call(self.flow, context, input_value, history)
        text = as_answer(value, self._executions.address)
        if not execution.spoken:
            await context.emit(Delta(text))
        claims = execution.claims if execution.spoken else ()
        return ChatReply(
            text,
            usage=execution.usage,
            citations=execution.citations,
            model=self.card.name,
            claims=claims,
        )


def as_answer(value: Any, address: str = "") -> str:
    """Return an output as text for a chat: files made by tools as Markdown links, a transcript as text.

    ``address`` is the daemon's address, with which the links begin.
    """
    if isinstance(value, list) and value and all(map(_is_made, value)):
        return "\n\n".join(as_answer(item, address) for item in value)
    if not _is_made(value):
        return as_text(value)
    lines = [value["text"]] if isinstance(value.get("text"), str) and value["text"] else []
    for artifact in value.get("artifacts") or ():
        mark = "!" if str(artifact.get("media_type", "")).startswith("image/") else ""
        name = str(artifact.get("name", "file")).replace("[", "(").replace("]", ")")
        lines.append(f"{mark}[{name}]({address}{artifact['link']})")
    return "\n\n".join(lines)


def _is_made(value: Any) -> bool:
    """Return whether a value is the output of a tool step that made files or transcribed speech."""
    if not isinstance(value, dict):
        return False
    links = value.get("artifacts")
    if isinstance(links, list) and links:
        return all(isinstance(link, dict) and isinstance(link.get("link"), str) for link in links)
    return isinstance(value.get("text"), str) and isinstance(value.get("segments"), list)


def models_asked(flow: FlowSpec) -> tuple[str, ...]:
    """Return the chat models and apps that a flow calls, under their names in its specification."""
    names: list[str] = []
    for step in every(flow.step):
        match step.op:
            case (
                LlmStep(model=name) | IntentStep(model=name) | AgentStep(name=name) | SubflowStep(app=name)
            ) if name:
                names.append(name)
    return tuple(dict.fromkeys(names))


def as_input(flow: FlowSpec, messages: Sequence[Message]) -> tuple[Any, Sequence[Message]]:
    """Return the input that a flow gets from a conversation, and the messages before the last message."""
    last = messages[-1]
    content = last.get("content")
    text = content if isinstance(content, str) else _text(content)
    schema = flow.input_schema or {}
    if schema.get("type") != "object":
        # Content with images stays a list of parts, so that a vision model in a later step can read it.
        plain = isinstance(content, str) or all(part.get("type") == "text" for part in content or ())
        return (text if plain else content), messages[:-1]
    properties: Mapping[str, Any] = schema.get("properties") or {}
    value: dict[str, Any] = {}
    if MESSAGES in properties:
        value[MESSAGES] = list(messages)
    required_names = [name for name in schema.get("required") or properties if name != MESSAGES]
    texts = [name for name in required_names if (properties.get(name) or {}).get("type") in ("string", None)]
    if len(texts) == 1:
        value[texts[0]] = text
    elif texts:
        raise InvalidRequest(
            f"The app '{flow.name}' requires {', '.join(texts)}, which a chat message cannot provide. Call "
            f"the app with its input: POST /api/apps/{flow.name}/run.",
            code="needs_input",
            param="messages",
        )
    return value, messages[:-1]


def _text(parts: Any) -> str:
    return "\n".join(
        str(part.get("text", ""))
        for part in parts or ()
        if isinstance(part, dict) and part.get("type") == "text"
    )
