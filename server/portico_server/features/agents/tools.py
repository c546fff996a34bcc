"""Everything that an agent can call: tools, searches of stores, and other agents. All are called the same way, with
errors as text.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Final

import orjson

from portico.wire import HandedOff, StepFinished, StepStarted, ToolCalled, ToolReturned
from portico_server.core.addresses import SEEN_ADDRESSES, requested_addresses
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, PorticoError, nearest
from portico_server.core.interfaces import Evaluator
from portico_server.core.origins import (
    INPUT_ORIGINS,
    MODEL_WROTE_INPUT,
    ORIGINS,
    Origins,
    join_origins,
    origin_of_tool,
    origins_of_passages,
)
from portico_server.core.registry import Registry
from portico_server.core.request import CalledTool, Search, SearchResult, ToolCall, ToolResult
from portico_server.core.scoped_value import ScopedValue
from portico_server.core.skills import SkillTexts
from portico_server.core.tool_search import (
    FIND_TOOLS,
    MAX_QUERY_CHARS,
    QUERY_ARGUMENTS,
    SearchedTool,
    ToolSearch,
    finding,
)
from portico_server.features.agents.foreign_data import origins_of, seen_addresses, with_origins
from portico_server.features.agents.functions import ask_client, require_served
from portico_server.features.agents.hooks import ACTION, hooked
from portico_server.features.agents.message import HANDED_BACK, TOOL_RESULT, AgentMessage
from portico_server.features.agents.spec import AgentSpec, Moment, SubAgent, ToolUse
from portico_server.runs.turn_steps import STEP_CHANGED, TurnCutOff, TurnSteps

MAX_RESULT_CHARS: Final = 60_000
"""Maximum length of a tool result that a model sees, in characters."""

NO_ARGUMENTS: Final = {"type": "object", "properties": {}}


def cut(text: str) -> str:
    """Truncate a tool result to the length that a model sees."""
    return text if len(text) <= MAX_RESULT_CHARS else f"{text[:MAX_RESULT_CHARS]}\n[cut off here]"


MAX_CALLS_AT_ONCE: Final = 128
"""Maximum number of calls from one model answer that run concurrently; further calls wait."""

READ_SKILL: Final = "read_skill"
"""The tool with which an agent reads its skills."""

MAX_SKILLS: Final = 50
"""Maximum number of skills per agent. It is limited because every model call contains the descriptions of all
skills.
"""

SEARCH_RESULTS: Final = 5
"""Number of passages that an agent's search of a store returns."""


@dataclass(frozen=True, slots=True)
class AgentToolResult:
    """The result of a call: text for the model, artifacts for the user. ``handed`` is the answer of an agent that took
    over the conversation; it is final.
    """

    text: str
    is_error: bool = False
    artifacts: tuple[Mapping[str, Any], ...] = ()
    handed: AgentMessage | None = None
    found: tuple[str, ...] = ()
    """The names of the tools that a search for tools returned."""
    origins: Origins = ()
    """The origins of the foreign data in ``text``."""

    def to_json(self) -> dict[str, Any]:
        """Return the result as it is recorded, with the text truncated to the length that a model sees. Results with
        ``handed`` are never recorded.
        """
        return {
            "text": cut(self.text),
            "is_error": self.is_error,
            "artifacts": list(self.artifacts),
            **({"found": list(self.found)} if self.found else {}),
            **({"origins": list(self.origins)} if self.origins else {}),
        }

    @classmethod
    def recorded(cls, record: Mapping[str, Any]) -> AgentToolResult:
        """Return the result that `to_json` recorded."""
        names = tuple(record.get("found", ()))
        origins = tuple(record.get("origins", ()))
        return cls(
            record["text"], record["is_error"], tuple(record["artifacts"]), found=names, origins=origins
        )


Use = Callable[[Mapping[str, Any], str], Awaitable[AgentToolResult]]
"""Receives the arguments and the call's place in the turn, and returns the result."""


@dataclass(frozen=True, slots=True)
class AgentTool:
    """A tool that the model may call by its ``name``. A tool that calls another agent is not reported as a step,
    because that agent's turn reports itself. ``guarded``: of the tool's calls, only
    those that may depend on foreign data ask or are refused; ``only_reads``: of these, only those with a new address.
    ``composed``: its results can consist of what the model wrote.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    use: Use
    agent: bool = False
    handoff: bool = False
    kind: str = "tool"
    guarded: bool = False
    only_reads: bool = False
    composed: bool = False

    @property
    def function(self) -> dict[str, Any]:
        """Return the tool in the format of OpenAI's ``tools``."""
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": dict(self.schema),
            },
        }


