"""An agent as a Servable: one name under which it can be called as a chat model and as an app, with sessions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.core.facts import FactStore
from portico_server.core.interfaces import Evaluator, require_code
from portico_server.core.principal import Principal
from portico_server.core.registry import Registry
from portico_server.core.request import AppInput, AppOutput, Chat, ChatReply, Message, Request
from portico_server.core.servable import Card
from portico_server.core.skills import SkillTexts
from portico_server.core.tool_search import ToolSearch
from portico_server.db.apps import AppRow
from portico_server.features.agents import functions, read
from portico_server.features.agents.foreign_data import with_origins
from portico_server.features.agents.forward import FORWARD, MESSAGE_INPUT, ForwardApp
from portico_server.features.agents.message import AgentMessage, message_of
from portico_server.features.agents.session import AgentSession, Recollection
from portico_server.features.agents.session_name import session_name
from portico_server.features.agents.sessions import AgentSessions
from portico_server.features.agents.spec import AgentSpec, MarkedOutput
from portico_server.features.agents.strategies import STRATEGIES
from portico_server.features.agents.turn import AgentServices, AgentTurn, TurnOptions, TurnUsage
from portico_server.features.flows.budget import ValueBudget
from portico_server.runs.journal import specified
from portico_server.runs.run import Run
from portico_server.runs.runner import Runner
from portico_server.runs.turn_steps import TurnCutOff, TurnSteps


class AgentApps:
    """Checks, builds and runs agents."""

    def __init__(
        self,
        registry: Registry,
        runner: Runner,
        evaluator: Evaluator,
        sessions: AgentSessions,
        facts: FactStore,
        tool_search: ToolSearch,
        skills: SkillTexts,
        budget: ValueBudget | None = None,
    ) -> None:
        self._registry = registry
        self.budget = budget or ValueBudget()
        self._runner = runner
        self._place = AgentServices(registry, evaluator, STRATEGIES, facts, tool_search, skills)
        self.sessions = sessions
        self.facts = sessions.long_memory(facts)

    async def check(self, name: str, spec: Mapping[str, Any], caller: Principal) -> None:
        """Check that everything an agent names exists for the caller; part of
        `portico_server.features.apps.deployed.AppKind`.
        """
        if FORWARD in spec:
            ForwardApp.check(name, spec)
            return
        await self.exists(read.agent({**spec, "name": name}), caller)

    async def exists(self, spec: AgentSpec, caller: Principal, at: str = "agent") -> None:
        """Check that everything an agent names exists for the caller. Raise the first error, with its path in the
        specification.
        """
        references = [(f"{at}.model", spec.model)]
        for number, use in enumerate(spec.tools):
            if use.function is None:
                references.append((f"{at}.tools[{number}]", f"tool/{use.tool}"))
            else:
                self._require_description(use.name, use.function.schema, f"{at}.tools[{number}].parameters")
        references += [(f"{at}.stores[{n}]", f"store/{store}") for n, store in enumerate(spec.stores)]
        references += [
            (f"{at}.agents[{n}]", sub.name) for n, sub in enumerate(spec.agents) if sub.spec is None
        ]
        if spec.memory.long_term is not None:
            references.append((f"{at}.memory.long_term.store", f"memory/{spec.memory.long_term.store}"))
        for place, key in references:
            try:
                await self._require_access(key, caller)
            except PorticoError as error:
                raise _misconfigured(place, error) from error
        for number, skill in enumerate(spec.skills):
            try:
                await self._place.skills.about(skill, caller)
            except PorticoError as error:
                raise _misconfigured(f"{at}.skills[{number}]", error) from error
        for number, hook in enumerate(spec.hooks):
            if hook.do == "code":
                require_code(caller, f"{at}.hooks[{number}].source")
                await self._runs(hook.source, f"{at}.hooks[{number}].source")
        for output in spec.output:
            if isinstance(output, MarkedOutput) and output.validate == "code":
                require_code(caller, f"{at}.output.code")
                await self._runs(output.code, f"{at}.output.code")
        for number, sub in enumerate(spec.agents):
            if sub.spec is not None:
                await self.exists(sub.spec, caller, f"{at}.agents[{number}].agent")

    @staticmethod
    def _require_description(name: str, schema: Mapping[str, Any], at: str) -> None:
        from portico_server.core.json_schema import require_schema

        require_schema(name, schema, at)

    def unserved(self, spec: AgentSpec, caller: Principal) -> list[str]:
        """Return the client functions that an agent needs and that no worker currently serves for the caller."""
        missing = sorted(
            {
                name
                for name in functions.function_names(spec)
                if not functions.is_served(self._registry, name, caller)
            }
        )
        return [
            f"The agent calls the function '{name}', which no worker currently serves: run portico serve "
            f"FILE.py:{spec.name}, or agent.serve(…). Until a worker serves it, calls of the function return "
            "an error to the agent."
            for name in missing
        ]

    async def _runs(self, source: str, at: str) -> None:
        try:
            await self._place.evaluator.check(source)
        except InvalidRequest as error:
            raise InvalidRequest(f"{at}: {error.message}", code=error.code, param=at) from error

    def build(self, name: str, spec: Mapping[str, Any], row: AppRow) -> AgentApp | ForwardApp:
        """Build an agent; part of `portico_server.features.apps.deployed.AppKind`."""
        if FORWARD in spec:
            return ForwardApp(name, spec, row)
        return AgentApp(
            read.agent({**spec, "name": name}),
            self,
            owner=row.owner,
            created_at=int(row.created_at),
            version=row.version,
            id=row.id,
        )

    async def _require_access(self, key: str, caller: Principal) -> None:
        """Raise `NotFound` if a name does not exist for the caller who wrote an agent, and `Forbidden` if it is the
        memory in a store to which the caller may not write: only a writer may put memory into a store.
        """
        card = (await self._registry.resolve(key, caller)).card
        if card.is_memory:
            caller.require(f"stores:{card.name}:write", f"stores:{card.id}:write")

    async def begin(
        self,
        spec: AgentSpec,
        message: AgentMessage,
        caller: Principal,
        *,
        session: tuple[str, str] | None = None,
        path: str = "",
        variables: Mapping[str, Any] | None = None,
    ) -> Run:
        """Begin a turn of an agent that the caller wrote, in the ``session`` (app, name) if one is given.

        Raise `Forbidden` if the agent remembers facts in a store to which the caller may not write.
        """
        for key in spec.names():
            if key.startswith("memory/"):
                await self._require_access(key, caller)
        session_key = None if session is None else (("", session[0]), session[1])
        options = TurnOptions(variables or {})

        async def work(context: Context) -> AppOutput:
            reply, turn = await self.turn(
                spec, message, context, options, session=session_key, path=path, near=True
            )
            return await turn.output(reply)

        return await self._runner.begin("agent", spec.name, caller, work)

    async def inline_exists(self, agent: Mapping[str, Any], caller: Principal, at: str) -> bool:
        spec = read.agent(agent, at)
        await self.exists(spec, caller, at)
        return bool(spec.output)

    def functions(self, agent: Mapping[str, Any]) -> Iterable[str]:
        return _near(read.agent(agent))

    def inline_names(self, agent: Mapping[str, Any]) -> Iterable[str]:
        return read.agent(agent).names()

    def inline_unserved(self, agent: Mapping[str, Any], caller: Principal) -> list[str]:
        return self.unserved(read.agent(agent), caller)

    async def ask(
        self,
        agent: Mapping[str, Any],
        content: Any,
        context: Context,
        *,
        session: str = "",
        near: bool = False,
    ) -> tuple[Any, ChatReply]:
        spec = read.agent(agent)
        session_key = (("", spec.name), session) if session else None
        message = message_of({"content": content})
        reply, turn = await self.turn(spec, message, context, TurnOptions(), session=session_key, near=near)
        await turn.emit_answer(reply)
        value = reply.text if reply.formatted is None else reply.formatted
        return value, ChatReply(reply.text, usage=turn.tally.usage, model=spec.name)

    async def turn(
        self,
        spec: AgentSpec,
        message: AgentMessage,
        context: Context,
        options: TurnOptions,
        *,
        session: tuple[tuple[str, str], str] | None = None,
        path: str = "",
        earlier: Sequence[AgentMessage] = (),
        near: bool = False,
    ) -> tuple[AgentMessage, AgentTurn]:
        """Run one turn of an agent. With ``session`` (id and name of the app, name of the session), the turn is stored
        in the caller's session; otherwise it follows the ``earlier`` messages.

        ``near``: the client that started the turn executes the agent's client functions.
        """
        steps = TurnSteps.here(context.run)
        budget = self.budget.fresh("" if context.caller.admin else context.caller.id)
        try:
            if session is None:
                agent_session = AgentSession(recollections={path: Recollection(list(earlier))})
                agent_session.budget = budget
                turn = AgentTurn(
                    spec, path, agent_session, context, self._place, TurnUsage(), steps, options, near=near
                )
                return await turn.run(message), turn
            app, name = session
            async with self.sessions.turn(
                app, name, context.caller, path=path, busy=spec.busy
            ) as agent_session:
                agent_session.budget = budget
                await agent_session.begin(path, steps, context)
                turn = AgentTurn(
                    spec, path, agent_session, context, self._place, TurnUsage(), steps, options, near=near
                )
                reply = await turn.run(message)
                await agent_session.commit(context.run)
                return reply, turn
        except TurnCutOff as cutoff:
            raise cutoff.error from cutoff
        except PorticoError as error:
            await steps.reject(error)
            raise
        finally:
            budget.release()


def _misconfigured(place: str, error: PorticoError) -> InvalidRequest:
    """Return the error for an invalid name in a specification, with the name's location."""
    invalid_request = InvalidRequest(f"{place}: {error.message}", code=error.code, param=place)
    invalid_request.status, invalid_request.type = error.status, error.type
    return invalid_request


