"""Strategies that plan before they act."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from portico_server.core.errors import InvalidRequest
from portico_server.core.json_size import MAX_FILLED, too_long
from portico_server.core.origins import Origins, join_origins
from portico_server.core.prompts import builtin
from portico_server.core.request import CalledTool, ChatReply
from portico_server.features.agents.calling import act, call_tools
from portico_server.features.agents.foreign_data import origins_of, with_origins
from portico_server.features.agents.message import HANDED_BACK, PLAN, AgentMessage
from portico_server.features.agents.model_messages import add_user_content
from portico_server.features.agents.turn import AgentTurn
from portico_server.features.flows.format import response_format, unwrapped

_PLAN_SCHEMA: Final = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 12}
_REWOO_SCHEMA: Final = {
    "type": "array",
    "minItems": 1,
    "maxItems": 12,
    "items": {
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "plan": {"type": "string"},
            "tool": {"type": "string"},
            "input": {"type": "string"},
        },
        "required": ["id", "plan", "tool", "input"],
        "additionalProperties": False,
    },
}


async def plan_and_solve(turn: AgentTurn) -> AgentMessage:
    """Make a plan, execute its steps one by one, then answer (Wang et al. 2023)."""
    steps = await _planned(turn, builtin.text("agent-plan"), _PLAN_SCHEMA)
    plan_origins = turn.origins
    for number, step in enumerate(steps, 1):
        text = builtin.text("agent-plan-step", number=number, count=len(steps), step=step)
        await _say(turn, text, plan_origins)
        agent_message = await call_tools(turn, step=True)
        if agent_message.sender != turn.spec.name or agent_message.type == HANDED_BACK:
            return agent_message  # another agent has taken over the conversation
        await turn.remember(with_origins(agent_message, turn.origins))
    await _say(turn, builtin.text("agent-conclude"), ())
    return await call_tools(turn)


async def _say(turn: AgentTurn, text: str, origins: Origins) -> None:
    message = AgentMessage("plan", text, type=PLAN, receiver=turn.spec.name)
    await turn.remember(with_origins(message, origins))


async def rewoo(turn: AgentTurn) -> AgentMessage:
    """Let the model plan all tool calls, execute them without the model, then let the model answer from the results
    (Xu et al. 2023).
    """
    if not turn.tools.by_name:
        return await call_tools(turn)
    plan = await _planned(turn, builtin.text("agent-rewoo", tools=turn.tools.describe()), _REWOO_SCHEMA)
    request = await turn.messages()
    plan_origins = turn.origins
    evidence: dict[str, str] = {}
    for item in plan:
        planned_call = _planned_call(turn, item, {})

        async def propose(
            _memory: Sequence[AgentMessage], planned_call: CalledTool = planned_call
        ) -> ChatReply:
            """Return the call as the model planned it, unless the plan itself depends on foreign data."""
            return ChatReply("", tool_calls=() if plan_origins else (planned_call,))

        agent_message = await act(turn, item["plan"], [_planned_call(turn, item, evidence)], propose)
        if agent_message is not None:
            return agent_message
        result_message = (await turn.session.memory(turn.path))[-1]
        turn.origins = join_origins(turn.origins, origins_of([result_message]))
        evidence[item["id"].lstrip("#")] = result_message.text
    evidence_text = "\n".join(f"#{name}: {text}" for name, text in evidence.items())
    add_user_content(request, "\n\n" + builtin.text("agent-evidence", evidence=evidence_text))
    reply = await turn.ask(request, turn.options(), is_spoken=True)
    return await turn.answer(reply, request)


def _planned_call(turn: AgentTurn, item: Mapping[str, str], evidence: Mapping[str, str]) -> CalledTool:
    """Return a planned call in which references to evidence are replaced by the evidence. Plain text becomes the
    tool's only required argument.
    """
    arguments = _object(item["input"])
    if arguments is not None:
        arguments = {name: _with(value, evidence) for name, value in arguments.items()}
    else:
        tool = turn.tools.by_name.get(item["tool"])
        schema = tool.schema if tool is not None else {}
        names = list(schema.get("required") or schema.get("properties") or ["input"])
        arguments = {names[0]: _with(item["input"], evidence)}
    return CalledTool("", item["tool"], orjson.dumps(arguments).decode())


def _object(text: str) -> dict[str, Any] | None:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def _with(value: Any, evidence: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for name in sorted(evidence, key=len, reverse=True):
            if len(value) + value.count(f"#{name}") * len(evidence[name]) > MAX_FILLED:
                raise too_long()
            value = value.replace(f"#{name}", evidence[name])
    return value


async def _planned(turn: AgentTurn, note: str, schema: Mapping[str, Any]) -> list[Any]:
    # Importing jsonschema takes a tenth of a second; the daemon starts without it.
    from portico_server.core.json_schema import JsonSchema

    turn.note = note
    messages = await turn.messages()
    turn.note = ""
    options = {**turn.plain_options, "response_format": response_format("plan", schema)}
    shape, reason = JsonSchema("the plan", schema), "it is not valid JSON"
    for _attempt in range(turn.spec.attempts):
        reply = await turn.ask(messages, options)
        try:
            value = unwrapped(schema, orjson.loads(reply.content))
        except orjson.JSONDecodeError:
            continue
        fault = shape.fault(value)
        if fault is None:
            steps: list[Any] = value
            return steps
        reason = f"at {fault.path or 'the top'}, {fault.message}"
    raise InvalidRequest(f"The model of '{turn.spec.name}' made no plan: {reason}.", code="format_failed")
