"""Apps and agents: run them through a form made from the input schema, deploy, limit, list versions, roll back."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from textual.content import Content

from portico.cli.limits import format_limits, limits_of
from portico.cli.source import document_of
from portico.errors import InvalidRequest
from portico.schemas.apps import App, AppVersion
from portico_tui.screens.page import AppServices, ListingScreen, SublistScreen, action, row_action
from portico_tui.text import clock, one_line, safe
from portico_tui.widgets.dialogs import Field, Form, Reader
from portico_tui.widgets.run_view import RunView
from portico_tui.widgets.schema_form import Schema, fields_of, json_object, local_path, value_of
from portico_tui.widgets.table_rows import TableColumn

MESSAGE: Schema = {"type": "string", "description": "What to say to it"}
"""The input schema of an app that accepts a conversation."""


def _deployed(app: App) -> bool:
    return app.version > 0


class AppsScreen(ListingScreen[App]):
    """Everything that answers under a name: flows, agents, and the chat apps of stores."""

    MODE = "apps"
    TAB = "Apps"
    COLUMNS = (
        TableColumn[App]("APP", lambda app: app.name, "bold", 30),
        TableColumn[App]("KIND", lambda app: app.kind),
        TableColumn[App]("VERSION", lambda app: app.version or "", sort=lambda app: app.version or None),
        TableColumn[App]("OF", lambda app: "everybody" if app.shared else app.owner or "you", "dim"),
        TableColumn[App]("WHAT", lambda app: app.description or app.title, "dim"),
    )
    EMPTY = (
        "No apps yet.\n\nPress n to deploy a flow or an agent from a file, or add a folder under Documents."
    )

    async def find(self) -> Sequence[App]:
        return await self.client.apps.list()

    def identify(self, item: App) -> str:
        return item.id or item.name

    def detail(self, item: App) -> Iterable[Content | str]:
        yield Content.styled(one_line(item.title or item.name), "bold")
        if item.description:
            yield one_line(item.description)
        fields = fields_of(item.input_schema) if item.input_schema else ()
        yield Content.styled(
            f"takes {', '.join(one_line(field.label) for field in fields) or 'a message'}", "dim"
        )
        if item.limits:
            yield Content.styled(f"held to {', '.join(format_limits(item.limits))}", "dim")

    @row_action("enter,r", "Run", "Run the app with an input")
    async def run_app(self, app: App) -> None:
        schema = MESSAGE if app.kind in ("store", "agent") or app.input_schema is None else app.input_schema
        fields = fields_of(schema)
        answers = await self.ask(Form(f"Run {one_line(app.name)}", *fields)) if fields else {}
        if answers is None:
            return
        value = value_of(schema, answers)
        if app.kind == "store":
            answer = self.client.ask(str(value), app.name)
            self.app.push_screen(RunView(self.client, app.name, answer.events(), answer.close))
        else:
            running = self.client.apps.start(app.name, value)
            self.app.push_screen(RunView(self.client, app.name, running.events(), running.close))

    @row_action("v", "Versions", "Versions of the app: read, compare, roll back", when=_deployed)
    async def versions(self, app: App) -> None:
        self.app.push_screen(AppVersionsScreen(self.services, app))

    @action("n", "Deploy", "Deploy a flow or an agent from a JSON or YAML file")
    async def deploy(self) -> None:
        answers = await self.ask(
            Form(
                "Deploy an app",
                Field("file", "Local file: .json or .yaml", hint="~/story.yaml", check=local_path),
                Field("name", "Name", hint="the name in the file", optional=True),
                Field("note", "What changed · optional", optional=True),
                about="The specification of a flow or an agent. For flows in Python: portico apps deploy "
                "FILE.py:NAME.",
            )
        )
        if answers is None:
            return
        spec = document_of(local_path(answers["file"]))
        if not isinstance(spec, dict):
            raise InvalidRequest(f"{answers['file']} must contain an object.", param="file")
        kind = "flow" if "step" in spec else "agent"
        name = answers["name"] or str(spec.get("name") or "")
        if not name:
            raise InvalidRequest("The app has no name: enter one.", param="name")
        app_version = await self.client.apps.deploy(name, spec, kind=kind, note=answers["note"])
        self.report("Deploy", f"'{app_version.name}' answers with version {app_version.version}.")

    @row_action("e", "Change", "Change single fields in a new version", when=_deployed, footer=False)
    async def change(self, app: App) -> None:
        answers = await self.ask(
            Form(
                f"Change {one_line(app.name)}",
                Field(
                    "changes", "As a JSON object", hint='{"outline.system": "Be brief."}', check=json_object
                ),
                Field("note", "What is new · optional", optional=True),
                about="Names of steps lead to a field; null removes a field.",
            )
        )
        if answers is not None:
            app_version = await self.client.apps.update(
                app.name, json_object(answers["changes"]), note=answers["note"]
            )
            self.report("Change", f"'{app_version.name}' is now at version {app_version.version}.")

    @row_action("l", "Limits", "Set the limits of the app for all callers", when=_deployed, footer=False)
    async def limit(self, app: App) -> None:
        limit_text = " ".join(format_limits(app.limits))
        answers = await self.ask(
            Form(
                f"Limits of {one_line(app.name)}",
                Field(
                    "limits", "NAME=NUMBER, separated by spaces; empty: no limits", limit_text, optional=True
                ),
                about="concurrency, requests_per_minute, tokens_per_minute, tokens_per_day",
            )
        )
        if answers is not None:
            await self.client.apps.limit(app.name, limits_of(answers["limits"].split()))

    @row_action("w", "Drawing", "Show the app as a Mermaid flowchart", when=_deployed, footer=False)
    async def draw_app(self, app: App) -> None:
        drawing = await self.client.apps.drawing(app.name)
        self.app.push_screen(Reader(f"{one_line(app.name)} as Mermaid", safe(drawing)))

    @row_action("d", "Remove", "Remove the app with all its versions", when=_deployed)
    async def remove_app(self, app: App) -> None:
        if await self.sure(f"Remove '{one_line(app.name)}' with all its versions?", "Remove"):
            await self.client.apps.remove(app.name)


class AppVersionsScreen(SublistScreen[AppVersion]):
    """The versions of an app, newest first."""

    MODE = "apps"
    TAB = "Apps"
    COLUMNS = (
        TableColumn[AppVersion](
            "VERSION", lambda version: version.version, "bold", sort=lambda version: version.version
        ),
        TableColumn[AppVersion]("ANSWERS", lambda version: "●" if version.current else "", "green"),
        TableColumn[AppVersion](
            "SINCE", lambda version: clock(version.created_at), "dim", sort=lambda version: version.created_at
        ),
        TableColumn[AppVersion]("BY", lambda version: version.created_by),
        TableColumn[AppVersion]("NOTE", lambda version: version.note),
    )
    EMPTY = "No versions."

    def __init__(self, services: AppServices, app: App) -> None:
        super().__init__(services, f"Versions of {app.name}")
        self._app_name = app.name

    async def find(self) -> Sequence[AppVersion]:
        return await self.client.apps.versions(self._app_name)

    def identify(self, item: AppVersion) -> str:
        return str(item.version)

    @row_action("enter", "Read", "Read the specification of the version")
    async def read(self, version: AppVersion) -> None:
        self.app.push_screen(
            Reader(f"{one_line(self._app_name)}, version {version.version}", safe(_to_yaml(version.spec)))
        )

    @row_action(
        "c",
        "Compare",
        "Compare the version with the current one",
        when=lambda version: not version.current,
    )
    async def compare(self, version: AppVersion) -> None:
        current = next(app_version for app_version in self.items.values() if app_version.current)
        lines = difflib.unified_diff(
            _to_yaml(version.spec).splitlines(),
            _to_yaml(current.spec).splitlines(),
            f"version {version.version}",
            f"version {current.version} (current)",
            lineterm="",
        )
        self.app.push_screen(Reader(one_line(self._app_name), safe("\n".join(lines)) or "No differences."))

    @row_action("b", "Roll back", "Make the version answer again", when=lambda version: not version.current)
    async def roll_back(self, version: AppVersion) -> None:
        if await self.sure(f"Make version {version.version} answer again?", "Roll back"):
            await self.client.apps.roll_back(self._app_name, version.version)


def _to_yaml(spec: Any) -> str:
    return json.dumps(spec, ensure_ascii=False, indent=2)
