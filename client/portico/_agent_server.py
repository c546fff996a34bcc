"""An agent of the daemon for editors: the Agent Client Protocol (agentclientprotocol.com) over standard streams.

The editor's sessions are sessions of the daemon. If the editor shares its files, the agent gets two functions,
`READ_FILE` and `WRITE_FILE`. The agent reads files as the editor shows them, unsaved changes included. Its writes are
shown as a diff for a person to approve. The tools of MCP servers that the editor passes along are functions, too, and
a person approves each call.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from acp import Agent, RequestError, helpers, run_agent, schema, stdio_streams
from acp.core import DEFAULT_STDIO_BUFFER_LIMIT_BYTES

from portico import __version__
from portico._async.client import AsyncClient
from portico._editor_servers import EditorServers, EditorTool
from portico._editor_transport import EditorTransport
from portico._running import AsyncRunning
from portico.errors import Conflict, Forbidden, InvalidRequest, NotFound, PorticoError, Unauthenticated
from portico.schemas.sessions import Session
from portico.wire import Asked, Cited, Delta, Event, HandedOff, ToolCalled, ToolReturned, Usage

READ_FILE = "read_file"
WRITE_FILE = "write_file"

PROTOCOL_VERSION = 1
"""Supported revision of the protocol."""

NOT_FOUND, INTERNAL = -32002, -32603
"""Error codes of JSON-RPC and of the protocol."""

MAX_LISTED_SESSIONS = 100
"""Maximum number of conversations that an editor can list."""

PERMISSION_TIMEOUT_S = 3_600.0
"""Maximum duration of a call to an editor's function, in seconds: a person may need time to decide."""

_PATH = {"type": "string", "description": "The path of the file, absolute or relative to the project."}

FUNCTIONS = (
    {
        "function": READ_FILE,
        "description": "Read a text file of the project that is open in the editor.",
        "parameters": {"type": "object", "properties": {"path": _PATH}, "required": ["path"]},
        "seconds": PERMISSION_TIMEOUT_S,
    },
    {
        "function": WRITE_FILE,
        "description": "Write a whole text file of the project that is open in the editor. A person is asked first.",
        "parameters": {
            "type": "object",
            "properties": {
                "path": _PATH,
                "content": {"type": "string", "description": "The new text, all of it."},
            },
            "required": ["path", "content"],
        },
        "seconds": PERMISSION_TIMEOUT_S,
    },
)
"""The functions that an agent gets from the editor, in the format of an agent's specification."""

ALLOW, ALLOW_ALWAYS, REJECT = "allow", "allow_always", "reject"

OPTIONS = [
    schema.PermissionOption(option_id=ALLOW, name="Allow", kind="allow_once"),
    schema.PermissionOption(option_id=ALLOW_ALWAYS, name="Always allow in this session", kind="allow_always"),
    schema.PermissionOption(option_id=REJECT, name="Reject", kind="reject_once"),
]


async def find_agent(client: AsyncClient, name: str | None) -> str:
    """Return the agent that answers: ``name``, or the only agent of the daemon.

    Raise `InvalidRequest` that lists the agents if ``name`` is not an agent, or if an agent must be chosen.
    """
    agents = [app.name for app in await client.apps.list() if app.kind == "agent"]
    if name is not None and name not in agents:
        raise InvalidRequest(
            f"'{name}' is not an agent. Available agents: {', '.join(agents) or 'none'}.", param="agent"
        )
    if name is None and len(agents) != 1:
        problem = f"There are several agents: {', '.join(agents)}." if agents else "No agent exists yet."
        raise InvalidRequest(f"{problem} Choose an agent with --agent NAME.", param="agent")
    return name or agents[0]


async def serve(client: AsyncClient, name: str | None) -> None:
    """Serve the protocol on standard input and output until the editor closes the connection."""
    agent = EditorAgent(client, await find_agent(client, name))
    try:
        reader, writer = await stdio_streams(limit=DEFAULT_STDIO_BUFFER_LIMIT_BYTES)
        await run_agent(cast("Agent", agent), EditorTransport(reader, writer))
    finally:
        await agent.close()


