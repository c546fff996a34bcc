"""The services that a step may use: those of its execution, and those of the daemon (the sandbox, the step cache, the
deployed apps, the functions that clients serve).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import field
from typing import Any, Final, Protocol

import orjson

from portico.wire import AnswerClaim, Event, Passage, Usage
from portico_server.core.context import Context, ContextWithin, Listener, depth_of, no_value
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import DeadlineExceeded, InvalidRequest, Unavailable
from portico_server.core.interfaces import Evaluator
from portico_server.core.origins import Origins
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.request import ChatReply, Filter
from portico_server.core.servable import Card, Kind
from portico_server.db import steps
from portico_server.db.database import Database
from portico_server.db.steps import StepRow
from portico_server.features.flows.addresses import FlowAddresses
from portico_server.features.flows.budget import ValueBudget
from portico_server.features.flows.expression import CodeExpression, Expression, ReferenceExpression, walk
from portico_server.features.flows.scope import SKIPPED, Scope
from portico_server.features.flows.spec import FlowSpec, FlowStep
from portico_server.features.flows.tree import children, expressions
from portico_server.runs.journal import Journal


class ServedFunctions:
    """Finds the functions that clients serve, including functions that are served later. Created once, because it
    watches the registry.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._tools_changed = asyncio.Event()
        registry.watch(self._on_change)

    def _on_change(self, kind: Kind) -> None:
        if kind == "tool":
            self._tools_changed.set()
            self._tools_changed = asyncio.Event()

    def has(self, name: str, caller: Principal) -> bool:
        """Return whether a client currently serves the function ``name`` for the caller."""
        servable = self._registry.get(f"tool/{name}", caller)
        return servable is not None and servable.card.labels.get("source") == "client"

    def require(self, name: str, caller: Principal, *, app: str = "NAME") -> None:
        """Raise `Unavailable` if no client currently serves the function ``name``. Used when a caller waits for the
        answer.
        """
        servable = self._registry.get(f"tool/{name}", caller)
        if servable is None:
            raise Unavailable(
                f"No client currently serves the function '{name}'. Start a client: portico serve "
                f"FILE.py:{app}, or client.serve([{name}]). A durable flow started with POST "
                f"/api/apps/{app}/run waits for the function.",
                code="not_served",
            )

    async def function(self, name: str, caller: Principal, seconds: float) -> Card:
        """Wait until a client serves the function ``name``, and return its card.

        Raise `DeadlineExceeded` if no client serves the function within ``seconds``, `NotFound` or `Forbidden` if it
        is not available to this caller, or `InvalidRequest` if the name belongs to another tool.
        """
        try:
            async with asyncio.timeout(seconds) as until:
                return await self._wait_for(name, caller)
        except TimeoutError as error:
            if not until.expired():
                raise
            raise DeadlineExceeded(
                f"No client served the function '{name}' within {seconds:g} s. Start a client: portico serve "
                f"FILE.py:{name}, or client.serve([{name}]).",
                code="question_expired",
            ) from error

    async def _wait_for(self, name: str, caller: Principal) -> Card:
        while True:
            event = self._tools_changed
            if self._registry.get(f"tool/{name}", caller) is not None:
                card = (await self._registry.resolve(f"tool/{name}", caller)).card
                if card.labels.get("source") != "client":
                    raise InvalidRequest(
                        f"'{name}' is a tool of the daemon, not a client function. Use a tool step, or "
                        "rename the function.",
                        code="not_a_function",
                    )
                return card
            await event.wait()