Ask = Callable[[SubAgent, AgentMessage, str], Awaitable[AgentMessage]]
"""Lets another agent answer a message. The last argument is the place of the call in the turn."""


@dataclass(slots=True)
class AgentTools:
    """Everything that one agent can call in one turn.

    ``near``: the client that began the turn executes the agent's client functions; otherwise any worker that serves
    them does. ``skills``: name and description of each skill; ``count``: number of calls so far; ``others``: the
    agents, by name, to which this agent can hand the conversation over; ``above``: the agents that handed the
    conversation over, nearest last, to which it can be handed back; ``seen_addresses``: see `see`; ``hidden``: tools
    that the model does not see until its search returns them. The model may call hidden tools, because an earlier turn
    may have found them.
    """

    spec: AgentSpec
    path: str
    context: Context
    registry: Registry
    evaluator: Evaluator
    tool_search: ToolSearch
    known_skills: SkillTexts
    steps: TurnSteps
    hold: Callable[[AgentMessage], Awaitable[None]]
    """Counts the size of a result that waits for the results of the other calls."""
    above: tuple[str, ...] = ()
    near: bool = False
    by_name: dict[str, AgentTool] = field(default_factory=dict)
    hidden: dict[str, SearchedTool] = field(default_factory=dict)
    others: dict[str, SubAgent] = field(default_factory=dict)
    skills: tuple[str, ...] = ()
    count: int = 0
    seen_addresses: Container[str] = ()

    async def grasp(self, ask: Ask) -> None:
        """Resolve all names in the agent's specification. Raise `NotFound` or `Forbidden` if the caller cannot use a
        name.
        """
        caller = self.context.caller
        for use in self.spec.tools:
            if use.function is not None:
                about = use.function.description
                self._add(
                    AgentTool(
                        use.name, about, use.function.schema, self._function(use), guarded=not self.near
                    )
                )
                continue
            card = (await self.registry.resolve(f"tool/{use.tool}", caller)).card
            self._add(
                AgentTool(
                    use.name,
                    use.description or card.description,
                    card.input_schema or NO_ARGUMENTS,
                    self._tool(use.tool, is_computed=card.labels.get("computed") is True),
                    guarded=card.labels.get("on_data") in ("ask", "refuse")
                    and card.labels.get("needs_approval") is not True,
                    only_reads=card.labels.get("read_only") is True,
                    composed=card.is_composed,
                )
            )
        if self.spec.finds_tools:
            self.hidden = {
                tool.name: SearchedTool(tool.name, tool.description, tool.schema)
                for tool in self.by_name.values()
            }
            self._add(
                AgentTool(FIND_TOOLS, finding(len(self.hidden)), QUERY_ARGUMENTS, self._find, kind="retrieve")
            )
        for store in self.spec.stores:
            card = (await self.registry.resolve(f"store/{store}", caller)).card
            about = f"Search in the documents of '{store}'. {card.description}".strip()
            self._add(
                AgentTool(search_name(store), about, QUERY_ARGUMENTS, self._search(store), kind="retrieve")
            )
        await self._grasp_skills()
        for sub in self.spec.agents:
            about = sub.spec.description if sub.spec is not None else ""
            if sub.spec is None:
                servable = await self.registry.resolve(sub.name, caller)
                about = servable.card.description
                agent_spec = getattr(servable, "spec", None)
                if isinstance(
                    agent_spec, AgentSpec
                ):  # as part of this agent, a deployed agent keeps its memory in this session
                    sub = replace(sub, spec=agent_spec, near=False)
            if sub.handoff:
                self.others[sub.name] = sub
            description = f"Hand the conversation over to {sub.name}." if sub.handoff else f"Ask {sub.name}."
            self._add(
                AgentTool(
                    agent_name(sub),
                    f"{description} {about}".strip(),
                    _MESSAGE,
                    self._agent(sub, ask),
                    agent=True,
                    handoff=sub.handoff,
                    composed=True,
                )
            )
        for number, name in enumerate(self.above, 1):
            if number == len(self.above) or handoff_name(name) in self.by_name:
                self._add(self._back(name))

    async def _grasp_skills(self) -> None:
        """Add the tool that reads skills. The model calls it when it needs the contents of a skill."""
        if not self.spec.skills:
            return
        skill_texts = [await self.known_skills.about(ref, self.context.caller) for ref in self.spec.skills]
        ids = {skill.name: skill.id for skill in skill_texts}

        async def use(arguments: Mapping[str, Any], _place: str) -> AgentToolResult:
            name = _text(arguments, "skill")
            if name not in ids:
                raise InvalidRequest(
                    f"You have no skill '{name[:80]}'.{nearest(name, ids)} Yours are: {', '.join(ids)}."
                )
            path = arguments.get("path")
            read = await self.known_skills.text(
                ids[name], self.context.caller, path if isinstance(path, str) else None
            )
            return AgentToolResult(read)

        self.skills = tuple(f"{skill.name}: {skill.description}" for skill in skill_texts)
        about = "Read the instructions of a skill, or another of its files that they name."
        self._add(AgentTool(READ_SKILL, about, _skill_schema(list(ids)), use, kind="skill"))

    def _back(self, name: str) -> AgentTool:
        """Return the tool that hands the conversation back to an agent from which it came. Handing it over to that
        agent as to a new one would start over.
        """

        async def use(arguments: Mapping[str, Any], place: str) -> AgentToolResult:
            text = _text(arguments, "message")
            await self.context.emit(HandedOff(name))
            agent_message = AgentMessage(self.spec.name, text, type=HANDED_BACK, receiver=name)
            return AgentToolResult(f"The conversation is with {name}.", handed=agent_message)

        about = f"Hand the conversation back to {name}, when what is asked is no longer your affair."
        return AgentTool(handoff_name(name), about, _MESSAGE, use, agent=True, handoff=True, composed=True)

    def _add(self, tool: AgentTool) -> None:
        self.by_name[tool.name] = tool

    @property
    def visible(self) -> list[AgentTool]:
        """Return the tools that the model sees now."""
        return [tool for tool in self.by_name.values() if tool.name not in self.hidden]

    @property
    def functions(self) -> list[dict[str, Any]]:
        """Return the visible tools in the format of OpenAI's ``tools``."""
        return [tool.function for tool in self.visible]

    def describe(self) -> str:
        """Return a description of the visible tools as text, for models without native function calling."""
        return "\n".join(map(_describe, self.visible))

    async def _find(self, arguments: Mapping[str, Any], place: str) -> AgentToolResult:
        """Return the tools that match a query, described for the model."""
        tools = list(self.hidden.values())
        places = await self.tool_search.best(_text(arguments, "query")[:MAX_QUERY_CHARS], tools, self.context)
        agent_tools = [self.by_name[tools[number].name] for number in places]
        if not agent_tools:
            return AgentToolResult("No further tool fits. Try other words, or do without.")
        if self.spec.strategy in (
            "tools",
            "plan_and_solve",
        ):  # the next model call contains the schemas of these tools
            text = "\n".join(f"- {tool.name}" for tool in agent_tools)
        else:
            text = "\n".join(map(_describe, agent_tools))
        text = f"These tools can be called now:\n{text}"
        return AgentToolResult(text, found=tuple(tool.name for tool in agent_tools))

    def is_guarded(self, calls: Sequence[CalledTool]) -> bool:
        """Return whether foreign data decides whether one of the calls asks or is refused."""
        return any(call.name in self.by_name and self._is_guarded(call) for call in calls)

    def _is_guarded(self, call: CalledTool) -> bool:
        tool = self.by_name[call.name]
        if not (tool.guarded and tool.only_reads):
            return tool.guarded
        try:
            addresses = requested_addresses(arguments_of(call.arguments))
        except InvalidRequest:  # the call will be refused
            return False
        return any(address not in self.seen_addresses for address in addresses)

    def see(self, memory: Iterable[AgentMessage]) -> None:
        """Note the addresses in a memory which the model did not have to invent."""
        self.seen_addresses = seen_addresses(
            memory, {name for name, tool in self.by_name.items() if not tool.composed}
        )

    async def use_all(
        self, calls: Sequence[CalledTool], origins: Sequence[Origins]
    ) -> list[tuple[AgentMessage, AgentToolResult]]:
        """Run the model's calls concurrently. Return the results in the order of the calls. ``origins``: for each call,
        the origins of the data on which it may depend.

        If a call fails, the error becomes its result for the model. If several calls are handoffs, only the first
        takes effect.
        """
        self.count += len(calls)
        handoffs = [n for n, call in enumerate(calls) if self._is_handoff(call)]
        # Places are assigned before any call begins, in the order in which the model wrote the calls, so they
        # do not depend on which call ends first.
        places = [self.steps.place(call.name if call.name in self.by_name else "tool") for call in calls]
        slots = asyncio.Semaphore(MAX_CALLS_AT_ONCE)

        async def use(number: int) -> tuple[AgentMessage, AgentToolResult]:
            async with slots:
                with (
                    ScopedValue(ORIGINS, origins[number]),
                    ScopedValue(SEEN_ADDRESSES, self.seen_addresses),
                    ScopedValue(INPUT_ORIGINS, ()),
                    ScopedValue(MODEL_WROTE_INPUT, True),
                ):
                    return await self._use(calls[number], places[number], second=number in handoffs[1:])

        cut_off: TurnCutOff | None = None
        tasks: list[asyncio.Task[tuple[AgentMessage, AgentToolResult]]] = []
        try:
            async with asyncio.TaskGroup() as group:
                tasks += [group.create_task(use(number)) for number in range(len(calls))]
        except* TurnCutOff as cutoffs:
            cut_off = next(error for error in _leaves(cutoffs) if isinstance(error, TurnCutOff))
        if cut_off is not None:
            raise cut_off
        return [task.result() for task in tasks]

    def _is_handoff(self, call: CalledTool) -> bool:
        tool = self.by_name.get(call.name)
        return tool is not None and tool.handoff

    async def _use(
        self, call: CalledTool, place: str, *, second: bool
    ) -> tuple[AgentMessage, AgentToolResult]:
        is_known = self.steps.is_recorded(
            place
        )  # if so, listeners learnt of the call before the run was interrupted
        if not is_known:
            await self.context.emit(ToolCalled(call.id, call.name, call.arguments))
        if second:
            tool_result = AgentToolResult(
                "The conversation is handed over to one agent at a time.", is_error=True
            )
        else:
            tool_result = await self._call(call, place)
        text = cut(tool_result.text)
        about = {
            "tool_call_id": call.id,
            "tool": call.name,
            "is_error": tool_result.is_error,
            **({"artifacts": list(tool_result.artifacts)} if tool_result.artifacts else {}),
        }
        message = AgentMessage(call.name, text, type=TOOL_RESULT, extra_info=about)
        try:
            message = await self._hooked("after_action", message, place)
            await self.hold(message)
        except PorticoError as error:
            withheld = f"The result is withheld: {error.message}"
            message = replace(message, content=withheld, extra_info={**about, "is_error": True})
            tool_result = replace(tool_result, is_error=True, handed=None)
        message = with_origins(message, join_origins(ORIGINS.get(), tool_result.origins))
        if not is_known:
            await self.context.emit(ToolReturned(call.id, call.name, message.text, tool_result.is_error))
        return message, tool_result

    async def _hooked(self, moment: Moment, message: AgentMessage, place: str) -> AgentMessage:
        at = f"{place}.{moment}"
        return await hooked(self.spec.hooks, moment, message, self.context, self.evaluator, self.steps, at)

    async def _call(self, call: CalledTool, place: str) -> AgentToolResult:
        tool = self.by_name.get(call.name)
        if tool is None:
            tool_names = ", ".join(agent_tool.name for agent_tool in self.visible) or "none"
            return AgentToolResult(
                f"There is no tool '{call.name}'.{nearest(call.name, self.by_name)} Tools are: {tool_names}.",
                is_error=True,
            )
        try:
            arguments = await self._arguments(call, place)
        except PorticoError as error:
            return _failure(call.name, error)
        if tool.agent:
            return await self._agents_turn(tool, arguments, place)

        async def work() -> AgentToolResult:
            try:
                return await self._step(tool, arguments, place)
            except PorticoError as error:
                return _failure(tool.name, error)

        request_document = {"tool": tool.name, "arguments": arguments}
        origins = ORIGINS.get()
        tool_result = await self.steps.once(
            place,
            tool.kind,
            request_document,
            work,
            AgentToolResult.to_json,
            AgentToolResult.recorded,
            shown_request={**request_document, "because_of": origins} if origins else None,
        )
        for name in (tool.name, *tool_result.found):
            self.hidden.pop(name, None)
        return tool_result

    async def _agents_turn(
        self, tool: AgentTool, arguments: Mapping[str, Any], place: str
    ) -> AgentToolResult:
        """Run the turn of another agent. If the run is repeated, the other agent finds its own calls recorded. A
        failed turn has stored nothing, so its error is recorded and the turn is not repeated.
        """
        request_document = {"agent": tool.name, "arguments": arguments}
        before = self.steps.find(place, request_document)
        if before:
            return AgentToolResult.recorded(before)
        started_at, clock = time.time(), time.perf_counter()
        failure: AgentToolResult | None = None
        try:
            tool_result = await tool.use(arguments, place)
        except PorticoError as error:
            tool_result = failure = _failure(tool.name, error)
        if before is None:
            elapsed_ms = (time.perf_counter() - clock) * 1e3
            error_document = failure.to_json() if failure is not None else {}
            await self.steps.record(place, "agent", request_document, error_document, started_at, elapsed_ms)
        return tool_result

    async def _arguments(self, call: CalledTool, place: str) -> Mapping[str, Any]:
        """Return the model's arguments as an object, after the hooks were applied. Raise `InvalidRequest` if the
        arguments are not an object.
        """
        arguments = arguments_of(call.arguments)
        if not any(hook.on == "before_action" for hook in self.spec.hooks):
            return arguments
        action = AgentMessage(
            self.spec.name,
            call.arguments or "{}",
            type=ACTION,
            receiver=call.name,
            extra_info={"name": call.name},
        )
        before = await self._hooked("before_action", action, place)
        return arguments if before.content == action.content else arguments_of(before.text)

    async def _step(self, tool: AgentTool, arguments: Mapping[str, Any], place: str) -> AgentToolResult:
        path = f"{self.path}.{tool.name}" if self.path else tool.name
        await self.context.emit(StepStarted(path))
        started_at = asyncio.get_running_loop().time()
        error: str | None = None
        try:
            tool_result = await tool.use(arguments, place)
        except PorticoError as step_error:
            error = step_error.message
            raise
        finally:
            elapsed_ms = (asyncio.get_running_loop().time() - started_at) * 1e3
            await self.context.emit(StepFinished(path, elapsed_ms, error))
        return tool_result

    def _tool(self, name: str, *, is_computed: bool = False) -> Use:
        async def use(arguments: Mapping[str, Any], place: str) -> AgentToolResult:
            call = ToolCall(arguments, key=self.steps.key(place))
            result = await self.context.call(f"tool/{name}", call)
            assert isinstance(result, ToolResult)
            links = tuple(
                {"name": artifact.name, "media_type": artifact.media_type, "link": artifact.link}
                for artifact in result.artifacts
            )
            link_text = "".join(f"\n[file {link['name']}: {link['link']}]" for link in links)
            origins = () if is_computed else (origin_of_tool(name, arguments.get("url")),)
            return AgentToolResult(result.text + link_text, result.is_error, links, origins=origins)

        return use

    def _function(self, tool: ToolUse) -> Use:
        call_tool = self._tool(tool.tool)

        async def use(arguments: Mapping[str, Any], place: str) -> AgentToolResult:
            if self.near:
                key = self.steps.key(place) if self.steps.durable else ""
                answer = await ask_client(self.spec, tool, arguments, self.context, key)
                return AgentToolResult(answer, origins=(origin_of_tool(tool.name),))
            require_served(self.registry, tool.tool, self.spec.name, self.context.caller)
            return await call_tool(arguments, place)

        return use

    def _search(self, store: str) -> Use:
        async def use(arguments: Mapping[str, Any], place: str) -> AgentToolResult:
            query = _text(arguments, "query")
            search_result = await self.context.call(
                f"store/{store}", Search(query, max_num_results=SEARCH_RESULTS)
            )
            assert isinstance(search_result, SearchResult)
            lines = [
                f"[{passage.rank}] {passage.filename} {passage.place.label()}\n{passage.text}"
                for passage in search_result.passages
            ]
            origins = origins_of_passages(search_result.passages)
            return AgentToolResult("\n\n".join(lines) or "Nothing was found.", origins=origins)

        return use

    def _agent(self, sub: SubAgent, ask: Ask) -> Use:
        async def use(arguments: Mapping[str, Any], place: str) -> AgentToolResult:
            agent_message = AgentMessage(self.spec.name, _text(arguments, "message"), receiver=sub.name)
            reply = await ask(sub, agent_message, place)
            origins = origins_of([reply])
            if reply.type == HANDED_BACK and reply.receiver == self.spec.name:
                text = f"{sub.name} hands the conversation back: {reply.text}"
                return AgentToolResult(text, origins=origins)
            return AgentToolResult(reply.text, handed=reply if sub.handoff else None, origins=origins)

        return use