def _near(spec: AgentSpec) -> Iterator[str]:
    """Yield the names of the functions and hooks that are executed by the client that began the turn."""
    yield from (functions.name_of(spec, use.tool) for use in spec.tools if use.function is not None)
    yield from (hook.source for hook in spec.hooks if hook.do == "client")
    for sub in spec.agents:
        if sub.spec is not None:
            yield from _near(sub.spec)


class AgentApp:
    """One deployed agent.

    `Chat` with the option ``conversation`` (a name, or an object with ``id``) or ``user`` continues that session with
    the last message. Without these options, the agent knows only the messages of the request. `AppInput` accepts the
    message, or an object with ``message`` and ``variables``.
    """

    def __init__(
        self,
        spec: AgentSpec,
        agents: AgentApps,
        *,
        owner: str | None = None,
        created_at: int = 0,
        version: int = 0,
        id: str = "",
    ) -> None:
        self.spec = spec
        self._agents = agents
        self.card = Card(
            name=spec.name,
            kind="app",
            title=spec.title or spec.name,
            description=spec.description,
            capabilities=frozenset({"chat", "app"}),
            input_schema=MESSAGE_INPUT,
            labels={"app": "agent", "version": version, "model": spec.model, "uses": models_asked(spec)},
            owner=owner,
            created=created_at,
            id=id,
        )

    async def call(self, request: Request, context: Context) -> ChatReply | AppOutput:
        if isinstance(request, AppInput):
            message, variables = _read_input(request.value)
            reply, turn = await self._turn(message, context, request.session, TurnOptions(variables))
            return await turn.output(reply)
        if not isinstance(request, Chat):
            raise InvalidRequest(f"'{self.card.name}' is an agent: it accepts only messages.")
        name, options = session_name(request.options), self._turn_options(request)
        *before, last = request.messages
        if last.get("role") != "user":
            raise InvalidRequest(
                f"The last message to the agent '{self.card.name}' must come from the user.", param="messages"
            )
        earlier = (
            [] if name else [_recall_message(item, self.spec.name) for item in before if _is_spoken(item)]
        )
        message = message_of({"content": last.get("content") or ""})
        reply, turn = await self._turn(message, context, name, options, earlier)
        await turn.emit_answer(reply)
        return ChatReply(reply.text, usage=turn.tally.usage, model=self.card.name)

    async def _turn(
        self,
        message: AgentMessage,
        context: Context,
        name: str,
        options: TurnOptions,
        earlier: Sequence[AgentMessage] = (),
    ) -> tuple[AgentMessage, AgentTurn]:
        session = ((self.card.id, self.card.name), name) if name else None
        with specified(self.card.owner, context.caller):
            return await self._agents.turn(
                self.spec, message, context, options, session=session, earlier=earlier
            )

    def _turn_options(self, request: Chat) -> TurnOptions:
        """Return the caller's system messages and sampling options. The caller cannot change the agent's tools."""
        for field in ("tools", "tool_choice", "response_format", "functions"):
            if request.options.get(field):
                raise InvalidRequest(
                    f"The agent '{self.card.name}' does not support '{field}': its specification defines its "
                    "tools and its output format.",
                    code="unsupported_parameter",
                    param=field,
                )
        rules = [_text(item) for item in request.messages[:-1] if item.get("role") in ("system", "developer")]
        options = {name: request.options[name] for name in _SAMPLING if request.options.get(name) is not None}
        return TurnOptions(rules="\n\n".join(rules), options=options)