@dataclass(slots=True)
class _Conversation:
    """A session that an editor has open."""

    session: Session
    folder: Path
    servers: EditorServers
    always: set[str] = field(default_factory=set)
    """Tools that the person has allowed for the whole session."""

    turn: asyncio.Task[schema.PromptResponse] | None = None
    calls: list[ToolCalled] = field(default_factory=list)
    """Tool calls that, as far as the daemon has reported, have not started, in order."""

    def path(self, path_text: str) -> Path:
        """Return a path within the project. Raise `InvalidRequest` if it is outside the project."""
        path = (self.folder / path_text).resolve()
        if not path.is_relative_to(self.folder):
            raise InvalidRequest(f"'{path_text}' is outside the project {self.folder}.", param="path")
        return path


class EditorAgent:
    """The agent that an editor connects to. The protocol's SDK calls its methods by name."""

    def __init__(self, client: AsyncClient, name: str) -> None:
        self._client = client
        self._name = name
        self._editor: Any = None
        self._files = schema.FileSystemCapabilities()
        self._open: dict[str, _Conversation] = {}

    def on_connect(self, conn: Any) -> None:
        """Keep the editor's side of the connection."""
        self._editor = conn

    async def close(self) -> None:
        """Disconnect from the editor's servers."""
        for conversation in self._open.values():
            await conversation.servers.close()

    async def initialize(
        self,
        protocol_version: int,
        client_capabilities: schema.ClientCapabilities | None = None,
        client_info: schema.Implementation | None = None,
        **_options: Any,
    ) -> schema.InitializeResponse:
        """Agree on a revision of the protocol, and on the capabilities of both sides."""
        self._files = (client_capabilities and client_capabilities.fs) or schema.FileSystemCapabilities()
        return schema.InitializeResponse(
            protocol_version=PROTOCOL_VERSION,
            agent_capabilities=schema.AgentCapabilities(
                load_session=True,
                mcp_capabilities=schema.McpCapabilities(http=True),
                prompt_capabilities=schema.PromptCapabilities(embedded_context=True),
                session_capabilities=schema.SessionCapabilities(
                    list=schema.SessionListCapabilities(), resume=schema.SessionResumeCapabilities()
                ),
            ),
            agent_info=schema.Implementation(name="portico", title=self._name, version=__version__),
        )

    async def new_session(
        self, cwd: str, mcp_servers: Sequence[Any] | None = None, **_options: Any
    ) -> schema.NewSessionResponse:
        """Create a conversation in the daemon, and store the project's folder with it."""
        with _reported():
            session = await self._client.sessions.open(self._name, metadata={"cwd": cwd})
        await self._begin(session, cwd, mcp_servers)
        return schema.NewSessionResponse(session_id=session.id)

    async def load_session(
        self, cwd: str, session_id: str, mcp_servers: Sequence[Any] | None = None, **_options: Any
    ) -> schema.LoadSessionResponse:
        """Continue a conversation and replay its messages."""
        await self._find(session_id, cwd, mcp_servers)
        with _reported():
            rows = await self._client.sessions.messages(session_id, "", limit=None)
        for row in rows:
            content = row.message.get("content")
            if row.message.get("type") is not None or not isinstance(content, str):
                continue
            is_question = row.message.get("sender") == "user"
            update = helpers.update_user_message_text if is_question else helpers.update_agent_message_text
            await self._editor.session_update(session_id, update(content))
        return schema.LoadSessionResponse()

    async def resume_session(
        self, cwd: str, session_id: str, mcp_servers: Sequence[Any] | None = None, **_options: Any
    ) -> schema.ResumeSessionResponse:
        """Continue a conversation whose messages the editor still has."""
        await self._find(session_id, cwd, mcp_servers)
        return schema.ResumeSessionResponse()

    async def list_sessions(
        self, cwd: str | None = None, cursor: str | None = None, **_options: Any
    ) -> schema.ListSessionsResponse:
        """List the conversations with the agent, most recently used first. ``cwd``: only conversations about this
        folder.
        """
        with _reported():
            sessions = await self._client.sessions.list(self._name, limit=MAX_LISTED_SESSIONS)
        rows = [
            schema.SessionInfo(
                session_id=session.id,
                cwd=str(session.metadata.get("cwd") or "/"),
                title=session.title or None,
                updated_at=datetime.fromtimestamp(session.updated_at, UTC).isoformat(),
            )
            for session in sessions
            if cwd is None or session.metadata.get("cwd") == cwd
        ]
        return schema.ListSessionsResponse(sessions=rows)

    async def _find(self, session_id: str, cwd: str, mcp_servers: Sequence[Any] | None) -> None:
        with _reported():
            session = await self._client.sessions.get(session_id)
        if session.app != self._name:
            raise RequestError.invalid_params({"message": f"This conversation belongs to '{session.app}'."})
        await self._begin(session, cwd, mcp_servers)

    async def _begin(self, session: Session, cwd: str, mcp_servers: Sequence[Any] | None) -> None:
        folder = _project(cwd)
        if session.id in self._open:
            await self._open.pop(session.id).servers.close()
        servers = EditorServers(mcp_servers or (), folder)
        self._open[session.id] = _Conversation(session, folder, servers)
        try:
            await servers.tools()
        except InvalidRequest as error:
            raise RequestError.invalid_params({"message": error.message, "param": error.param}) from error

    async def prompt(self, session_id: str, prompt: list[Any], **_options: Any) -> schema.PromptResponse:
        """Run one turn of the agent, and send its events to the editor as updates."""
        conversation = self._open.get(session_id)
        if conversation is None:
            raise RequestError.invalid_params({"message": f"The session '{session_id}' is not open."})
        if conversation.turn is not None:
            raise RequestError.invalid_request(
                {"message": "This session already has a turn in progress: cancel it first."}
            )
        text = "\n\n".join(filter(None, map(_words, prompt)))
        if not text:
            raise RequestError.invalid_params({"message": "The prompt has no text.", "param": "prompt"})
        turn = conversation.turn = asyncio.create_task(self._turn(conversation, text))
        try:
            return await asyncio.shield(turn)
        except asyncio.CancelledError:
            if turn.cancelled():
                return schema.PromptResponse(stop_reason="cancelled")
            turn.cancel()
            raise
        finally:
            conversation.turn = None
            conversation.calls.clear()

    async def cancel(self, session_id: str, **_options: Any) -> None:
        """Stop the current turn of a session."""
        conversation = self._open.get(session_id)
        if conversation is not None and conversation.turn is not None:
            conversation.turn.cancel()

    async def _turn(self, conversation: _Conversation, text: str) -> schema.PromptResponse:
        usage = Usage()
        with _reported():
            running = await self._start(conversation, text)
            try:
                async with asyncio.TaskGroup() as tasks:
                    async for event in running.events():
                        if isinstance(event, Usage):
                            usage = usage + event
                        elif isinstance(event, Asked) and event.kind in ("approval", "input"):
                            tasks.create_task(self._approve(conversation, event))
                        else:
                            await self._show(conversation, event)
            except* PorticoError as errors:
                raise _first(errors) from None
            finally:
                await running.close()
        spent = schema.Usage(
            total_tokens=usage.prompt_tokens + usage.completion_tokens,
            input_tokens=usage.prompt_tokens,
            output_tokens=usage.completion_tokens,
            cached_read_tokens=usage.cached_tokens,
        )
        return schema.PromptResponse(stop_reason="end_turn", usage=spent)

    async def _start(self, conversation: _Conversation, text: str) -> AsyncRunning:
        """Start the agent with the editor's functions, or without them if the key can call the agent but not read
        it.
        """
        editor_tools = await conversation.servers.tools()
        lent_functions = [function for function in FUNCTIONS if self._lends(str(function["function"]))]
        lent_functions += map(_to_function, editor_tools)
        if lent_functions:
            with suppress(Forbidden):
                versions = await self._client.apps.versions(self._name)
                spec = next(dict(app_version.spec) for app_version in versions if app_version.current)
                spec["name"] = spec.get("name") or self._name
                spec["tools"] = [*(spec.get("tools") or ()), *lent_functions]
                functions = {
                    f"{spec['name']}.{READ_FILE}": self._bind(conversation, self._read),
                    f"{spec['name']}.{WRITE_FILE}": self._bind(conversation, self._write),
                    **{
                        f"{spec['name']}.{tool.name}": self._bind(conversation, partial(self._use, tool))
                        for tool in editor_tools
                    },
                }
                session = (self._name, conversation.session.name)
                return self._client.agents.start(spec, text, session=session, functions=functions)
        return self._client.apps.start(self._name, text, session=conversation.session.id)

    def _lends(self, function: str) -> bool:
        return bool(self._files.read_text_file if function == READ_FILE else self._files.write_text_file)

    async def _show(self, conversation: _Conversation, event: Event) -> None:
        update: Any = None
        match event:
            case Delta(text=text):
                update = helpers.update_agent_message_text(text)
            case HandedOff(to=to):
                update = helpers.update_agent_thought_text(f"{to} continues.\n")
            case Cited(passages=passages):
                quoted_thought = "\n".join(
                    f"[{passage.rank}] {passage.filename} {passage.place.label()}".rstrip()
                    for passage in passages
                )
                update = helpers.update_agent_thought_text(f"{quoted_thought}\n")
            case ToolCalled(id=id, name=name, arguments=arguments_text):
                conversation.calls.append(event)
                arguments = _object(arguments_text)
                update = helpers.start_tool_call(
                    id,
                    _title(name, arguments),
                    kind=_kind(name),
                    status="pending",
                    locations=_locations(conversation, arguments)
                    if name in (READ_FILE, WRITE_FILE)
                    else None,
                    raw_input=arguments,
                )
            case ToolReturned(id=id, text=text, is_error=has_failed):
                conversation.calls = [call for call in conversation.calls if call.id != id]
                status: schema.ToolCallStatus = "failed" if has_failed else "completed"
                content = [helpers.tool_content(helpers.text_block(text))]
                # A diff that was shown stays visible. For any other call, show the answer of the tool.
                call_contents = None if event.name == WRITE_FILE and not has_failed else content
                update = helpers.update_tool_call(id, status=status, content=call_contents, raw_output=text)
        if update is not None:
            await self._editor.session_update(conversation.session.id, update)

    async def _approve(self, conversation: _Conversation, question: Asked) -> None:
        """Ask the person to approve a tool of the daemon. A person elsewhere may answer before the editor does."""
        if question.kind == "input":
            line = (
                f"\n{question.message or question.name}\nTo approve: portico approvals approve "
                f"{question.id}\n"
            )
            await self._editor.session_update(
                conversation.session.id, helpers.update_agent_message_text(line)
            )
            return
        call = schema.ToolCallUpdate(
            tool_call_id=self._call_id(conversation, question.name, question.id),
            title=question.message or _title(question.name, question.arguments),
            kind=_kind(question.name),
            status="pending",
            raw_input=dict(question.arguments),
        )
        is_accepted = await self._is_allowed(conversation, question.name, call)
        with suppress(Conflict):
            await self._client.questions.answer(question.id, is_accepted)

    async def _is_allowed(self, conversation: _Conversation, tool: str, call: schema.ToolCallUpdate) -> bool:
        if tool in conversation.always:
            return True
        answer = await self._editor.request_permission(conversation.session.id, call, OPTIONS)
        option_id = getattr(answer.outcome, "option_id", REJECT)
        if option_id == ALLOW_ALWAYS:
            conversation.always.add(tool)
        return option_id in (ALLOW, ALLOW_ALWAYS)

    def _bind(
        self, conversation: _Conversation, function: Callable[..., Awaitable[str]]
    ) -> Callable[..., Awaitable[str]]:
        async def call(**arguments: Any) -> str:
            return await function(conversation, **arguments)

        return call

    def _call_id(self, conversation: _Conversation, name: str, default: str) -> str:
        """Return the id of the pending call with this tool name, and mark it as started; without such a call,
        ``default``.
        """
        for place, call in enumerate(conversation.calls):
            if call.name == name:
                return conversation.calls.pop(place).id
        return default

    async def _read(self, conversation: _Conversation, path: str) -> str:
        self._call_id(conversation, READ_FILE, READ_FILE)
        place = conversation.path(path)
        try:
            answer = await self._editor.read_text_file(conversation.session.id, str(place))
        except RequestError as error:
            raise NotFound(f"The editor cannot read '{path}': {error}.", param="path") from error
        return str(answer.content)

    async def _write(self, conversation: _Conversation, path: str, content: str) -> str:
        call_id = self._call_id(conversation, WRITE_FILE, WRITE_FILE)
        place = conversation.path(path)
        before: str | None = None
        if self._files.read_text_file:
            with suppress(RequestError):  # a new file
                answer = await self._editor.read_text_file(conversation.session.id, str(place))
                before = answer.content
        diff = helpers.tool_diff_content(str(place), content, before)
        call = schema.ToolCallUpdate(
            tool_call_id=call_id,
            title=_title(WRITE_FILE, {"path": path}),
            kind="edit",
            status="pending",
            content=[diff],
            locations=[schema.ToolCallLocation(path=str(place))],
        )
        if not await self._is_allowed(conversation, WRITE_FILE, call):
            raise Forbidden(f"The person does not allow the agent to write '{path}'.")
        await self._editor.session_update(
            conversation.session.id, helpers.update_tool_call(call_id, status="in_progress", content=[diff])
        )
        try:
            await self._editor.write_text_file(conversation.session.id, str(place), content)
        except RequestError as error:
            raise InvalidRequest(f"The editor cannot write '{path}': {error}.", param="path") from error
        return f"'{path}' is written."

    async def _use(self, tool: EditorTool, conversation: _Conversation, **arguments: Any) -> str:
        """Call a tool of the editor's servers if the person allows it."""
        call = schema.ToolCallUpdate(
            tool_call_id=self._call_id(conversation, tool.name, tool.name),
            title=tool.name,
            kind="other",
            status="pending",
            raw_input=arguments,
        )
        if not await self._is_allowed(conversation, tool.name, call):
            raise Forbidden(f"The person does not allow the agent to call '{tool.name}'.")
        return await tool.call(arguments)


