"""What an agent can do: tools, searches in stores, other agents; all called in one way, with errors as text."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Final

import orjson

from portico.wire import HandedOff, StepFinished, StepStarted, ToolCalled, ToolReturned
from portico_server.apps.agent.functions import ask_client, require_served
from portico_server.apps.agent.hooks import ACTION, hooked
from portico_server.apps.agent.message import HANDED_BACK, TOOL_RESULT, AgentMessage
from portico_server.apps.agent.spec import AgentSpec, Moment, SubAgent, ToolUse
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, PorticoError, nearest
from portico_server.core.interfaces import Evaluator
from portico_server.core.registry import Registry
from portico_server.core.request import CalledTool, Search, SearchResult, ToolCall, ToolResult
from portico_server.core.skills import SkillTexts
from portico_server.core.tool_search import (
    FIND_TOOLS,
    MAX_QUERY_CHARS,
    QUERY_ARGUMENTS,
    SearchedTool,
    ToolSearch,
    finding,
)
from portico_server.runs.turn_steps import STEP_CHANGED, TurnCutOff, TurnSteps

MAX_RESULT_CHARS: Final = 60_000
"""Characters of a result that a model is shown."""

NO_ARGUMENTS: Final = {"type": "object", "properties": {}}


def cut(text: str) -> str:
    """As much of a result as a model is shown."""
    return text if len(text) <= MAX_RESULT_CHARS else f"{text[:MAX_RESULT_CHARS]}\n[cut off here]"


MAX_CALLS_AT_ONCE: Final = 128
"""Calls of one answer of a model that are done side by side; the others wait."""

READ_SKILL: Final = "read_skill"
"""The tool with which an agent reads its skills."""

MAX_SKILLS: Final = 50
"""Skills of one agent: the model is told of each in every call."""

SEARCH_RESULTS: Final = 5
"""Passages that a search in a store gives an agent."""


@dataclass(frozen=True, slots=True)
class AgentToolResult:
    """What a call gave: text for the model, artifacts for the user; ``handed``: the other agent's word is final."""

    text: str
    is_error: bool = False
    artifacts: tuple[Mapping[str, Any], ...] = ()
    handed: AgentMessage | None = None
    found: tuple[str, ...] = ()
    """The names of tools that a search found."""

    def to_json(self) -> dict[str, Any]:
        """What of it is recorded: as much of the text as a model is shown. What is handed over is never recorded."""
        return {
            "text": cut(self.text),
            "is_error": self.is_error,
            "artifacts": list(self.artifacts),
            **({"found": list(self.found)} if self.found else {}),
        }

    @classmethod
    def recorded(cls, record: Mapping[str, Any]) -> AgentToolResult:
        """From what `to_json` gave."""
        names = tuple(record.get("found", ()))
        return cls(record["text"], record["is_error"], tuple(record["artifacts"]), found=names)


Use = Callable[[Mapping[str, Any], str], Awaitable[AgentToolResult]]
"""(arguments, the place of the call in the turn) → what came of it."""


@dataclass(frozen=True, slots=True)
class AgentTool:
    """One thing that the model may call, under ``name``. An agent reports its turn as a step itself."""

    name: str
    description: str
    schema: Mapping[str, Any]
    use: Use
    agent: bool = False
    handoff: bool = False
    kind: str = "tool"

    @property
    def function(self) -> dict[str, Any]:
        """As OpenAI's ``tools`` has it."""
        return {
            "type": "function",
            "function": {
                "name": self.name,
                "description": self.description,
                "parameters": dict(self.schema),
            },
        }


Ask = Callable[[SubAgent, AgentMessage, str], Awaitable[AgentMessage]]
"""Let another agent answer a message, asked at a place of the turn."""


