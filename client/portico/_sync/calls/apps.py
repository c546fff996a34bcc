# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.apps`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._request import at, given, named
from portico._sync.group import Group
from portico.schemas.apps import App, AppVersion
from portico.schemas.flows import CheckedSpec


class Apps(Group):
    """What answers a conversation: each store with an app, each flow, each agent."""

    def list(self, *, everyone: bool | None = None) -> Sequence[App]:
        """The apps that the caller may call.

        ``everyone``: For an admin: other keys' deployed apps too, by their ids.
        """
        return self._transport.request("GET", "/api/apps", list[App], query=given(all=everyone))

    def get(self, name: str) -> App:
        """One app."""
        return self._transport.request("GET", at("api", "apps", named(name, "an app")), App)

    def update(
        self,
        name: str,
        changes: Mapping[str, Any] | None = None,
        *,
        limits: Mapping[str, Any] | None = None,
        note: str | None = None,
        expected_version: int | None = None,
    ) -> AppVersion:
        """Change some places of a deployed app, or its limits. Runs and sessions in progress continue.

        ``set``: places in the specification (``outline.system``) and their new values, null to take a field
        away; a new version comes of it, the rest of which is as before. ``limits``: of the app, instead of
        those it has; no version.
        """
        return self._transport.request(
            "PATCH",
            at("api", "apps", named(name, "an app")),
            AppVersion,
            json=given(set=changes, limits=limits, note=note, expected_version=expected_version),
        )

    def drawing(self, name: str, format: str | None = None) -> str:
        """A deployed app as a picture: the text of a Mermaid flowchart, or SVG.

        Whoever may call it and not read its specification sees its steps without their conditions.

        ``format``: ``mermaid`` | ``svg`` (default: ``mermaid``).
        """
        return self._transport.request(
            "GET", at("api", "apps", named(name, "an app"), "drawing"), str, query=given(format=format)
        )

    def versions(self, name: str) -> Sequence[AppVersion]:
        """The versions of a deployed app with their specifications, newest first: of one's own, for an admin of
        any.
        """
        return self._transport.request(
            "GET", at("api", "apps", named(name, "an app"), "versions"), list[AppVersion]
        )

    def roll_back(self, name: str, version: int | None = None) -> AppVersion:
        """Let an earlier version answer again.

        ``version``: which one answers again; by default the one before the current one.
        """
        return self._transport.request(
            "POST",
            at("api", "apps", named(name, "an app"), "rollback"),
            AppVersion,
            json=given(version=version),
        )

    def remove(self, name: str) -> None:
        """Remove a deployed app with all its versions. Runs in progress continue."""
        return self._transport.request("DELETE", at("api", "apps", named(name, "an app")), None)


class Agents(Group):
    """Agents that nobody deployed, as JSON. `portico.agent` composes them."""

    def check(self, spec: Mapping[str, Any]) -> CheckedSpec:
        """Look at a whole agent, and whether all that it names is there, without running it.

        An agent that is looked at and not run.
        """
        return self._transport.request("POST", "/api/agents/check", CheckedSpec, json=given(agent=spec))