def _project(cwd: str) -> Path:
    """Return the folder of a project. Raise `RequestError` if the path is relative."""
    folder = Path(cwd)
    if not folder.is_absolute():
        raise RequestError.invalid_params({"message": f"'{cwd}' must be an absolute path.", "param": "cwd"})
    return folder.resolve()


def _to_function(tool: EditorTool) -> dict[str, object]:
    """Return a tool of the editor's servers in the format of an agent's specification."""
    return {
        "function": tool.name,
        "description": tool.description,
        "parameters": dict(tool.schema),
        "seconds": PERMISSION_TIMEOUT_S,
    }


@contextmanager
def _reported() -> Iterator[None]:
    """Convert errors of the daemon to errors of the protocol."""
    try:
        yield
    except PorticoError as error:
        data = {"message": error.message, "type": error.type, "code": error.code, "param": error.param}
        if isinstance(error, Unauthenticated):
            raise RequestError.auth_required(data) from None
        raise RequestError(
            NOT_FOUND if isinstance(error, NotFound) else INTERNAL, error.message, data
        ) from None


def _first(errors: BaseExceptionGroup[PorticoError]) -> PorticoError:
    first_error = errors.exceptions[0]
    return _first(first_error) if isinstance(first_error, BaseExceptionGroup) else first_error


