"""`Agent`: one class for a model with instructions and tools, and for programs of your own made of such agents."""

from __future__ import annotations

import inspect
import secrets
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias, Unpack
from weakref import ReferenceType, ref

from portico._keywords import exact_methods, with_options
from portico._step import Step, identifier
from portico.agent.forward import ForwardCall, refuse_options
from portico.agent.hooks import AnyHook, apply_hooks
from portico.agent.memory import forget, read_messages, read_state, write_state
from portico.agent.message import Message
from portico.agent.output import Output, own_parser, parsed
from portico.agent.scope import (
    CALL_SCOPE,
    CallScope,
    DaemonClients,
    Heard,
    reporting_step,
    run_coroutine,
    running_loop,
)
from portico.agent.spec import Composition, Handoff, Spec, build_spec
from portico.agent.turn import Turn, astream_call, stream_call
from portico.client import AsyncClient, Client
from portico.errors import InvalidRequest
from portico.functions import Function
from portico.model_options import MODEL_OPTIONS, ModelOptions
from portico.schemas.apps import AppVersion
from portico.wire import Finished

Strategy: TypeAlias = Literal["tools", "text_tools", "react", "plan_and_solve", "rewoo"]

AgentInput: TypeAlias = "str | list[dict[str, Any]] | Mapping[str, Any] | Message"
"""What can be said to an agent: text, parts, or a message."""


