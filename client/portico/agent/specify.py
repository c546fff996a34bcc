"""An agent as the JSON of the specification (docs/agents.md), and the functions that stay here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from portico.agent.hooks import MOMENTS, AnyHook, Hook
from portico.agent.message import Message
from portico.agent.output import written
from portico.errors import InvalidRequest

VERSION: Final = 1
"""The version of the specification that this module writes."""


@dataclass(frozen=True, slots=True)
class Composition:
    """What an agent was composed of; the fields are those of `portico.agent.Agent`."""

    model: str = "default"
    instructions: str = ""
    title: str = ""
    description: str = ""
    tools: Sequence[Any] = ()
    stores: Sequence[str] = ()
    agents: Sequence[Any] = ()
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
    """What has a specification: `portico.agent.Agent`."""

    def specified(self, session: str) -> Spec: ...


@dataclass(frozen=True, slots=True)
class Handoff:
    """Another agent that takes the conversation over when the model says so."""

    agent: Specified | str


@dataclass(frozen=True, slots=True)
class Spec:
    """The JSON; ``functions`` are those of ours that it names, ``stays`` says what else of it is carried out here."""

    json: dict[str, Any]
    functions: Mapping[str, Callable[..., Any]]
    stays: str = ""


def specified(
    name: str,
    given: Composition,
    hooks: Sequence[AnyHook],
    whose: Any,
    session: str,
    options: Mapping[str, Any],
) -> Spec:
    """The specification of an agent called ``name``. Raises `InvalidRequest` for what cannot be written."""
    functions: dict[str, Callable[..., Any]] = {}
    made: dict[str, Any] = {"portico_agent": VERSION, "name": name, "model": given.model}
    optional = {
        "title": given.title,
        "description": given.description,
        "instructions": given.instructions,
        "variables": dict(given.variables),
        "tools": [item if isinstance(item, str) else dict(item) for item in given.tools],
        "stores": list(given.stores),
        "agents": [_sub(item, functions, session) for item in given.agents],
        "strategy": given.strategy if given.strategy != "tools" else "",
        "memory": given.memory if isinstance(given.memory, str | None) else dict(given.memory),
        "output": None if given.output is None else written(given.output),
        "aggregate": given.aggregate,
        "few_shot": [dict(item) for item in given.few_shot],
        "hooks": [item for hook in hooks for item in _hook(hook, name, whose, session, functions)],
        "limits": dict(given.limits),
        "final": given.final,
        "options": {**given.options, **options},
    }
    made.update({key: value for key, value in optional.items() if value})
    own = next((type(hook).__name__ for hook in hooks if isinstance(hook, Hook)), "")
    return Spec(made, functions, f"the hook {own}" if own else next(iter(functions), ""))


def _hook(
    hook: AnyHook, name: str, whose: Any, session: str, functions: dict[str, Callable[..., Any]]
) -> list[dict[str, Any]]:
    """A hook as the daemon has it. Of our own, only what happens around tools: the rest is done on this side."""
    if isinstance(hook, Mapping):
        return [dict(hook)]
    if not isinstance(hook, Hook):
        return [hook.to_json()]
    made: list[dict[str, Any]] = []
    for moment in MOMENTS[2:]:
        if hook.has(moment):
            label = f"{name}.{type(hook).__name__}.{moment}"
            functions[label] = _called(hook, moment, whose, session)
            made.append({"on": moment, "do": "client", "source": label})
    return made


def _called(hook: Hook, moment: str, whose: Any, session: str) -> Callable[..., Any]:
    def call(message: Mapping[str, Any]) -> Any:
        answer = getattr(hook, moment)(whose, Message.of(message), session)
        return None if answer is None else Message.of(answer).to_json()

    return call


def _sub(given: Any, functions: dict[str, Callable[..., Any]], session: str) -> Any:
    """An agent that this one may ask: by name, or with its whole specification."""
    handoff = isinstance(given, Handoff)
    agent = given.agent if isinstance(given, Handoff) else given
    if isinstance(agent, str):
        return {"agent": agent, "as": "handoff"} if handoff else agent
    if not hasattr(agent, "specified"):
        raise InvalidRequest(f"{agent!r} is no agent.", param="agents")
    spec = agent.specified(session)
    functions.update(spec.functions)
    return {"agent": spec.json, "as": "handoff" if handoff else "tool"}
