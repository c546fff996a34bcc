# Generated from portico._async by scripts/sdk: change it there.
"""Calls of `portico.schemas.apps`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from portico._request import at, check_path_name, without_none
from portico._sync.group import Group
from portico.schemas.apps import App, AppVersion
from portico.schemas.flows import CheckedSpec


class Apps(Group):
    """Everything that can answer a conversation: each store with an app, each flow, each agent."""

    def list(self, *, everyone: bool | None = None) -> Sequence[App]:
        """List the apps that the caller may call.

        ``everyone``: For admins: include the deployed apps of other keys, listed by id.
        """
        return self._transport.request("GET", "/api/apps", list[App], query=without_none(all=everyone))

    def get(self, name: str) -> App:
        """Return an app."""
        return self._transport.request("GET", at("api", "apps", check_path_name(name, "an app")), App)

    def update(
        self,
        name: str,
        changes: Mapping[str, Any] | None = None,
        *,
        limits: Mapping[str, Any] | None = None,
        note: str | None = None,
        expected_version: int | None = None,
    ) -> AppVersion:
        """Change parts of a deployed app, or its limits. Runs and sessions in progress continue.

        A change to an app. ``set`` maps paths in the specification (``outline.system``) to new values; null
        removes a field.

        The result is a new version; all other fields stay unchanged. ``limits`` replace the app's limits and
        create no version.
        """
        return self._transport.request(
            "PATCH",
            at("api", "apps", check_path_name(name, "an app")),
            AppVersion,
            json=without_none(set=changes, limits=limits, note=note, expected_version=expected_version),
        )

    def drawing(self, name: str, format: str | None = None) -> str:
        """Draw a deployed app as the text of a Mermaid flowchart, or as SVG.

        Callers that may call the app but not read its specification see the app's steps without their
        conditions.

        ``format``: ``mermaid`` | ``svg`` (default: ``mermaid``).
        """
        return self._transport.request(
            "GET",
            at("api", "apps", check_path_name(name, "an app"), "drawing"),
            str,
            query=without_none(format=format),
        )

    def versions(self, name: str) -> Sequence[AppVersion]:
        """List the versions of a deployed app with their specifications, newest first. An admin can list the
        versions of any app, other callers only of their own apps.
        """
        return self._transport.request(
            "GET", at("api", "apps", check_path_name(name, "an app"), "versions"), list[AppVersion]
        )

    def roll_back(self, name: str, version: int | None = None) -> AppVersion:
        """Restore an earlier version.

        The version to restore; by default the version before the current one.
        """
        return self._transport.request(
            "POST",
            at("api", "apps", check_path_name(name, "an app"), "rollback"),
            AppVersion,
            json=without_none(version=version),
        )

    def remove(self, name: str) -> None:
        """Remove a deployed app and all its versions. Runs in progress continue."""
        return self._transport.request("DELETE", at("api", "apps", check_path_name(name, "an app")), None)


class Agents(Group):
    """Undeployed agents, as JSON. `portico.agent` builds them."""

    def check(self, spec: Mapping[str, Any]) -> CheckedSpec:
        """Check an agent and that everything it names exists, without running the agent.

        An agent to check without running it.
        """
        return self._transport.request(
            "POST", "/api/agents/check", CheckedSpec, json=without_none(agent=spec)
        )