@dataclass(slots=True)
class AgentTools:
    """What one agent can call in one turn.

    ``near``: the client that began the turn executes the functions that the agent has of it; else whoever serves them.
    ``skills``: name and description of each; ``count``: calls so far; ``others``: the agents that it may hand over to,
    by name; ``above``: those that the conversation was handed over by, the nearest last, who can have it back;
    ``hidden``: tools that the model is not shown before it has found them. It may call them all the same, as it may
    have found them in an earlier turn.
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
    """Counts a result that waits for those of the other calls."""
    above: tuple[str, ...] = ()
    near: bool = False
    by_name: dict[str, AgentTool] = field(default_factory=dict)
    hidden: dict[str, SearchedTool] = field(default_factory=dict)
    others: dict[str, SubAgent] = field(default_factory=dict)
    skills: tuple[str, ...] = ()
    count: int = 0

    async def grasp(self, ask: Ask) -> None:
        """Find everything that the agent names. Raises `NotFound` or `Forbidden` for what the caller may not use."""
        caller = self.context.caller
        for use in self.spec.tools:
            if use.function is not None:
                about = use.function.description
                self._add(AgentTool(use.name, about, use.function.schema, self._function(use)))
                continue
            card = (await self.registry.resolve(f"tool/{use.tool}", caller)).card
            self._add(
                AgentTool(use.name, card.description, card.input_schema or NO_ARGUMENTS, self._tool(use.tool))
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
                if isinstance(agent_spec, AgentSpec):  # a deployed agent: its memory is in our session too
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
                )
            )
        for number, name in enumerate(self.above, 1):
            if number == len(self.above) or handoff_name(name) in self.by_name:
                self._add(self._back(name))

    async def _grasp_skills(self) -> None:
        """Tell the model of the skills; what is in them it reads when it needs them."""
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
        """Giving the conversation back to an agent that it came from, instead of beginning again with that one."""

        async def use(arguments: Mapping[str, Any], place: str) -> AgentToolResult:
            text = _text(arguments, "message")
            await self.context.emit(HandedOff(name))
            agent_message = AgentMessage(self.spec.name, text, type=HANDED_BACK, receiver=name)
            return AgentToolResult(f"The conversation is with {name}.", handed=agent_message)

        about = f"Hand the conversation back to {name}, when what is asked is no longer your affair."
        return AgentTool(handoff_name(name), about, _MESSAGE, use, agent=True, handoff=True)

    def _add(self, tool: AgentTool) -> None:
        self.by_name[tool.name] = tool

    @property
    def shown(self) -> list[AgentTool]:
        """Those that the model is shown now."""
        return [tool for tool in self.by_name.values() if tool.name not in self.hidden]

    @property
    def functions(self) -> list[dict[str, Any]]:
        """What is shown, as OpenAI's ``tools``."""
        return [tool.function for tool in self.shown]

    def described(self) -> str:
        """What is shown as text, for models that know no tools."""
        return "\n".join(map(_described, self.shown))

    async def _find(self, arguments: Mapping[str, Any], place: str) -> AgentToolResult:
        """The tools that a query finds, as the model is told of them."""
        tools = list(self.hidden.values())
        places = await self.tool_search.best(_text(arguments, "query")[:MAX_QUERY_CHARS], tools, self.context)
        agent_tools = [self.by_name[tools[number].name] for number in places]
        if not agent_tools:
            return AgentToolResult("No further tool fits. Try other words, or do without.")
        if self.spec.strategy in (
            "tools",
            "plan_and_solve",
        ):  # with the next call the model is given their schemas
            text = "\n".join(f"- {tool.name}" for tool in agent_tools)
        else:
            text = "\n".join(map(_described, agent_tools))
        text = f"These tools can be called now:\n{text}"
        return AgentToolResult(text, found=tuple(tool.name for tool in agent_tools))

    async def use_all(self, calls: Sequence[CalledTool]) -> list[tuple[AgentMessage, AgentToolResult]]:
        """Do what the model asks for, side by side; the results in the order of the calls.

        Whatever goes wrong is told to the model as the result. Of several handoffs the first one counts.
        """
        self.count += len(calls)
        handoffs = [n for n, call in enumerate(calls) if self._is_handoff(call)]
        # Named before any of them begins: in the order in which the model wrote them, whichever is the first to end.
        places = [self.steps.place(call.name if call.name in self.by_name else "tool") for call in calls]
        slots = asyncio.Semaphore(MAX_CALLS_AT_ONCE)

        async def use(number: int) -> tuple[AgentMessage, AgentToolResult]:
            async with slots:
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
        is_known = self.steps.known(place)  # whoever listens was told of it before the run was cut off
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
        if not is_known:
            await self.context.emit(ToolReturned(call.id, call.name, message.text, tool_result.is_error))
        return message, tool_result

    async def _hooked(self, moment: Moment, message: AgentMessage, place: str) -> AgentMessage:
        at = f"{place}.{moment}"
        return await hooked(self.spec.hooks, moment, message, self.context, self.evaluator, self.steps, at)

    async def _call(self, call: CalledTool, place: str) -> AgentToolResult:
        tool = self.by_name.get(call.name)
        if tool is None:
            tool_names = ", ".join(agent_tool.name for agent_tool in self.shown) or "none"
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
        tool_result = await self.steps.once(
            place, tool.kind, request_document, work, AgentToolResult.to_json, AgentToolResult.recorded
        )
        for name in (tool.name, *tool_result.found):
            self.hidden.pop(name, None)
        return tool_result

    async def _agents_turn(
        self, tool: AgentTool, arguments: Mapping[str, Any], place: str
    ) -> AgentToolResult:
        """The turn of another agent: begun again, it finds its own calls recorded. One that failed has left nothing
        behind, and is not begun again.
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
        """What the model wrote, as an object, after the hooks. Raises `InvalidRequest` if it is none."""
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

    def _tool(self, name: str) -> Use:
        async def use(arguments: Mapping[str, Any], place: str) -> AgentToolResult:
            call = ToolCall(arguments, key=self.steps.key(place))
            result = await self.context.call(f"tool/{name}", call)
            assert isinstance(result, ToolResult)
            links = tuple(
                {"name": artifact.name, "media_type": artifact.media_type, "link": artifact.link}
                for artifact in result.artifacts
            )
            link_text = "".join(f"\n[file {link['name']}: {link['link']}]" for link in links)
            return AgentToolResult(result.text + link_text, result.is_error, links)

        return use

    def _function(self, tool: ToolUse) -> Use:
        call_tool = self._tool(tool.tool)

        async def use(arguments: Mapping[str, Any], place: str) -> AgentToolResult:
            if self.near:
                key = self.steps.key(place) if self.steps.durable else ""
                return AgentToolResult(await ask_client(self.spec, tool, arguments, self.context, key))
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
            return AgentToolResult("\n\n".join(lines) or "Nothing was found.")

        return use

    def _agent(self, sub: SubAgent, ask: Ask) -> Use:
        async def use(arguments: Mapping[str, Any], place: str) -> AgentToolResult:
            agent_message = AgentMessage(self.spec.name, _text(arguments, "message"), receiver=sub.name)
            reply = await ask(sub, agent_message, place)
            if reply.type == HANDED_BACK and reply.receiver == self.spec.name:
                return AgentToolResult(f"{sub.name} hands the conversation back: {reply.text}")
            return AgentToolResult(reply.text, handed=reply if sub.handoff else None)

        return use


def _described(tool: AgentTool) -> str:
    return f"- {tool.name}: {tool.description} Parameters: {orjson.dumps(tool.schema).decode()}"


def _failure(name: str, error: PorticoError) -> AgentToolResult:
    """What a model is told of a call that failed. Raises `TurnCutOff` for one that the run cannot continue after."""
    if error.code == STEP_CHANGED:
        raise TurnCutOff(error)
    return AgentToolResult(f"'{name}' failed: {error.message}", is_error=True)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The exceptions in a group and in those within it."""
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
    """What a model wrote as an object. Raises `InvalidRequest` if it is none."""
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
    """What the search in a store is called by a model."""
    return _callable(f"search_{store}")


def agent_name(sub: SubAgent) -> str:
    """What another agent is called by a model."""
    return handoff_name(sub.name) if sub.handoff else _callable(sub.name)


def handoff_name(name: str) -> str:
    """What handing the conversation to an agent is called by a model."""
    return _callable(f"transfer_to_{name}")


def _callable(name: str) -> str:
    """A name that a model may say: letters, digits, '_' and '-'."""
    tool_name = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "_" for letter in name
    )
    return tool_name[:64]


def with_unique_ids(calls: Sequence[CalledTool], new: Callable[[], str]) -> tuple[CalledTool, ...]:
    """The calls, each with an id of its own, a ``new`` one if need be: some models give none, or one to all."""
    seen_ids: set[str] = set()
    out: list[CalledTool] = []
    for call in calls:
        if not call.id or call.id in seen_ids:
            call = replace(call, id=new())
        seen_ids.add(call.id)
        out.append(call)
    return tuple(out)


def as_messages_have_them(calls: Sequence[CalledTool]) -> list[dict[str, Any]]:
    """Tool calls for an ``assistant`` message. Arguments that are no JSON are put into some: engines refuse others."""
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
