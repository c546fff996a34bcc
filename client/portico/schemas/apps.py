"""Apps and their versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from portico.errors import InvalidRequest
from portico.schemas.flows import CheckedSpec
from portico.schemas.resource import Column, Resource, Verb


@dataclass(frozen=True, slots=True)
class App:
    """An app. Its name is also a model name; its ``id`` is always unambiguous.

    ``shared``: the name refers to this app for every key. Otherwise the name is valid only for the key ``owner``,
    which only admins can see.

    ``kind`` is ``store``, ``flow`` or ``agent``. ``version`` is 0 for an app that was not deployed. ``limits`` apply
    to all callers.
    """

    name: str
    title: str
    description: str
    kind: str
    version: int
    input_schema: Mapping[str, Any] | None
    output_schema: Mapping[str, Any] | None
    limits: Mapping[str, int] | None = None
    id: str = ""
    shared: bool = True
    owner: str | None = None


def the_only(apps: Sequence[App]) -> str:
    """Return the name of the only app. If there is no app, or more than one, raise `InvalidRequest`; the message lists
    the apps.
    """
    if len(apps) == 1:
        return apps[0].name
    if not apps:
        raise InvalidRequest(
            "No app exists yet. Add a folder of documents: portico stores add ./docs", param="app"
        )
    names = ", ".join(app.name for app in apps)
    raise InvalidRequest(
        f"There are several apps: {names}. Choose one: app=NAME, or --app NAME.", param="app"
    )


@dataclass(frozen=True, slots=True)
class AppVersion:
    """A version of a deployed app. ``current``: calls are answered by this version.

    ``warnings``: what the app still needs, such as functions that a client must serve. Only the response to a
    deployment contains them.
    """

    id: str
    name: str
    version: int
    digest: str
    note: str
    created_by: str
    created_at: float
    current: bool
    spec: Mapping[str, Any]
    warnings: tuple[str, ...] = ()


APPS = Resource(
    "Apps",
    "/api/apps",
    "Everything that can answer a conversation: each store with an app, each flow, each agent.",
    {"name": "an app"},
    (
        Verb("list", "GET", list[App], aliases={"everyone": "all"}),
        Verb("get", "GET {name}", App),
        Verb("update", "PATCH {name}", AppVersion, positional=("changes",), aliases={"changes": "set"}),
        Verb("drawing", "GET {name}/drawing", str, positional=("format",)),
        Verb("versions", "GET {name}/versions", list[AppVersion]),
        Verb("roll_back", "POST {name}/rollback", AppVersion, positional=("version",)),
        Verb("remove", "DELETE {name}"),
    ),
    columns=(
        Column("NAME"),
        Column("KIND"),
        Column("VERSION", kind="count"),
        Column("TITLE"),
        Column("DESCRIPTION", width=80),
    ),
)


AGENTS = Resource(
    "Agents",
    "/api/agents",
    "Undeployed agents, as JSON. `portico.agent` builds them.",
    {},
    (Verb("check", "POST check", CheckedSpec, aliases={"spec": "agent"}),),
)
