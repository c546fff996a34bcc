"""Keys, usage, settings, and logs of engines and MCP servers."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from portico.cli.limits import format_limits, limits_of
from portico.cli.render import dollars
from portico.errors import Forbidden, NotFound
from portico.schemas.daemon import Setting
from portico.schemas.keys import Key
from portico_tui.screens.page import AppServices, ListingScreen, action, row_action
from portico_tui.text import cell, clock, model_state, one_line, source_state
from portico_tui.widgets.dialogs import Choose, Field, Form, Reader
from portico_tui.widgets.schema_form import json_object
from portico_tui.widgets.table_rows import TableColumn

SCOPES = (
    "admin, chat, models:read, stores:NAME:read (write, manage), apps:NAME:call, tools:NAME:call, finetune"
)


class KeysScreen(ListingScreen[Key]):
    """The keys that can call the daemon, and their permissions."""

    MODE = "keys"
    TAB = "Keys"
    COLUMNS = (
        TableColumn[Key]("NAME", lambda key: key.name, "bold", 24),
        TableColumn[Key]("SCOPES", lambda key: key.scopes),
        TableColumn[Key]("LIMITS", lambda key: format_limits(key.limits)),
        TableColumn[Key]("MADE", lambda key: clock(key.created_at), "dim", sort=lambda key: key.created_at),
        TableColumn[Key]("KEY", lambda key: key.hint, "dim"),
    )
    EMPTY = "No keys exist: the daemon answers everybody on its machine.\n\nPress n to create a key."

    async def find(self) -> Sequence[Key]:
        return await self.client.keys.list()

    def detail(self, item: Key) -> Iterable[Content | str]:
        if item.filters:
            yield Content.styled("Can read only matching files of stores", "dim")
            yield one_line(json.dumps(item.filters, ensure_ascii=False))

    @action("n", "New", "Create a key; it is shown once")
    async def new(self) -> None:
        answers = await self.ask(
            Form(
                "Make a key",
                Field("name", "Owner of the key", hint="phone"),
                Field("scopes", "What it can do, separated by spaces", hint="chat stores:docs:read"),
                Field("limits", "Limits, NAME=NUMBER separated by spaces · optional", optional=True),
                Field(
                    "filters",
                    "Store filters, as a JSON object · optional",
                    optional=True,
                    check=json_object,
                ),
                about=f"Scopes: {SCOPES}; * for any name.",
            )
        )
        if answers is None:
            return
        key = await self.client.keys.add(
            answers["name"],
            answers["scopes"].replace(",", " ").split(),
            limits=limits_of(answers["limits"].split()) or None,
            filters=json_object(answers["filters"]) if answers["filters"] else None,
        )
        text = f"{key.key}\n\nThe key is shown only this once. Press y to copy it."
        self.app.push_screen(Reader(f"The key '{one_line(key.name)}'", text, copied_text=key.key))

    @row_action("e", "Rights", "Change what the key can do, read and use, effective immediately")
    async def change(self, key: Key) -> None:
        answers = await self.ask(
            Form(
                f"What '{one_line(key.name)}' can do",
                Field("scopes", "Scopes, separated by spaces", " ".join(key.scopes)),
                Field(
                    "filters",
                    "Store filters, as a JSON object · optional",
                    json.dumps(key.filters, ensure_ascii=False) if key.filters else "",
                    optional=True,
                    check=json_object,
                ),
                Field(
                    "limits",
                    "Limits, NAME=NUMBER separated by spaces · optional",
                    " ".join(format_limits(key.limits)),
                    optional=True,
                ),
                about=f"Scopes: {SCOPES}; * for any name. If the key's permissions shrink, its running work is "
                "stopped.",
            )
        )
        if answers is None:
            return
        scopes = answers["scopes"].replace(",", " ").split()
        filters = json_object(answers["filters"]) if answers["filters"] else {}
        limits = limits_of(answers["limits"].split())
        await self.client.keys.update(key.id, scopes=scopes, filters=filters, limits=limits)

    @row_action("d", "Revoke", "Revoke the key immediately")
    async def revoke(self, key: Key) -> None:
        if await self.sure(f"Revoke the key '{one_line(key.name)}' immediately?", "Revoke"):
            await self.client.keys.revoke(key.id)


@dataclass(frozen=True, slots=True)
class Used:
    """The usage of one name with one operation, answered by one model."""

    name: str
    operation: str
    model: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    milliseconds: float

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Used:
        """Create the usage from a row that the daemon returned. The row may have additional fields."""
        return cls(**{name: row.get(name) for name in cls.__slots__})  # type: ignore[arg-type]


PERIODS = {"hour": 3600.0, "day": 86_400.0, "week": 604_800.0, "month": 2_592_000.0, "all": 0.0}
"""Length of each period in seconds, keyed by its name; 0 means since the beginning."""


class UsageScreen(ListingScreen[Used]):
    """The calls, tokens and cost of a period, listed by name."""

    MODE = "usage"
    TAB = "Usage"
    COLUMNS = (
        TableColumn[Used]("NAME", lambda row: row.name, "bold", 32),
        TableColumn[Used]("ANSWERED BY", lambda row: row.model or ""),
        TableColumn[Used]("OPERATION", lambda row: row.operation),
        TableColumn[Used]("CALLS", lambda row: f"{row.calls:,}", sort=lambda row: row.calls),
        TableColumn[Used](
            "TOKENS IN", lambda row: f"{row.prompt_tokens or 0:,}", sort=lambda row: row.prompt_tokens
        ),
        TableColumn[Used](
            "OUT", lambda row: f"{row.completion_tokens or 0:,}", sort=lambda row: row.completion_tokens
        ),
        TableColumn[Used](
            "MEAN", lambda row: f"{row.milliseconds:,.0f} ms", sort=lambda row: row.milliseconds
        ),
        TableColumn[Used](
            "COST", lambda row: "" if row.cost is None else dollars(row.cost), sort=lambda row: row.cost
        ),
    )
    EMPTY = "No usage in this period."

    def __init__(self, services: AppServices) -> None:
        super().__init__(services)
        self._period = "day"

    async def find(self) -> Sequence[Used]:
        length = PERIODS[self._period]
        rows = await self.client.usage(time.time() - length if length else None)
        return [Used.of(row) for row in rows]

    def identify(self, item: Used) -> str:
        return f"{item.operation} {item.name} {item.model or ''}"

    def notes(self) -> Iterable[Content | str]:
        rows = self.items.values()
        costs = [row.cost for row in rows if row.cost is not None]
        period = "since the beginning" if self._period == "all" else f"in the last {self._period}"
        tokens = sum((row.prompt_tokens or 0) + (row.completion_tokens or 0) for row in rows)
        total = f"{sum(row.calls for row in rows):,} calls, {tokens:,} tokens {period}"
        yield Content.styled(total + (f", {dollars(sum(costs))}" if costs else ""), "bold")

    @action("p", "Period", "Choose another period")
    async def period(self) -> None:
        names = list(PERIODS)
        place = await self.app.push_screen_wait(Choose("Usage of the last", names, names.index(self._period)))
        if place is not None:
            self._period = names[place]


@dataclass(frozen=True, slots=True)
class LogSource:
    """A source of log lines: the engine of a model, or an MCP server."""

    name: str
    kind: str
    state: str


MAX_LOG_LINES = 200
"""Maximum number of log lines to show."""


class LogsScreen(ListingScreen[LogSource]):
    """The logs of engines and MCP servers, updated live."""

    MODE = "logs"
    TAB = "Logs"
    LOOK_INTERVAL_S = 1.0
    COLUMNS = (
        TableColumn[LogSource]("NAME", lambda source: source.name, "bold", 32),
        TableColumn[LogSource]("KIND", lambda source: source.kind),
        TableColumn[LogSource](
            "STATE", lambda source: (model_state if source.kind == "model" else source_state)(source.state)
        ),
    )
    EMPTY = "No models or MCP servers write logs."

    def more(self) -> ComposeResult:
        with VerticalScroll(id="log"):
            yield Static(id="lines", markup=False)

    def on_mount(self) -> None:
        self.query_one("#log", VerticalScroll).anchor()

    async def find(self) -> Sequence[LogSource]:
        models = await self.client.deployments.list()
        log_sources = [LogSource(deployment.name, "model", deployment.state) for deployment in models]
        with suppress(Forbidden):
            servers = await self.client.mcp.list()
            log_sources += [LogSource(mcp_server.name, "mcp", mcp_server.state) for mcp_server in servers]
        await self._read(self.chosen or next(iter(log_sources), None))
        return log_sources

    def identify(self, item: LogSource) -> str:
        return f"{item.kind} {item.name}"

    def chose(self) -> None:
        log_source = self.chosen
        if log_source is not None and log_source != self._shown_source:
            self.look()

    _shown_source: LogSource | None = None

    async def _read(self, writer: LogSource | None) -> None:
        if writer is None:
            return
        logs = self.client.deployments.logs if writer.kind == "model" else self.client.mcp.logs
        try:
            lines = await logs(writer.name, MAX_LOG_LINES)
        except NotFound:  # removed meanwhile
            lines = ()
        if self.query("#lines"):
            self._shown_source = writer
            text = (
                "\n".join(map(one_line, lines)) or f"'{one_line(writer.name)}' has not written anything yet."
            )
            self.query_one("#lines", Static).update(Content(text))


class SettingsScreen(ListingScreen[Setting]):
    """Every setting of the daemon, and where its value is set."""

    MODE = "settings"
    TAB = "Settings"
    LOOK_INTERVAL_S = 10.0
    COLUMNS = (
        TableColumn[Setting]("SETTING", lambda setting: setting.name, "bold", 32),
        TableColumn[Setting]("VALUE", lambda setting: json.dumps(setting.value, ensure_ascii=False), "", 32),
        TableColumn[Setting](
            "FROM", lambda setting: cell(setting.origin, "dim" if setting.origin == "default" else "green")
        ),
    )
    EMPTY = "No settings."

    async def find(self) -> Sequence[Setting]:
        return await self.client.settings()

    def identify(self, item: Setting) -> str:
        return item.name

    def detail(self, item: Setting) -> Iterable[Content | str]:
        yield one_line(item.doc)