def _words(block: Any) -> str:
    """Return a part of a prompt as text for the model."""
    match block:
        case schema.TextContentBlock(text=text):
            return text
        case schema.EmbeddedResourceContentBlock(resource=schema.TextResourceContents(uri=uri, text=text)):
            return f"{_place(uri)}:\n```\n{text}\n```"
        case schema.ResourceContentBlock(uri=uri, name=name):
            return f"See {_place(uri) or name}."
    raise RequestError.invalid_params(
        {"message": "Only text and files are accepted; images and audio are not."}
    )


def _place(uri: str) -> str:
    parts = urlsplit(uri)
    return unquote(parts.path) if parts.scheme == "file" else uri


def _object(document_text: str) -> dict[str, Any]:
    try:
        document = json.loads(document_text)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _title(name: str, arguments: Mapping[str, Any]) -> str:
    path = arguments.get("path")
    if name in (READ_FILE, WRITE_FILE) and isinstance(path, str):
        return f"{'Read' if name == READ_FILE else 'Write'} {PurePosixPath(path).name}"
    return name


_KINDS: dict[str, schema.ToolKind] = {
    READ_FILE: "read",
    WRITE_FILE: "edit",
    "search": "search",
    "web_fetch": "fetch",
    "code_interpreter": "execute",
    "python_light": "execute",
}


def _kind(name: str) -> schema.ToolKind:
    return _KINDS.get(name, "other")


def _locations(conversation: _Conversation, arguments: Mapping[str, Any]) -> list[schema.ToolCallLocation]:
    path = arguments.get("path")
    if not isinstance(path, str):
        return []
    return [schema.ToolCallLocation(path=str(conversation.folder / path))]