def _describe(tool: AgentTool) -> str:
    return f"- {tool.name}: {tool.description} Parameters: {orjson.dumps(tool.schema).decode()}"


def _failure(name: str, error: PorticoError) -> AgentToolResult:
    """Return a result that tells the model that a call failed. Raise `TurnCutOff` if the run cannot continue after the
    error.
    """
    if error.code == STEP_CHANGED:
        raise TurnCutOff(error)
    return AgentToolResult(f"'{name}' failed: {error.message}", is_error=True)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """Yield the exceptions in a group and in nested groups."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


_MESSAGE: Final = {
    "type": "object",
    "properties": {
        "message": {"type": "string", "description": "All that it needs to know, in one message."}
    },
    "required": ["message"],
    "additionalProperties": False,
}


def _skill_schema(names: list[str]) -> dict[str, Any]:
    path = "A file in its folder, such as references/FORMS.md (default: SKILL.md)."
    return {
        "type": "object",
        "properties": {
            "skill": {"type": "string", "enum": names},
            "path": {"type": "string", "description": path},
        },
        "required": ["skill"],
        "additionalProperties": False,
    }


def arguments_of(text: str) -> dict[str, Any]:
    """Parse a model's arguments as an object. Raise `InvalidRequest` if they are not a single JSON object."""
    try:
        arguments = orjson.loads(text or "{}")
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"The arguments are not JSON: {error}. Send one JSON object.") from error
    if not isinstance(arguments, dict):
        raise InvalidRequest("The arguments must be one JSON object.")
    return arguments