_SAMPLING = (
    "temperature",
    "top_p",
    "seed",
    "max_tokens",
    "max_completion_tokens",
    "presence_penalty",
    "frequency_penalty",
    "reasoning_effort",
)
"""Chat completion options that a caller may set for an agent's model."""


def _read_input(value: Any) -> tuple[AgentMessage, Mapping[str, Any]]:
    if isinstance(value, Mapping) and "message" in value:
        variables = value.get("variables") or {}
        if not isinstance(variables, Mapping):
            raise InvalidRequest("'variables' must be an object.", param="input.variables")
        return message_of(value["message"]), variables
    return message_of(value), {}


def _is_spoken(item: Message) -> bool:
    return item.get("role") in ("user", "assistant") and bool(item.get("content"))


def _recall_message(item: Message, name: str) -> AgentMessage:
    """Return a message of the conversation that the caller sent. Earlier answers may contain foreign data."""
    if item.get("role") == "assistant":
        return with_origins(message_of({"content": item["content"]}, name), ["an earlier answer"])
    return message_of({"content": item["content"]})


def _text(item: Message) -> str:
    return message_of({"content": item.get("content") or ""}).text


def models_asked(spec: AgentSpec) -> tuple[str, ...]:
    """Return the chat models and agents that an agent calls, under their names in its specification."""
    names = [spec.model]
    for sub in spec.agents:
        names += [sub.name] if sub.spec is None else models_asked(sub.spec)
    return tuple(dict.fromkeys(names))
