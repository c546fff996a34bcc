"""What the executor needs in addition to the context of its run: the sandbox, the step cache, the deployed apps."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import orjson

from portico.wire import Event
from portico_server.apps.flow.budget import ValueBudget
from portico_server.apps.flow.expression import ReferenceExpression, walk
from portico_server.apps.flow.scope import SKIPPED, Scope
from portico_server.apps.flow.served import ServedFunctions
from portico_server.apps.flow.spec import FlowSpec, Step
from portico_server.apps.flow.tree import children, expressions
from portico_server.core.context import Context, ContextWithin, Listener, depth_of
from portico_server.core.errors import InvalidRequest
from portico_server.core.interfaces import Evaluator
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.request import Filter, Reply
from portico_server.db import steps
from portico_server.db.database import Database

MAX_FLOW_DEPTH: Final = 32
"""Flows within flows: one that calls itself ends here."""


class HasFlow(Protocol):
    """An app; ``flow`` is ``None`` for one that is not a flow."""

    @property
    def flow(self) -> FlowSpec | None: ...


@dataclass(frozen=True, slots=True)
class _Foreign:
    flow: None = None


class InlineAgents(Protocol):
    """Agents that stand in a flow, each as its specification: `portico_server.apps.agent.app.AgentApps`."""

    async def inline_exists(self, agent: Mapping[str, Any], caller: Principal, at: str) -> bool:
        """Raise `PorticoError` with the place of what is wrong with an agent, or is not there; whether it answers with
        more than text.
        """

    async def ask(
        self,
        agent: Mapping[str, Any],
        content: Any,
        context: Context,
        *,
        session: str = "",
        near: bool = False,
    ) -> tuple[Any, Reply]:
        """What the agent answers, and the same as a reply. ``near``: the client that follows has its functions."""

    def functions(self, agent: Mapping[str, Any]) -> Iterable[str]:
        """What its functions and hooks are called where the client that began the run executes them."""

    def inline_names(self, agent: Mapping[str, Any]) -> Iterable[str]:
        """What it calls by name, as keys of the registry."""

    def inline_unserved(self, agent: Mapping[str, Any], caller: Principal) -> list[str]:
        """The functions of clients that it needs and nobody serves now, in sentences."""


@dataclass(frozen=True, slots=True)
class FlowServices:
    """Put together once. ``filters`` reads an attribute filter of a search from JSON (value, place)."""

    registry: Registry
    evaluator: Evaluator
    filters: Callable[[Any, str], Filter]
    served: ServedFunctions
    database: Database | None = None
    budget: ValueBudget = field(default_factory=ValueBudget)
    agents: InlineAgents | None = None

    async def app(self, name: str, caller: Principal) -> HasFlow:
        """The app that the caller means by ``name``. Raises `NotFound` or `Forbidden`."""
        found = await self.registry.resolve(name, caller)
        flow = getattr(found, "flow", None)
        return found if flow is not None else _Foreign()  # type: ignore[return-value]  # it has a flow

    async def fits(self, schema: Mapping[str, Any], value: Any, what: str) -> None:
        """Raise `InvalidRequest` if a value is not as its schema says."""
        # jsonschema costs a tenth of a second to import, which the start of the daemon does not pay.
        from portico_server.core.json_schema import JsonSchema

        fault = JsonSchema(what, schema).fault(value)
        if fault is not None:
            raise InvalidRequest(
                f"{what} is not as its schema says: at {fault.path or 'the top'}, {fault.message}.",
                code="schema_mismatch",
                param=fault.path or None,
            )

    async def cache_key(self, step: Step, scope: Scope, caller: Principal) -> str:
        """What the output of a step depends on: whose it is and what that may read, what the step is, the model
        behind each name, the version of each app, and all that it refers to.
        """
        # What a caller finds depends on the filters of its key, which a configuration may change.
        seen: list[Any] = [caller.id, repr(caller.filters), step.source, scope.value]
        stack = [step]
        while stack:
            inner = stack.pop()
            stack.extend(children(inner))
            model = getattr(inner.op, "model", "")
            seen.append(self.registry.aliases.get(model, model))
            app = getattr(inner.op, "app", "") or getattr(inner.op, "name", "")
            found = self.registry.get(app, caller) if app else None
            seen.append((found.card.id, found.card.labels.get("version")) if found is not None else None)
            if getattr(inner.op, "history", None) is not None:
                seen.append(scope.history)
            for outer in expressions(inner):
                for part in walk(outer):
                    if isinstance(part, ReferenceExpression):
                        # That of a step within leads nowhere yet; it follows from the others.
                        seen.append([part.text, _quietly(part, scope)])
        text = orjson.dumps(seen, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=repr)
        return hashlib.sha256(text).hexdigest()

    async def cached(self, key: str) -> str | None:
        """A kept output as JSON text."""
        return await self.database.read(steps.cached, key) if self.database is not None else None

    async def keep(self, key: str, value: str, seconds: float) -> None:
        """Keep an output for so many seconds."""
        if self.database is not None:
            await self.database.write_soon(steps.keep, key, value, seconds)


def _quietly(reference: ReferenceExpression, scope: Scope) -> Any:
    """The value of a reference; ``None`` if it leads nowhere, which the step itself will say."""
    try:
        value = reference.of(scope)
    except InvalidRequest:
        return None
    return None if value is SKIPPED else value


class _Deeper(ContextWithin):
    """The context of a flow or an agent within a flow: the same, one level further down, perhaps heard by another."""

    def __init__(self, outer: Context, depth: int, listener: Listener | None = None) -> None:
        super().__init__(outer)
        self._listener = listener or outer.emit
        self._depth = depth

    @property
    def depth(self) -> int:
        return self._depth

    def emit(self, event: Event) -> Awaitable[None]:  # no coroutine at each of many levels
        return self._listener(event)


def deeper(context: Context, name: str, listener: Listener | None = None) -> Context:
    """The context for the flow or agent ``name`` within this one; ``listener`` hears its events in our place.

    Raises `InvalidRequest` where flows go too deep.
    """
    depth = depth_of(context) + 1
    if depth > MAX_FLOW_DEPTH:
        raise InvalidRequest(
            f"'{name}' was called {MAX_FLOW_DEPTH} flows deep: something calls itself.", code="too_deep"
        )
    return _Deeper(context, depth, listener)
