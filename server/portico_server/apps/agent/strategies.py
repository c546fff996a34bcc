"""How an agent comes to its answer: every strategy by its word in the specification."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from portico_server.apps.agent.memory import RESULT, add_user_content
from portico_server.apps.agent.message import HANDED_BACK, PLAN, STEP, TOOL_CALL, AgentMessage
from portico_server.apps.agent.output import with_stops
from portico_server.apps.agent.spec import Strategy
from portico_server.apps.agent.tools import as_messages_have_them, with_unique_ids
from portico_server.apps.agent.turn import AgentTurn
from portico_server.apps.flow.format import response_format, unwrapped
from portico_server.core.errors import InvalidRequest
from portico_server.core.json_size import MAX_FILLED, too_long
from portico_server.core.prompts import builtin
from portico_server.core.request import CalledTool

# Doing what a model asks for, and the model's own function calling.


async def tools(turn: AgentTurn) -> AgentMessage:
    """The model's own function calling: call and answer in turn, until it answers without a call."""
    return await called(turn)


async def called(turn: AgentTurn, *, step: bool = False) -> AgentMessage:
    """As `tools`. A ``step`` on the way is not said aloud, and need not have the output format."""
    # A schema that binds every word of the answer would leave no way to call a tool.
    options = turn.plain_options if step else turn.options(constrained=not turn.tools.by_name)
    while True:
        messages = await turn.messages()
        reply = await turn.ask(messages, options, tools=turn.tools.functions, aloud=not step)
        if not reply.tool_calls:
            if step:
                return AgentMessage(turn.spec.name, reply.content, type=STEP)
            return await turn.answer(reply, messages)
        handed = await act(turn, reply.content, reply.tool_calls)
        if handed is not None:
            return handed


async def act(turn: AgentTurn, thought: str, calls: Sequence[CalledTool]) -> AgentMessage | None:
    """Do all calls at once; their results in the order of the calls. The answer, if another agent took over.

    Raises `InvalidRequest` with the code ``agent_limit`` instead of calling more often than the agent may.
    """
    if turn.tools.count + len(calls) > turn.spec.limits.tool_calls:
        raise turn.endless()
    calls = with_unique_ids(calls, turn.steps.call_id)
    about = {"tool_calls": as_messages_have_them(calls)}
    await turn.remember(AgentMessage(turn.spec.name, thought, type=TOOL_CALL, extra_info=about))
    done = await turn.tools.use_all(calls)
    for message, _returned in done:
        await turn.remember(message)
    return next((returned.handed for _message, returned in done if returned.handed is not None), None)


# Strategies that plan before they act.


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
    """A plan, then its steps one by one, then the answer (Wang et al. 2023)."""
    steps = await _planned(turn, builtin.text("agent-plan"), _PLAN_SCHEMA)
    for number, step in enumerate(steps, 1):
        await _say(turn, builtin.text("agent-plan-step", number=number, count=len(steps), step=step))
        done = await called(turn, step=True)
        if done.sender != turn.spec.name or done.type == HANDED_BACK:
            return done  # another agent has the conversation now
        await turn.remember(done)
    await _say(turn, builtin.text("agent-conclude"))
    return await called(turn)


async def _say(turn: AgentTurn, text: str) -> None:
    await turn.remember(AgentMessage("plan", text, type=PLAN, receiver=turn.spec.name))


async def rewoo(turn: AgentTurn) -> AgentMessage:
    """All calls planned at once, carried out without the model, then one answer from them (Xu et al. 2023)."""
    if not turn.tools.by_name:
        return await called(turn)
    plan = await _planned(turn, builtin.text("agent-rewoo", tools=turn.tools.described()), _REWOO_SCHEMA)
    request = await turn.messages()
    evidence: dict[str, str] = {}
    for item in plan:
        handed = await act(turn, item["plan"], [_planned_call(turn, item, evidence)])
        if handed is not None:
            return handed
        evidence[item["id"].lstrip("#")] = (await turn.session.memory(turn.path))[-1].text
    shown = "\n".join(f"#{name}: {text}" for name, text in evidence.items())
    add_user_content(request, "\n\n" + builtin.text("agent-evidence", evidence=shown))
    reply = await turn.ask(request, turn.options(), aloud=True)
    return await turn.answer(reply, request)


