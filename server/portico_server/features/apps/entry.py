"""Apps in the ``apps`` and ``agents`` of a configuration file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from portico._document import explain, load
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.core.json_values import JsonObject
from portico_server.core.limits import UsageLimits
from portico_server.core.names import check_name

PARSERS: Mapping[str, str] = {
    "flow": "portico_server.features.flows.read:flow",
    "agent": "portico_server.features.agents.read:agent",
}
"""The function that parses the specifications of each kind of app. The first entry of a kind imports it."""

OVER = ("title", "description", "durability", "timeout")
"""Fields that an entry may contain next to a flow. They override the flow's own fields."""


@dataclass(frozen=True, slots=True)
class AppEntry:
    """An app to deploy. If ``limits`` is ``None``, the app keeps its current limits."""

    name: str
    kind: str
    spec: Mapping[str, Any]
    limits: UsageLimits | None = None


def app_of(item: Mapping[str, Any], at: str, folder: Path) -> AppEntry:
    """Parse an entry of ``apps``: a ``flow``, a ``team``, an ``agent``, or a ``file`` in ``folder`` that contains a
    flow or an agent.

    Raise `InvalidRequest` with the location of an error. Models, stores and tools are not checked.
    """
    fields = JsonObject(item, at)
    name = fields.text("name")
    flow, agent, file = fields.mapping("flow"), fields.mapping("agent"), fields.text("file")
    team = fields.mapping("team")
    over = {key: fields.raw(key) for key in OVER}
    limits = fields.mapping("limits")
    fields.check_unread()
    if sum(1 for value in (flow, agent, file, team) if value) != 1:
        raise InvalidRequest(f"{at} needs one of 'flow', 'team', 'agent' and 'file'.", param=at)
    if team is not None:
        from portico_server.features.flows.teams import team_flow

        flow = team_flow(team, name, f"{at}.team")
    spec = dict(flow or agent or _document(file, folder, f"{at}.file"))
    if agent is not None or "portico_agent" in spec:
        return _check(name, "agent", _versioned(spec, "portico_agent"), limits, at)
    spec = _versioned(spec, "portico_flow") | {key: value for key, value in over.items() if value is not None}
    return _check(name, "flow", spec, limits, at)


def agent_of(item: Mapping[str, Any], at: str, folder: Path) -> AppEntry:
    """Parse an entry of ``agents``: the agent itself, or a ``file`` that contains an agent."""
    spec = dict(item)
    file = spec.pop("file", None)
    if file is not None:
        if not isinstance(file, str) or set(spec) != {"name"}:
            raise InvalidRequest(f"{at}: only 'name' is allowed next to 'file'.", param=f"{at}.file")
        spec = {**_document(file, folder, f"{at}.file"), **spec}
    return _check(str(item.get("name")), "agent", _versioned(spec, "portico_agent"), None, at)


def _versioned(spec: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a specification with its version under ``key``; without a version, version 1 applies."""
    return {key: 1, **spec}


def _check(name: str, kind: str, spec: dict[str, Any], limits: Mapping[str, Any] | None, at: str) -> AppEntry:
    check_name(name, "an app")
    try:
        resolve_name(PARSERS[kind])({**spec, "name": name})
    except InvalidRequest as error:
        raise InvalidRequest(
            f"{at}: {error.message}", code=error.code, param=f"{at}.{error.param}" if error.param else at
        ) from error
    usage_limits = None if limits is None else UsageLimits.parse(limits, f"{at}.limits")
    return AppEntry(name, kind, {"name": name, **spec}, usage_limits)


def _document(file: str, folder: Path, at: str) -> dict[str, Any]:
    import yaml  # imported only if an entry names a file

    path = (folder / Path(file).expanduser()).resolve()
    try:
        text = path.read_text(encoding="utf-8-sig")
        document = json.loads(text) if path.suffix.lower() == ".json" else load(text)
    except yaml.YAMLError as error:
        raise InvalidRequest(f"{at}: {path} is not valid YAML: {explain(error)}.", param=at) from error
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{at}: {path} cannot be read: {error}.", param=at) from error
    if not isinstance(document, dict):
        raise InvalidRequest(f"{at}: {path} contains neither a flow nor an agent.", param=at)
    return document