def by_name(card: Card, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return all arguments keyed by name. The properties in the function's schema are in the order of its
    parameters.
    """
    names = list((card.input_schema or {}).get("properties") or ())
    if len(args) > len(names):
        raise InvalidRequest(
            f"The function '{card.name}' takes {', '.join(names) or 'nothing'}, but gets {len(args)} arguments.",
            code="type_clash",
        )
    named_arguments = dict(zip(names, args, strict=False))
    twice = named_arguments.keys() & kwargs.keys()
    if twice:
        raise InvalidRequest(
            f"The function '{card.name}' gets '{min(twice)}' both by position and by name.",
            code="type_clash",
        )
    return {**named_arguments, **kwargs}


MAX_FLOW_DEPTH: Final = 32
"""Maximum nesting depth of flows that call flows. It ends endless recursion."""


class HasFlow(Protocol):
    """An app that may be a flow. ``flow`` is ``None`` if the app is not a flow."""

    @property
    def flow(self) -> FlowSpec | None: ...


@dataclass(frozen=True, slots=True)
class _Foreign:
    flow: None = None


class InlineAgents(Protocol):
    """Checks and calls the inline agents of a flow, each given by its specification:
    `portico_server.features.agents.app.AgentApps`.
    """

    async def inline_exists(self, agent: Mapping[str, Any], caller: Principal, at: str) -> bool:
        """Return whether the agent's answer contains more than text. If a part of the agent is invalid or missing,
        raise `PorticoError` with the part's location.
        """

    async def ask(
        self,
        agent: Mapping[str, Any],
        content: Any,
        context: Context,
        *,
        session: str = "",
        near: bool = False,
    ) -> tuple[Any, ChatReply]:
        """Return the agent's answer as a value and as a reply. ``near``: the client listening to the run executes the
        agent's functions.
        """

    def functions(self, agent: Mapping[str, Any]) -> Iterable[str]:
        """Return the names of the agent's functions and hooks that the client that began the run executes."""

    def inline_names(self, agent: Mapping[str, Any]) -> Iterable[str]:
        """Return the registry keys of everything that the agent calls."""

    def inline_unserved(self, agent: Mapping[str, Any], caller: Principal) -> list[str]:
        """Return a sentence about each client function that the agent needs and no worker currently serves."""


@dataclass(frozen=True, slots=True)
class FlowServices:
    """The daemon's services for flows, built once. ``filters`` parses a search filter from JSON; its arguments are the
    value and its location.
    """

    registry: Registry
    evaluator: Evaluator
    filters: Callable[[Any, str], Filter]
    served: ServedFunctions
    database: Database | None = None
    budget: ValueBudget = field(default_factory=ValueBudget)
    agents: InlineAgents | None = None

    async def app(self, name: str, caller: Principal) -> HasFlow:
        """Return the app that ``name`` refers to for the caller. Raise `NotFound` or `Forbidden`."""
        servable = await self.registry.resolve(name, caller)
        flow = getattr(servable, "flow", None)
        return servable if flow is not None else _Foreign()  # type: ignore[return-value]  # it has a flow

    async def fits(self, schema: Mapping[str, Any], value: Any, subject: str) -> None:
        """Raise `InvalidRequest` if a value does not match its schema."""
        # Importing jsonschema takes a tenth of a second; the daemon starts without it.
        from portico_server.core.json_schema import JsonSchema

        fault = JsonSchema(subject, schema).fault(value)
        if fault is not None:
            raise InvalidRequest(
                f"{subject} does not match its schema: at {fault.path or 'the top'}, {fault.message}.",
                code="schema_mismatch",
                param=fault.path or None,
            )

    async def cache_key(self, step: FlowStep, scope: Scope, caller: Principal) -> str:
        """Return a key made from everything that the output of a step depends on: the caller, the caller's filters and
        groups, the step, the model behind each name, the version of each app, and the values that the step refers to.
        """
        # The caller's results depend on the filters and groups of the caller's key, which a configuration may change.
        rights = (repr(caller.filters), sorted(caller.groups))
        key_parts: list[Any] = [caller.id, *rights, step.source, scope.value]
        stack = [step]
        while stack:
            inner = stack.pop()
            stack.extend(children(inner))
            model = getattr(inner.op, "model", "")
            key_parts.append(self.registry.aliases.get(model, model))
            app = getattr(inner.op, "app", "") or getattr(inner.op, "name", "")
            servable = self.registry.get(app, caller) if app else None
            key_parts.append(
                (servable.card.id, servable.card.labels.get("version")) if servable is not None else None
            )
            if getattr(inner.op, "history", None) is not None:
                key_parts.append(scope.history)
            for outer in expressions(inner):
                for part in walk(outer):
                    if isinstance(part, ReferenceExpression):
                        # A reference to an inner step cannot be resolved yet, but its value follows from the
                        # other parts of the key.
                        key_parts.append([part.text, _quietly(part, scope)])
        text = orjson.dumps(key_parts, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS, default=repr)
        return hashlib.sha256(text).hexdigest()

    async def cached(self, key: str, context: Context) -> str | None:
        """Return a cached output as JSON text."""
        database = self.database
        if database is None:
            return None
        return await context.outside(
            "cache", {}, lambda: database.read(steps.cached_output, key), lambda text: text, _recorded_output
        )

    async def keep(self, key: str, value: str, seconds: float, context: Context) -> None:
        """Cache an output for ``seconds``."""
        database = self.database
        if database is not None:
            await context.outside(
                "cache",
                {"seconds": seconds},
                lambda: database.write_soon(steps.keep, key, value, seconds),
                no_value,
                no_value,
            )


def _recorded_output(text: str | None) -> str | None:
    """Return a cached output of a recording. Raise `ValueError` if it is not JSON text."""
    if text is not None:
        orjson.loads(text)
    return text


def _quietly(reference: ReferenceExpression, scope: Scope) -> Any:
    """Return the value of a reference, or ``None`` if it does not resolve: the step itself reports this error when it
    runs.
    """
    try:
        value = reference.of(scope)
    except InvalidRequest:
        return None
    return None if value is SKIPPED else value


class _Deeper(ContextWithin):
    """The context of a flow or agent that a flow calls: one level deeper, possibly with its own listener."""

    def __init__(self, outer: Context, depth: int, listener: Listener | None = None) -> None:
        super().__init__(outer)
        self._listener = listener or outer.emit
        self._depth = depth

    @property
    def depth(self) -> int:
        return self._depth

    # not a coroutine, because a deeply nested flow passes each event through many levels
    def emit(self, event: Event) -> Awaitable[None]:
        return self._listener(event)


def deeper(context: Context, name: str, listener: Listener | None = None) -> Context:
    """Return the context for calling the flow or agent ``name`` from this context. If ``listener`` is set, it receives
    the events instead of this context's listener.

    Raise `InvalidRequest` if flows are nested too deeply.
    """
    depth = depth_of(context) + 1
    if depth > MAX_FLOW_DEPTH:
        raise InvalidRequest(
            f"'{name}' was called {MAX_FLOW_DEPTH} flows deep: a flow calls itself.", code="too_deep"
        )
    return _Deeper(context, depth, listener)


class StepHost(Protocol):
    """The part of `portico_server.features.flows.execute.Execution` that steps use."""

    flow: FlowSpec
    context: Context
    world: FlowServices
    journal: Journal
    voices: frozenset[str]
    citations: tuple[Passage, ...]
    claims: tuple[AnswerClaim, ...]
    spoken: bool
    turn: int
    answered: frozenset[str] | None
    budget: ValueBudget
    addresses: FlowAddresses

    async def origins(self, step: FlowStep) -> tuple[Origins, Origins]:
        """Return the origins of the foreign data on which a step may depend, and of the part that decides whether it
        runs.
        """

    async def step(self, step: FlowStep, scope: Scope, path: str) -> Any:
        """Run a step, or reuse its output from the journal. Return its output, or `SKIPPED`."""

    async def collected(self, step: FlowStep, scope: Scope, path: str) -> Any:
        """Run a step as `step` does, but turn an error into the output ``{"error": {...}}``."""

    def find_step(self, path: str) -> StepRow | None:
        """Return the recorded step at ``path``, or ``None`` if no earlier attempt of this run finished it."""

    async def record_ends(self, rows: Sequence[StepRow]) -> None:
        """Record and announce that many items of a step have finished successfully."""

    async def inner(
        self, flow: FlowSpec, value: Any, context: Context, path: str, *, is_streamed: bool
    ) -> Any:
        """Return the output of another flow that runs as part of this flow, with its steps under ``path``."""

    async def value(self, expression: Expression, scope: Scope) -> Any:
        """Return the value of an expression, which may be code."""

    async def truth(self, expression: Expression, scope: Scope) -> bool:
        """Return whether a condition is true."""

    async def call(self, code: CodeExpression, scope: Scope) -> Any:
        """Call a function in the sandbox."""

    def pause_limit(self) -> AbstractContextManager[None]:
        """Pause the flow's own time limit within the block."""

    async def spend(self, usage: Usage) -> None:
        """Count the usage of a call, and report it to the run."""

    def key(self, path: str) -> str:
        """Return the key of an effect of the step at ``path``. If the step is repeated, the effect has the same key."""
