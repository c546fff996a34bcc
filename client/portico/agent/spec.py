"""Converts an agent to the JSON of the specification (docs/agents.md), and collects the functions that run in this
process.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from portico._keywords import exact_methods
from portico.agent.hooks import MOMENTS, AnyHook, Hook
from portico.agent.message import Message
from portico.agent.output import output_json, own_parser
from portico.errors import InvalidRequest
from portico.functions import Function

VERSION: Final = 1
"""The version of the specification that this module writes."""


@dataclass(frozen=True, slots=True)
class Composition:
    """The parts of an agent; the fields are those of `portico.agent.Agent`."""

    model: str = "default"
    instructions: str = ""
    title: str = ""
    description: str = ""
    tools: Sequence[Any] = ()
    stores: Sequence[str] = ()
    skills: Sequence[str] = ()
    agents: Sequence[Any] = ()
    tool_search: bool | str = "auto"
    strategy: str = "tools"
    memory: str | Mapping[str, Any] | None = None
    output: Any = None
    aggregate: Any = None
    few_shot: Sequence[Mapping[str, Any]] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    final: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


class Specified(Protocol):
    """An object that can return its specification, such as `portico.agent.Agent`."""

    def specified(self, session: str) -> Spec: ...


@exact_methods
@dataclass(frozen=True, slots=True)
class Handoff:
    """Another agent, to which the model can hand over the conversation.

    Example::

        from portico.agent import Agent, Handoff

        billing = Agent("default", "You answer questions about invoices.", name="billing")
        desk = Agent("default", "You greet customers.", name="desk", agents=[Handoff(billing)])
        print(desk("Good morning").sender)
    """

    agent: Specified | str


@dataclass(slots=True)
class Spec:
    """The JSON of an agent. ``functions`` are the local functions, keyed by name, that the daemon calls during turns
    started by this process.

    ``tools`` are the functions that can be served to any caller. ``stays`` names a hook or an output format that can
    run only in this process.
    """

    json: dict[str, Any]
    functions: dict[str, Callable[..., Any]] = field(default_factory=dict)
    tools: dict[str, Function] = field(default_factory=dict)
    stays: str = ""

    def take(self, other: Spec) -> None:
        """Add the functions of an agent that this agent can call. Raises `InvalidRequest` if two tools have the same
        name.
        """
        self.functions.update(other.functions)
        for tool in other.tools.values():
            self.serve(tool)
        self.stays = self.stays or other.stays

    def serve(self, tool: Function) -> None:
        """Add a function."""
        function = self.tools.setdefault(tool.name, tool)
        if function.call is not tool.call:
            raise InvalidRequest(
                f"Two functions among the tools are named '{tool.name}'. Rename one: Function.of(function, "
                "name=…).",
                param="tools",
            )


def build_spec(
    name: str,
    given: Composition,
    hooks: Sequence[AnyHook],
    whose: Any,
    session: str,
    options: Mapping[str, Any],
) -> Spec:
    """Return the specification of an agent named ``name``. Raises `InvalidRequest` for parts that the specification
    cannot express.
    """
    document: dict[str, Any] = {"portico_agent": VERSION, "name": name, "model": given.model}
    spec = Spec(document)
    parser = own_parser(given.output)
    instructions = given.instructions
    if parser is not None:
        spec.stays = f"the output format {type(parser).__name__}"
        ask = getattr(parser, "format", None)
        instructions = "\n\n".join(filter(None, (instructions, str(ask()) if callable(ask) else "")))
    if given.aggregate is not None and not isinstance(given.aggregate, str | Mapping):
        raise InvalidRequest(
            "The daemon executes 'aggregate', so it cannot be a function: use \"tool_text\" or "
            '{"template": "{sender}: {content}"}, examples as few_shot=[…], or change messages with a hook.',
            param="aggregate",
        )
    optional = {
        "title": given.title,
        "description": given.description,
        "instructions": instructions,
        "variables": dict(given.variables),
        "tools": [_tool(item, name, spec) for item in given.tools],
        "stores": list(given.stores),
        "skills": list(given.skills),
        "agents": [_sub(item, spec, session) for item in given.agents],
        "strategy": given.strategy if given.strategy != "tools" else "",
        "memory": given.memory if isinstance(given.memory, str | None) else dict(given.memory),
        "output": None if given.output is None or parser is not None else output_json(given.output),
        "aggregate": given.aggregate,
        "few_shot": [dict(item) for item in given.few_shot],
        "hooks": [item for hook in hooks for item in _hook(hook, name, whose, session, spec)],
        "limits": dict(given.limits),
        "final": given.final,
        "options": {**given.options, **options},
    }
    document.update({key: value for key, value in optional.items() if value})
    if given.tool_search != "auto":
        document["tool_search"] = given.tool_search
    return spec


def _tool(item: Any, name: str, spec: Spec) -> Any:
    """Return a tool as JSON for the specification. A local function includes all that a model needs to call it."""
    if isinstance(item, str):
        return item
    if isinstance(item, Mapping):
        return dict(item)
    if not isinstance(item, Function) and not callable(item):
        raise InvalidRequest(
            f"{item!r} is not a tool: give the name of a tool in the daemon, or a function.", param="tools"
        )
    tool = item if isinstance(item, Function) else Function.of(item)
    spec.serve(tool)
    spec.functions[f"{name}.{tool.name}"] = _bind_json(tool)
    return {
        "function": tool.name,
        "description": tool.description,
        "parameters": dict(tool.input_schema),
        "seconds": tool.timeout,
    }


def _bind_json(tool: Function) -> Callable[..., Any]:
    """Return a function that accepts arguments as parsed from JSON and calls the tool with them."""
    if inspect.iscoroutinefunction(tool.call):

        async def acall(**given: Any) -> Any:
            return await tool.call(**tool.bind(given))

        return acall
    return lambda **arguments: tool.call(**tool.bind(arguments))


def _hook(hook: AnyHook, name: str, owner: Any, session: str, spec: Spec) -> list[dict[str, Any]]:
    """Return a hook as JSON for the specification. A `Hook` object is included only for moments around actions; at
    other moments it runs without the daemon.
    """
    if isinstance(hook, Mapping):
        return [dict(hook)]
    if not isinstance(hook, Hook):
        return [hook.to_json()]
    spec.stays = spec.stays or f"the hook {type(hook).__name__}"
    hooks: list[dict[str, Any]] = []
    for moment in MOMENTS[2:]:
        if hook.has(moment):
            label = f"{name}.{type(hook).__name__}.{moment}"
            spec.functions[label] = _hook_function(hook, moment, owner, session)
            hooks.append({"on": moment, "do": "client", "source": label})
    return hooks


def _hook_function(hook: Hook, moment: str, owner: Any, session: str) -> Callable[..., Any]:
    def call(message: Mapping[str, Any]) -> Any:
        answer = getattr(hook, moment)(owner, Message.of(message), session)
        return None if answer is None else Message.of(answer).to_json()

    return call


def _sub(sub_agent: Any, spec: Spec, session: str) -> Any:
    """Return an agent that this agent can call, as JSON for the specification: its name, or its whole specification."""
    handoff = isinstance(sub_agent, Handoff)
    agent = sub_agent.agent if isinstance(sub_agent, Handoff) else sub_agent
    if isinstance(agent, str):
        return {"agent": agent, "as": "handoff"} if handoff else agent
    if not hasattr(agent, "specified"):
        raise InvalidRequest(f"{agent!r} is not an agent.", param="agents")
    inner = agent.specified(session)
    spec.take(inner)
    return {"agent": inner.json, "as": "handoff" if handoff else "tool"}
