"""Tools, which can be called through a form, and their sources: MCP servers, commands, functions, APIs, databases."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from textual.content import Content

from portico.cli.pairs import pairs
from portico.schemas.mcp_servers import McpCard, McpServer
from portico.schemas.tools import Tool, ToolSource
from portico_tui.screens.page import ListingScreen, action, row_action
from portico_tui.text import clock, one_line, safe, source_state
from portico_tui.widgets.dialogs import Choose, Field, Form, Reader
from portico_tui.widgets.run_view import RunView
from portico_tui.widgets.schema_form import fields_of, json_object, reader, value_of
from portico_tui.widgets.table_rows import TableColumn

MAX_LOG_LINES = 500
"""Maximum number of lines to read from an MCP server's log."""

KINDS = ("command", "function", "openapi", "database")
"""Kinds of tool sources, except MCP servers."""

ABOUT = {
    "command": "A program on the daemon's machine; {word} is replaced by an argument. Example: grep -rn {pattern} "
    "/srv",
    "function": "A Python function on the daemon's machine, as module:function.",
    "openapi": "The address of an OpenAPI document; its operations become tools.",
    "database": "The address of a database, such as sqlite:////srv/sales.db; it is opened read-only.",
}


def command_line(text: str) -> list[str]:
    """Split a command into words as a shell does. Raises `ValueError`."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{error} (parsed as in a shell).") from None


class ToolsScreen(ListingScreen[Tool]):
    """The tools that models can call."""

    MODE = "tools"
    TAB = "Tools"
    COLUMNS = (
        TableColumn[Tool]("TOOL", lambda tool: tool.name, "bold", 32),
        TableColumn[Tool]("FROM", lambda tool: tool.source, "dim", 24),
        TableColumn[Tool]("GROUP", lambda tool: tool.group, "", 18),
        TableColumn[Tool]("DOES", lambda tool: _does(tool)),
        TableColumn[Tool]("WHAT", lambda tool: tool.description, "dim"),
    )
    EMPTY = "No tools are available to this key."

    async def find(self) -> Sequence[Tool]:
        return await self.client.tools.list()

    def detail(self, item: Tool) -> Iterable[Content | str]:
        yield Content.styled(one_line(item.title or item.name), "bold")
        yield safe(item.description)
        yield Content.styled(safe(json.dumps(item.input_schema, ensure_ascii=False, indent=2)), "dim")

    @row_action("enter,c", "Call", "Call the tool with arguments")
    async def call(self, tool: Tool) -> None:
        fields = fields_of(tool.input_schema)
        answers = await self.ask(
            Form(f"Call {one_line(tool.name)}", *fields, about=one_line(tool.description))
        )
        if answers is None:
            return
        run = await self.client.tools.start(tool.name, value_of(tool.input_schema, answers))

        async def cancel() -> None:
            if not (await self.client.runs.get(run)).ended:
                await self.client.runs.cancel(run)

        self.app.push_screen(RunView(self.client, tool.name, self.daemon.events(run), cancel))


def _does(tool: Tool) -> str:
    signs = {"reads": tool.read_only, "destroys": tool.destructive, "asks first": tool.needs_approval}
    return ", ".join(word for word, holds in signs.items() if holds)


@dataclass(frozen=True, slots=True)
class Origin:
    """An MCP server or another source of tools, as a row."""

    name: str
    kind: str
    what: str
    state: str
    tools: tuple[str, ...]
    error: str
    configured: bool
    restarts: int = 0
    card: McpCard = McpCard()
    reached_at: float | None = None

    @property
    def is_server(self) -> bool:
        """Return whether the origin is an MCP server."""
        return self.kind == "mcp"


def _of_server(server: McpServer) -> Origin:
    location = server.url or shlex.join(server.command)
    error = server.error or ""
    return Origin(
        server.name,
        "mcp",
        location,
        server.state,
        server.tools,
        error,
        server.configured,
        server.restarts,
        server.card,
        server.reached_at,
    )


def _of_source(source: ToolSource) -> Origin:
    error = source.error or source.warning
    return Origin(source.name, source.kind, source.what, source.state, source.tools, error, source.configured)


class OriginsScreen(ListingScreen[Origin]):
    """The external MCP servers, and the tools that were added."""

    MODE = "origins"
    TAB = "MCP servers"
    COLUMNS = (
        TableColumn[Origin]("NAME", lambda origin: origin.name, "bold", 24),
        TableColumn[Origin]("KIND", lambda origin: origin.kind),
        TableColumn[Origin]("STATE", lambda origin: source_state(origin.state)),
        TableColumn[Origin]("TOOLS", lambda origin: len(origin.tools), sort=lambda origin: len(origin.tools)),
        TableColumn[Origin]("WHAT", lambda origin: origin.what, "dim"),
    )
    EMPTY = "No sources yet.\n\nPress a for an MCP server, t for a command, a function, an API or a database."

    async def find(self) -> Sequence[Origin]:
        servers = await self.client.mcp.list()
        sources = await self.client.tools.sources()
        return [*map(_of_server, servers), *map(_of_source, sources)]

    def identify(self, item: Origin) -> str:
        return f"{item.kind} {item.name}"

    def detail(self, item: Origin) -> Iterable[Content | str]:
        if item.error:
            yield Content.styled(one_line(item.error), "$text-error")
        yield one_line(", ".join(item.tools) or "It provides no tools.")
        card = item.card
        if card.protocol:
            server_text = (
                f"{card.title} {card.version} · MCP {card.protocol} · {', '.join(card.capabilities)}"
            )
            yield Content.styled(one_line(server_text), "dim")
            yield safe(card.instructions)
        facts = [f"reached {clock(item.reached_at)}"] if item.reached_at else []
        facts += [f"restarted {item.restarts} times"] if item.restarts else []
        facts += ["from the configuration"] if item.configured else []
        if facts:
            yield Content.styled(" · ".join(facts), "dim")

    @action("a", "Add MCP", "Add an MCP server: a command to start, or an address to connect to")
    async def add_server(self) -> None:
        answers = await self.ask(
            Form(
                "Add an MCP server",
                Field("name", "Name", hint="files"),
                Field(
                    "target",
                    "Command, or an address",
                    hint="npx -y @modelcontextprotocol/server-filesystem /srv",
                    check=command_line,
                ),
                Field(
                    "env",
                    "Environment of a command, NAME=VALUE separated by spaces · optional",
                    optional=True,
                    check=command_line,
                ),
                Field(
                    "headers",
                    "Headers for an address, as JSON · optional",
                    optional=True,
                    check=json_object,
                ),
            )
        )
        if answers is None:
            return
        target = answers["target"]
        options: dict[str, Any] = {}
        if answers["env"]:
            options["env"] = pairs(command_line(answers["env"]), "env")
        if answers["headers"]:
            options["headers"] = json_object(answers["headers"])
        if target.startswith(("http://", "https://")):
            mcp_server = await self.client.mcp.add(answers["name"], url=target, **options)
        else:
            mcp_server = await self.client.mcp.add(answers["name"], command_line(target), **options)
        self.report(
            "MCP server",
            f"'{mcp_server.name}' is {mcp_server.state}; it provides {len(mcp_server.tools)} tools.",
        )

    @action("t", "Add tool", "Add a command, a function, an API or a database as a tool")
    async def add_tool(self) -> None:
        place = await self.app.push_screen_wait(Choose("What kind of tool?", KINDS))
        if place is None:
            return
        kind = KINDS[place]
        answers = await self.ask(
            Form(
                f"Add a tool: {kind}",
                Field("name", "Name"),
                Field("what", kind.capitalize(), check=command_line if kind == "command" else None),
                Field("description", "Purpose · optional", optional=True),
                Field(
                    "approval",
                    "Ask before each call · optional",
                    optional=True,
                    choices=("always", "never"),
                    check=reader({"type": "string", "enum": ["always", "never"]}),
                ),
                about=ABOUT[kind],
            )
        )
        if answers is None:
            return
        optional_fields = {name: answers[name] for name in ("description", "approval") if answers[name]}
        target = command_line(answers["what"]) if kind == "command" else answers["what"]
        tool_source = await self.client.tools.add(answers["name"], **{kind: target}, **optional_fields)
        self.report("Tool", f"'{tool_source.name}' gives {len(tool_source.tools)} tools.")

    @row_action("r", "Restart", "Restart the MCP server", when=lambda origin: origin.is_server)
    async def restart(self, origin: Origin) -> None:
        await self.client.mcp.restart(origin.name)

    @row_action("g", "Logs", "Standard error of the MCP server", when=lambda origin: origin.is_server)
    async def logs(self, origin: Origin) -> None:
        lines = await self.client.mcp.logs(origin.name, MAX_LOG_LINES)
        text = "\n".join(map(one_line, lines)) or "The server has not written anything yet."
        self.app.push_screen(Reader(f"Logs of {one_line(origin.name)}", text, from_end=True))

    @row_action("d", "Remove", "Remove the source with its tools")
    async def remove_origin(self, origin: Origin) -> None:
        if await self.sure(f"Remove '{one_line(origin.name)}' and its {len(origin.tools)} tools?", "Remove"):
            remove = self.client.mcp.remove if origin.is_server else self.client.tools.remove
            await remove(origin.name)