@exact_methods
class Agent:
    """An agent that a daemon runs, or a program of yours that calls such agents.

    ``agent = Agent("default", "Be brief.")`` asks the model ``default``. ``tools`` are names in the daemon, and
    functions of yours, which are executed here; ``stores`` and ``skills`` are names; ``agents`` are asked like tools (a
    deployed one by its name), or take over (`Handoff`). ``memory`` is a policy (``"all"``, ``"window"``, ``"budget"``,
    ``"summary"``, ``"none"``) or an object with more; ``output`` one format or several that are tried in order;
    ``options`` are OpenAI's (``temperature``, ``stop`` …), with ``extra_body`` for what only some models know.

    A class of your own has agents as attributes, in lists and dicts too, and a method ``forward(self, message,
    session)``, asynchronous or not, which runs here. Within it a call goes to the session of the call around it.

    Sessions live in the daemon, under the ``name`` of the agent or of its class, and continue where they were left; a
    call without ``session=`` goes to one that this object begins and no other finds. An agent that is not a class of
    your own and has no name keeps all its sessions to itself. ``client`` says which daemon, by default that of
    ``PORTICO_URL``.
    """

    _composition: Composition
    _own_name: str
    _alone: str
    _session: str
    _daemon: DaemonClients | None
    _place: tuple[ReferenceType[Agent], str] | None
    hooks: Sequence[AnyHook]

    def __new__(cls, *args: Any, **kwargs: Any) -> Agent:
        # Here and not in __init__, so that a class of one's own need not call that.
        agent = super().__new__(cls)
        agent._composition = Composition()
        agent._own_name = ""
        agent._alone = f"agent-{secrets.token_hex(4)}" if cls is Agent else cls.__name__
        agent._session = secrets.token_hex(4)
        agent._daemon = None
        agent._place = None
        agent.hooks = ()
        return agent

    @with_options(MODEL_OPTIONS)
    def __init__(
        self,
        model: str = "default",
        instructions: str = "",
        *,
        name: str = "",
        title: str = "",
        description: str = "",
        tools: Sequence[str | Mapping[str, Any] | Function | Callable[..., Any]] = (),
        stores: Sequence[str] = (),
        skills: Sequence[str] = (),
        agents: Sequence[Agent | Handoff | str] = (),
        tool_search: bool | Literal["auto"] = "auto",
        strategy: Strategy = "tools",
        memory: str | Mapping[str, Any] | None = None,
        output: Output | Sequence[Output] | None = None,
        aggregate: str | Mapping[str, Any] | None = None,
        few_shot: Sequence[Mapping[str, Any]] = (),
        hooks: Sequence[AnyHook] = (),
        variables: Mapping[str, Any] | None = None,
        limits: Mapping[str, Any] | None = None,
        final: str = "",
        client: Client | AsyncClient | None = None,
        **options: Unpack[ModelOptions],
    ) -> None:
        self._own_name = name
        self._daemon = None if client is None else DaemonClients.of(client)
        self.hooks = tuple(hooks)
        self._composition = Composition(
            model=model,
            instructions=instructions,
            title=title,
            description=description,
            tools=tuple(tools),
            stores=tuple(stores),
            skills=tuple(skills),
            agents=tuple(agents),
            tool_search=tool_search,
            strategy=strategy,
            memory=memory,
            output=output,
            aggregate=aggregate,
            few_shot=tuple(few_shot),
            variables=variables or {},
            limits=limits or {},
            final=final,
            options=options,
        )

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        above = list(_lineage(self))
        for path, agent in _agents_in(name, value):
            if agent not in above:  # a link back to the agent that holds this one makes no tree
                agent._place = (ref(self), path)

    @property
    def name(self) -> str:
        """What the agent is called: as given, else the attribute that it is, else its class."""
        if self._own_name:
            return self._own_name
        if self._place is not None and self._place[0]() is not None:
            return self._place[1].replace(".", "-")
        return self._alone

    def _scope(self, session: int | str | None) -> CallScope:
        """The call around this one if it is of the same tree; else a new one."""
        around = CALL_SCOPE.get()
        if around is not None and id(self) in around.paths:
            return around if session is None else replace(around, session=str(session))
        *_agents, root = _lineage(self)
        daemon = self._daemon or root._daemon or (around.daemon if around is not None else None)
        session_name = (
            session if session is not None else around.session if around is not None else root._session
        )
        app = root._own_name or root._alone
        return CallScope(app, str(session_name), daemon or DaemonClients.of(None), _paths(root))

    @property
    def _composed(self) -> bool:
        return type(self).forward is not Agent.forward

    @with_options(MODEL_OPTIONS)
    def __call__(
        self,
        message: AgentInput,
        *,
        session: int | str | None = None,
        variables: Mapping[str, Any] | None = None,
        **options: Unpack[ModelOptions],
    ) -> Message:
        """Say something and wait for the answer; both are in the agent's memory of the ``session`` afterwards.

        ``options`` are the model's, for this call. Raises `PorticoError`.
        """
        if self._composed:
            refuse_options(self.name, variables, options)
        if self._composed and inspect.iscoroutinefunction(self.forward):
            return run_coroutine(self.acall(message, session=session, variables=variables, **options))
        scope = self._scope(session)
        if scope.loop is not None and scope.loop is running_loop():
            raise InvalidRequest(
                f"'{self.name}' is called within an asynchronous forward, which it would stop: write await "
                f"….acall(message)."
            )
        given_message = apply_hooks(self.hooks, "before_agent", self, Message.of(message), scope.session)
        with reporting_step(scope.path(self)):
            reply = (
                self._forward_call(scope, given_message).run()
                if self._composed
                else self._turn(scope, given_message, variables, options).run()
            )
            reply = parsed(own_parser(self._composition.output), reply)
        return apply_hooks(self.hooks, "after_agent", self, reply, scope.session)

    @with_options(MODEL_OPTIONS)
    async def acall(
        self,
        message: AgentInput,
        *,
        session: int | str | None = None,
        variables: Mapping[str, Any] | None = None,
        **options: Unpack[ModelOptions],
    ) -> Message:
        """The same for asyncio."""
        if self._composed:
            refuse_options(self.name, variables, options)
        scope = self._scope(session)
        given_message = apply_hooks(self.hooks, "before_agent", self, Message.of(message), scope.session)
        with reporting_step(scope.path(self)):
            if self._composed:
                reply = await self._forward_call(scope, given_message).arun()
            else:
                reply = await self._turn(scope, given_message, variables, options).arun()
            reply = parsed(own_parser(self._composition.output), reply)
        return apply_hooks(self.hooks, "after_agent", self, reply, scope.session)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What a class of your own does, ``forward(self, message, session)``, the second if you want it.

        Return a message, or its text. May be ``async def``.
        """
        raise InvalidRequest(
            "An agent without a forward of its own is run by the daemon: call the agent itself."
        )

    def _turn(
        self,
        scope: CallScope,
        message: Message,
        variables: Mapping[str, Any] | None,
        options: Mapping[str, Any],
    ) -> Turn:
        spec = build_spec(self.name, self._composition, self.hooks, self, scope.session, options)
        return Turn(scope, scope.path(self), spec, message, variables or {})

    def _forward_call(self, scope: CallScope, message: Message) -> ForwardCall:
        return ForwardCall(scope, scope.path(self), self.name, self.forward, message)

    @with_options(MODEL_OPTIONS)
    def stream(
        self,
        message: AgentInput,
        *,
        session: int | str | None = None,
        **options: Unpack[ModelOptions],
    ) -> Generator[Heard, None, None]:
        """Say something and hear all that happens, of every agent below too: pairs of its path and the event.

        Text (`Delta`), tool calls and results, handoffs, beginnings and ends of agents. The last event has the answer
        as its ``result``. Closing it stops the turn.
        """
        if self._composed:
            return stream_call(lambda: self(message, session=session, **options))
        return self._stream(message, session, options)

    def _stream(
        self, message: AgentInput, session: int | str | None, options: Mapping[str, Any]
    ) -> Generator[Heard, None, None]:
        scope = self._scope(session)
        given_message = apply_hooks(self.hooks, "before_agent", self, Message.of(message), scope.session)
        reply = yield from self._turn(scope, given_message, None, options).stream()
        reply = parsed(own_parser(self._composition.output), reply)
        yield Heard("", Finished(apply_hooks(self.hooks, "after_agent", self, reply, scope.session)))

    @with_options(MODEL_OPTIONS)
    def astream(
        self,
        message: AgentInput,
        *,
        session: int | str | None = None,
        **options: Unpack[ModelOptions],
    ) -> AsyncGenerator[Heard, None]:
        """The same for asyncio."""
        return astream_call(lambda: self.acall(message, session=session, **options))

    def memory(self, session: int | str | None = None) -> list[Message]:
        """What this agent has heard and said in a session, oldest first."""
        scope = self._scope(session)
        return read_messages(scope.daemon.client.sessions, scope.app, scope.session, scope.path(self))

    def state_dict(self, session: int | str | None = None) -> dict[str, Any]:
        """The memories of this agent and of all below it: ``{"memory": […], "writer.memory": […]}``."""
        scope = self._scope(session)
        return read_state(scope.daemon.client.sessions, scope.app, scope.session, scope.path(self))

    def load_state_dict(self, state: Mapping[str, Any], session: int | str | None = None) -> None:
        """Put a state dict in the place of what this agent and all below it remember."""
        scope = self._scope(session)
        write_state(scope.daemon.client.sessions, scope.app, scope.session, scope.path(self), state)

    def reset(self, session: int | str | None = None) -> None:
        """Forget what was said in a session to this agent and to all below it."""
        scope = self._scope(session)
        forget(scope.daemon.client.sessions, scope.app, scope.session, scope.path(self))

    def deploy(self, client: Client | None = None, name: str | None = None, *, note: str = "") -> AppVersion:
        """Give the agent a name in the daemon: a model of the OpenAI API, a tool of MCP.

        A class with a ``forward`` answers while `serve` serves it.
        """
        daemon = self._scope(None).daemon if client is None else DaemonClients.of(client)
        app_name = name or self.name
        spec = self._deployable(app_name)
        return daemon.client.apps.deploy(app_name, spec, kind="agent", note=note)

    def serve(
        self,
        client: Client | None = None,
        name: str | None = None,
        *,
        concurrency: int = 16,
        stop: threading.Event | None = None,
    ) -> None:
        """Deploy it, and execute its ``forward`` or its functions here. Blocks until ``stop`` is set or with Ctrl-C."""
        functions = self.served(name or self.name)
        self.deploy(client, name)
        daemon = self._scope(None).daemon if client is None else DaemonClients.of(client)
        daemon.client.serve(functions, concurrency=concurrency, stop=stop)

    def served(self, name: str = "") -> list[Function]:
        """The functions that `serve` and ``portico serve`` execute for the agent deployed as ``name``."""
        if self._composed:
            return [_forward_function(self, name or self.name)]
        functions = build_spec(self.name, self._composition, self.hooks, self, "", {}).tools
        if not functions:
            raise InvalidRequest(
                f"All of the agent '{name or self.name}' runs in the daemon.", param="functions"
            )
        return list(functions.values())

    def specified(self, session: str) -> Spec:
        """The specification, for an agent that asks this one. Raises `InvalidRequest` if it has a ``forward``."""
        if self._composed:
            raise InvalidRequest(
                f"'{self.name}' has a forward, which runs here: deploy and serve it, and name it in 'agents'.",
                param="agents",
            )
        if own_parser(self._composition.output) is not None:
            raise InvalidRequest(
                f"'{self.name}' has an output format of your own, which runs here and not where another agent asks it.",
                param="output",
            )
        return build_spec(self.name, self._composition, self.hooks, self, session, {})

    def as_step(self) -> Step:
        """The step of a flow that asks this agent: in the daemon, or here if it has a ``forward`` or own hooks."""
        name = identifier(self.name)
        if (
            self._composed
            or own_parser(self._composition.output) is not None
            or build_spec(self.name, self._composition, self.hooks, self, "", {}).stays
        ):
            return Step("client", {}, name=name, function=_as_function(self))
        return Step("agent", {"agent": self}, name=name)

    @property
    def spec(self) -> dict[str, Any]:
        """The specification as it is deployed. Raises `InvalidRequest` if something of it can only run here."""
        return self._deployable(self.name)

    def _deployable(self, name: str) -> dict[str, Any]:
        if self._composed:
            document = {"portico_agent": 1, "name": name, "forward": function_name(name)}
            about = self._composition.description or (inspect.getdoc(type(self)) or "").split("\n\n")[0]
            return {**document, **({"description": about} if about else {})}
        spec = build_spec(name, self._composition, self.hooks, self, "", {})
        if spec.stays:
            raise InvalidRequest(
                f"'{name}' has {spec.stays}, which runs here and not in the daemon. Declare it (portico.agent.hooks), "
                "or make a class with a forward of this agent and serve that.",
                param="hooks",
            )
        return spec.json

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def function_name(name: str) -> str:
    """The tool behind a deployed agent that is served."""
    return f"{name}_forward"


def _forward_function(agent: Agent, name: str) -> Function:
    """The function that answers for an agent: a message and the name of a session in, a message out."""

    async def asynchronous(message: Mapping[str, Any], session: str) -> dict[str, Any]:
        return (await agent.acall(message, session=session)).to_json()

    def blocking(message: Mapping[str, Any], session: str) -> dict[str, Any]:
        return agent(message, session=session).to_json()

    call = asynchronous if inspect.iscoroutinefunction(agent.forward) else blocking
    return Function.of(
        call, name=function_name(name), description=f"What '{name}' answers to a message.", timeout=3600.0
    )


def _as_function(agent: Agent) -> Callable[..., Any]:
    """An agent as a function of a message, for a flow; what it has formatted, else its text."""

    def answer(message: Message) -> Any:
        return message.text if message.formatted is None else message.formatted

    if inspect.iscoroutinefunction(agent.forward):

        async def acall(message: Any) -> Any:
            return answer(await agent.acall(message))

        call_agent: Callable[..., Any] = acall
    else:

        def call(message: Any) -> Any:
            return answer(agent(message))

        call_agent = call
    call_agent.__name__ = identifier(agent.name).replace("-", "_")
    return call_agent


def _lineage(agent: Agent) -> Iterator[Agent]:
    """The agent, the one that holds it, and so on up to the root."""
    above: Agent | None = agent
    while above is not None:
        yield above
        place = above.__dict__.get("_place")
        above = place[0]() if place is not None else None


def _paths(root: Agent) -> dict[int, str]:
    """All agents of the tree below ``root``, and itself, by their ids."""
    paths = {id(root): ""}
    todo: list[Agent] = [root]
    while todo:
        at = todo.pop()
        before = paths[id(at)]
        for name, value in vars(at).items():
            for path, agent in _agents_in(name, value):
                if id(agent) not in paths:
                    paths[id(agent)] = f"{before}.{path}" if before else path
                    todo.append(agent)
    return paths


def _agents_in(name: str, value: Any) -> Iterator[tuple[str, Agent]]:
    """The agents that an attribute holds, by itself or in lists and objects, each with its path."""
    if isinstance(value, Agent):
        yield name, value
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _agents_in(f"{name}.{number}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _agents_in(f"{name}.{key}", item)
