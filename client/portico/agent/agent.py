"""`Agent`: one class both for a model with instructions and tools, and for your own programs that call such agents."""

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
from portico.agent.output import Output, own_parser, parse_message
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
"""A message to an agent: text, content parts, an object or a `Message`."""


@exact_methods
class Agent:
    """An agent that a daemon runs, or your own program that calls such agents.

    ``agent = Agent("default", "Be brief.")`` uses the model ``default``. ``tools`` are names in the daemon, or your
    functions, which run in this process; ``stores`` and ``skills`` are names. ``agents`` are called like tools (a
    deployed agent by name), or take over (`Handoff`). ``memory`` is a policy (``"all"``, ``"window"``, ``"budget"``,
    ``"summary"``, ``"none"``) or an object with more settings. ``output`` is one format, or several that are tried in
    order; ``options`` are OpenAI's (``temperature``, ``stop`` …), with ``extra_body`` for options that only some
    models support.

    Your own subclass has agents as attributes, directly or in lists and dicts, and a method ``forward(self, message,
    session)``, asynchronous or not, which runs in this process. Agents that ``forward`` calls use the session of the
    call to ``forward``.

    The daemon stores sessions under the agent's ``name``, or under the name of your class, and continues them. A call
    without ``session=`` uses a session that this object creates and that no other code can find. If an agent has no
    name and is not your own class, all its sessions are private. ``client`` selects the daemon; the default is the
    daemon at ``PORTICO_URL``.

    Example::

        from portico.agent import Agent

        agent = Agent("default", "Be brief.", name="clerk")
        print(agent("Good morning", session="ada").content)
    """

    _composition: Composition
    _own_name: str
    _alone: str
    _session: str
    _daemon: DaemonClients | None
    _place: tuple[ReferenceType[Agent], str] | None
    hooks: Sequence[AnyHook]

    def __new__(cls, *args: Any, **kwargs: Any) -> Agent:
        # Set these attributes here and not in __init__, so that subclasses need not call Agent.__init__.
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
            if agent not in above:  # a link back to an enclosing agent does not make that agent a child
                agent._place = (ref(self), path)

    @property
    def name(self) -> str:
        """The agent's own name, or else the attribute that contains the agent, or else its class."""
        if self._own_name:
            return self._own_name
        if self._place is not None and self._place[0]() is not None:
            return self._place[1].replace(".", "-")
        return self._alone

    def _scope(self, session: int | str | None) -> CallScope:
        """Return the scope of the enclosing call if this agent belongs to its tree. Otherwise return a new scope."""
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
        """Send a message and wait for the answer. Both messages are added to the agent's memory of the ``session``.

        ``options`` are model options for this call. Raises `PorticoError`.
        """
        if self._composed:
            refuse_options(self.name, variables, options)
        if self._composed and inspect.iscoroutinefunction(self.forward):
            return run_coroutine(self.acall(message, session=session, variables=variables, **options))
        scope = self._scope(session)
        if scope.loop is not None and scope.loop is running_loop():
            raise InvalidRequest(
                f"'{self.name}' is called within an asynchronous forward and would block it: use await "
                "….acall(message)."
            )
        given_message = apply_hooks(self.hooks, "before_agent", self, Message.of(message), scope.session)
        with reporting_step(scope.path(self)):
            reply = (
                self._forward_call(scope, given_message).run()
                if self._composed
                else self._turn(scope, given_message, variables, options).run()
            )
            reply = parse_message(own_parser(self._composition.output), reply)
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
        """Send a message and await the answer, as `__call__` does."""
        if self._composed:
            refuse_options(self.name, variables, options)
        scope = self._scope(session)
        given_message = apply_hooks(self.hooks, "before_agent", self, Message.of(message), scope.session)
        with reporting_step(scope.path(self)):
            if self._composed:
                reply = await self._forward_call(scope, given_message).arun()
            else:
                reply = await self._turn(scope, given_message, variables, options).arun()
            reply = parse_message(own_parser(self._composition.output), reply)
        return apply_hooks(self.hooks, "after_agent", self, reply, scope.session)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Implement this method in your own agent, as ``forward(self, message, session)``; ``session`` is optional.

        Return a message, or its text. The method can be ``async def``.
        """
        raise InvalidRequest("An agent without its own forward runs in the daemon: call the agent itself.")

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
        """Send a message and yield all events, including those of all agents below this one. Each item has the agent's
        path and an event.

        Events are text (`Delta`), tool calls and results, handoffs, and the start and end of agents. The ``result`` of
        the last event is the answer. Closing the generator stops the turn.
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
        reply = parse_message(own_parser(self._composition.output), reply)
        yield Heard("", Finished(apply_hooks(self.hooks, "after_agent", self, reply, scope.session)))

    @with_options(MODEL_OPTIONS)
    def astream(
        self,
        message: AgentInput,
        *,
        session: int | str | None = None,
        **options: Unpack[ModelOptions],
    ) -> AsyncGenerator[Heard, None]:
        """The asyncio version of `stream`."""
        return astream_call(lambda: self.acall(message, session=session, **options))

    def memory(self, session: int | str | None = None) -> list[Message]:
        """Return the messages that this agent has received and sent in a session, oldest first."""
        scope = self._scope(session)
        return read_messages(scope.daemon.client.sessions, scope.app, scope.session, scope.path(self))

    def state_dict(self, session: int | str | None = None) -> dict[str, Any]:
        """Return the memories of this agent and of all agents below it: ``{"memory": […], "writer.memory": […]}``."""
        scope = self._scope(session)
        return read_state(scope.daemon.client.sessions, scope.app, scope.session, scope.path(self))

    def load_state_dict(self, state: Mapping[str, Any], session: int | str | None = None) -> None:
        """Replace the memories of this agent and of all agents below it with a state dict."""
        scope = self._scope(session)
        write_state(scope.daemon.client.sessions, scope.app, scope.session, scope.path(self), state)

    def reset(self, session: int | str | None = None) -> None:
        """Delete the memory of a session in this agent and in all agents below it."""
        scope = self._scope(session)
        forget(scope.daemon.client.sessions, scope.app, scope.session, scope.path(self))

    def deploy(self, client: Client | None = None, name: str | None = None, *, note: str = "") -> AppVersion:
        """Deploy the agent under a name in the daemon, so that it can be called as a model in the OpenAI API and as a
        tool in MCP.

        A class with a ``forward`` answers only while `serve` runs.
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
        """Deploy the agent, and execute its ``forward`` or its functions in this process. Block until ``stop`` is set
        or Ctrl-C is pressed.
        """
        functions = self.served(name or self.name)
        self.deploy(client, name)
        daemon = self._scope(None).daemon if client is None else DaemonClients.of(client)
        daemon.client.serve(functions, concurrency=concurrency, stop=stop)

    def served(self, name: str = "") -> list[Function]:
        """Return the functions that `serve` and ``portico serve`` execute for the agent deployed as ``name``."""
        if self._composed:
            return [_forward_function(self, name or self.name)]
        functions = build_spec(self.name, self._composition, self.hooks, self, "", {}).tools
        if not functions:
            raise InvalidRequest(
                f"The agent '{name or self.name}' runs entirely in the daemon.", param="functions"
            )
        return list(functions.values())

    def specified(self, session: str) -> Spec:
        """Return the specification of this agent, to be included in that of an agent that calls it. Raises
        `InvalidRequest` if this agent has a ``forward`` or its own output format.
        """
        if self._composed:
            raise InvalidRequest(
                f"'{self.name}' has a forward, which runs in this process: deploy and serve it, and name it "
                "in 'agents'.",
                param="agents",
            )
        if own_parser(self._composition.output) is not None:
            raise InvalidRequest(
                f"'{self.name}' has its own output format, which runs in this process and cannot be used "
                "when another agent calls it.",
                param="output",
            )
        return build_spec(self.name, self._composition, self.hooks, self, session, {})

    def as_step(self) -> Step:
        """Return a flow step that calls this agent. The call runs in the daemon, or in this process if the agent has a
        ``forward``, its own output format or its own hooks.
        """
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
        """The specification for deployment. Raises `InvalidRequest` if a hook or the output format can run only in
        this process.
        """
        return self._deployable(self.name)

    def _deployable(self, name: str) -> dict[str, Any]:
        if self._composed:
            document = {"portico_agent": 1, "name": name, "forward": function_name(name)}
            about = self._composition.description or (inspect.getdoc(type(self)) or "").split("\n\n")[0]
            return {**document, **({"description": about} if about else {})}
        spec = build_spec(name, self._composition, self.hooks, self, "", {})
        if spec.stays:
            raise InvalidRequest(
                f"'{name}' has {spec.stays}, which runs in this process and not in the daemon. Declare it "
                "(portico.agent.hooks), or wrap this agent in a class with a forward and serve that.",
                param="hooks",
            )
        return spec.json

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"


def function_name(name: str) -> str:
    """Return the name of the tool that executes the ``forward`` of a deployed agent."""
    return f"{name}_forward"


def _forward_function(agent: Agent, name: str) -> Function:
    """Return the function that executes an agent's ``forward`` for the daemon: it accepts a message and a session
    name, and returns a message.
    """

    async def asynchronous(message: Mapping[str, Any], session: str) -> dict[str, Any]:
        return (await agent.acall(message, session=session)).to_json()

    def blocking(message: Mapping[str, Any], session: str) -> dict[str, Any]:
        return agent(message, session=session).to_json()

    call = asynchronous if inspect.iscoroutinefunction(agent.forward) else blocking
    return Function.of(
        call, name=function_name(name), description=f"What '{name}' answers to a message.", timeout=3600.0
    )


def _as_function(agent: Agent) -> Callable[..., Any]:
    """Wrap an agent in a function that accepts a message, for a flow. The function returns the formatted value, or the
    text if there is none.
    """

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
    """Yield the agent, the agent that contains it, and so on up to the root."""
    above: Agent | None = agent
    while above is not None:
        yield above
        place = above.__dict__.get("_place")
        above = place[0]() if place is not None else None


def _paths(root: Agent) -> dict[int, str]:
    """Return the paths of all agents in the tree, including ``root``, keyed by object id."""
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
    """Yield the agents in an attribute, directly or nested in lists and dicts, each with its path."""
    if isinstance(value, Agent):
        yield name, value
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _agents_in(f"{name}.{number}", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _agents_in(f"{name}.{key}", item)
