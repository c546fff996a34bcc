"""A client's Python functions as tools of an agent.

If the client itself began the turn, it receives the function call as an event of the run and answers it. A deployed
agent calls the function by name; a client serves it for the caller (`portico serve`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from portico_server.core.context import Context
from portico_server.core.errors import EngineFailed, InvalidRequest, Unavailable
from portico_server.core.principal import Principal
from portico_server.core.question import NewQuestion
from portico_server.core.registry import Registry
from portico_server.features.agents.spec import AgentSpec, ToolUse


def name_of(spec: AgentSpec, function: str) -> str:
    """Return the name that identifies a function to the client. It is unique even if several agents in a tree use the
    same function name.
    """
    return f"{spec.name}.{function}"


async def ask_client(
    spec: AgentSpec, use: ToolUse, arguments: Mapping[str, Any], context: Context, key: str
) -> str:
    """Return the text result of a function that is executed by the client that began the turn. If the client reports
    an error, raise it.

    ``key``: see `NewQuestion`.
    """
    from portico_server.core.json_schema import JsonSchema

    assert use.function is not None
    fault = JsonSchema(use.name, use.function.schema).fault(dict(arguments))
    if fault is not None:
        raise InvalidRequest(f"Invalid arguments at {fault.path or 'the top'}: {fault.message}")
    given_arguments = {"args": [], "kwargs": dict(arguments)}
    limit = use.function.seconds
    question = NewQuestion(
        "function", name_of(spec, use.tool), arguments=given_arguments, key=key, limit=limit
    )
    answer = await context.ask(question)
    if not answer.accepted:
        raise EngineFailed(answer.note or "The client refused the call.", code="client_function_failed")
    return answer.value if isinstance(answer.value, str) else orjson.dumps(answer.value).decode()


def is_served(registry: Registry, function: str, caller: Principal) -> bool:
    """Return whether any client currently serves a function with this name for the caller."""
    servable = registry.get(f"tool/{function}", caller)
    return servable is not None and servable.card.labels.get("source") == "client"


def require_served(registry: Registry, function: str, agent: str, caller: Principal) -> None:
    """Raise `Unavailable`, with instructions, if no client serves a function for the caller."""
    if not is_served(registry, function, caller):
        raise Unavailable(
            f"No client currently serves the function '{function}'. Start a client: portico serve "
            f"FILE.py:{agent}",
            code="not_served",
        )


def function_names(spec: AgentSpec) -> Iterator[str]:
    """Yield the functions that an agent and its sub-agents need."""
    yield from (use.tool for use in spec.tools if use.function is not None)
    for sub in spec.agents:
        if sub.spec is not None:
            yield from function_names(sub.spec)