def _planned_call(turn: AgentTurn, item: Mapping[str, str], evidence: Mapping[str, str]) -> CalledTool:
    """A planned call with the evidence that it refers to. A bare text goes to the tool's only required argument."""
    given = _object(item["input"])
    if given is not None:
        given = {name: _with(value, evidence) for name, value in given.items()}
    else:
        tool = turn.tools.by_name.get(item["tool"])
        schema = tool.schema if tool is not None else {}
        names = list(schema.get("required") or schema.get("properties") or ["input"])
        given = {names[0]: _with(item["input"], evidence)}
    return CalledTool("", item["tool"], orjson.dumps(given).decode())


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def _with(value: Any, evidence: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for name in sorted(evidence, key=len, reverse=True):
            if len(value) + value.count(f"#{name}") * len(evidence[name]) > MAX_FILLED:
                raise too_long()
            value = value.replace(f"#{name}", evidence[name])
    return value


async def _planned(turn: AgentTurn, note: str, schema: Mapping[str, Any]) -> list[Any]:
    # jsonschema costs a tenth of a second to import, which the start of the daemon does not pay.
    from portico_server.core.json_schema import JsonSchema

    turn.note = note
    messages = await turn.messages()
    turn.note = ""
    options = {**turn.plain_options, "response_format": response_format("plan", schema)}
    shape, reason = JsonSchema("the plan", schema), "it is no JSON"
    for _attempt in range(turn.spec.attempts):
        reply = await turn.ask(messages, options)
        try:
            value = unwrapped(schema, orjson.loads(reply.content))
        except orjson.JSONDecodeError:
            continue
        fault = shape.fault(value)
        if fault is None:
            found: list[Any] = value
            return found
        reason = f"at {fault.path or 'the top'}, {fault.message}"
    raise InvalidRequest(f"The model of '{turn.spec.name}' made no plan: {reason}.", code="format_failed")


# Tools for models that know none: calls are read from the text, results are told as text.


_OBSERVED: Final = "Observation: {text}\n"

_BLOCK: Final = re.compile(r"```(?:json|tool)?[ \t]*\n\s*(\{.*?\})\s*(?:```|\Z)", re.S)
_NAMED: Final = re.compile(r'"name"\s*:\s*"([^"\\]{1,64})"')
_ACTION: Final = re.compile(
    r"Action:[ \t]*([^\n]+?)[ \t]*\n+Action Input:[ \t]*(.*?)\s*(?:\nObservation:|\Z)", re.S
)
_FINAL: Final = "Final Answer:"

Found = tuple[CalledTool, str]
"""A call, and the text up to its end: what a model makes up behind it is not kept."""


async def text_tools(turn: AgentTurn) -> AgentMessage:
    """Calls as JSON blocks in the text."""
    tools = turn.tools.described()
    turn.note = builtin.text("agent-text-tools", tools=tools) if turn.tools.by_name else ""
    return await _textual(turn, _block, RESULT, "\nResult of ")


async def react(turn: AgentTurn) -> AgentMessage:
    """Thought, action, observation (Yao et al. 2022)."""
    turn.note = builtin.text("agent-react", tools=turn.tools.described())
    return await _textual(turn, _react_action, _OBSERVED, "\nObservation:")


async def _textual(
    turn: AgentTurn, call_in: Callable[[str], Found | None], result: str, stop: str
) -> AgentMessage:
    options = with_stops(turn.options(constrained=not turn.tools.by_name), [stop])
    while True:
        messages = await turn.messages(result=result)
        reply = await turn.ask(messages, options)
        found = call_in(reply.content) if turn.tools.by_name else None
        if found is None:
            answer = reply.content.rpartition(_FINAL)[2].strip() if _FINAL in reply.content else reply.content
            return await turn.answer(replace(reply, content=answer), messages)
        call, text = found
        handed = await act(turn, text, [call])
        if handed is not None:
            return handed


def _block(text: str) -> Found | None:
    """The first block that names a tool. One that is no JSON is a call too, whose arguments cannot be read."""
    for match in _BLOCK.finditer(text):
        inner = match.group(1)
        named = _NAMED.search(inner)
        try:
            value = orjson.loads(inner)
        except orjson.JSONDecodeError:
            if named is not None:
                return CalledTool("", named.group(1), inner), text[: match.end()]
            continue
        if isinstance(value, dict) and isinstance(value.get("name"), str):
            given = value.get("parameters", value.get("arguments", {}))
            arguments = given if isinstance(given, str) else orjson.dumps(given).decode()
            return CalledTool("", value["name"], arguments), text[: match.end()]
    return None


def _react_action(text: str) -> Found | None:
    match = _ACTION.search(text.partition(_FINAL)[0])
    if match is None:
        return None
    arguments = match.group(2).strip().removeprefix("```json").strip("`").strip() or "{}"
    return CalledTool("", match.group(1).strip(), arguments), text[: match.end(2)]


STRATEGIES: Mapping[Strategy, Callable[[AgentTurn], Awaitable[AgentMessage]]] = {
    "tools": tools,
    "text_tools": text_tools,
    "react": react,
    "plan_and_solve": plan_and_solve,
    "rewoo": rewoo,
}