def _text(arguments: Mapping[str, Any], name: str) -> str:
    argument = arguments.get(name)
    if not isinstance(argument, str) or not argument.strip():
        raise InvalidRequest(f"It needs '{name}', a text.")
    return argument


def search_name(store: str) -> str:
    """Return the name under which a model sees the tool that searches a store."""
    return _callable(f"search_{store}")


def agent_name(sub: SubAgent) -> str:
    """Return the name under which a model sees the tool that calls another agent."""
    return handoff_name(sub.name) if sub.handoff else _callable(sub.name)


def handoff_name(name: str) -> str:
    """Return the name under which a model sees the tool that hands the conversation over to an agent."""
    return _callable(f"transfer_to_{name}")


def _callable(name: str) -> str:
    """Return a name with only characters that a model may use: letters, digits, '_' and '-'."""
    tool_name = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "_" for letter in name
    )
    return tool_name[:64]


def with_unique_ids(calls: Sequence[CalledTool], new: Callable[[], str]) -> tuple[CalledTool, ...]:
    """Return the calls with unique ids. Some models give no ids, or the same id to all calls; such ids are replaced by
    ``new`` ones.
    """
    seen_ids: set[str] = set()
    out: list[CalledTool] = []
    for call in calls:
        if not call.id or call.id in seen_ids:
            call = replace(call, id=new())
        seen_ids.add(call.id)
        out.append(call)
    return tuple(out)


def as_messages_have_them(calls: Sequence[CalledTool]) -> list[dict[str, Any]]:
    """Return tool calls in the format of an ``assistant`` message. Arguments that are not JSON are wrapped in JSON,
    because engines refuse them.
    """
    return [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": _readable(call.arguments)},
        }
        for call in calls
    ]


def _readable(arguments: str) -> str:
    try:
        arguments_of(arguments)
    except InvalidRequest:
        return orjson.dumps({"unreadable": arguments}).decode()
    return arguments or "{}"
