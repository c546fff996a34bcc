"""Apps and their versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from portico.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class App:
    """Something that answers a conversation. ``kind`` is ``store``, ``flow`` or ``agent``; ``version`` is 0 for one
    that was not deployed; ``limits`` hold whoever calls it.

    ``id`` always means this app; ``shared``: its name means it for every key, else for ``owner``, which an admin sees.
    """

    name: str
    title: str = ""
    description: str = ""
    kind: str = "store"
    version: int = 0
    input_schema: Mapping[str, Any] | None = None
    output_schema: Mapping[str, Any] | None = None
    limits: Mapping[str, int] | None = None
    id: str = ""
    shared: bool = True
    owner: str | None = None


def the_only(apps: Sequence[App]) -> str:
    """The app to ask when none was named; `InvalidRequest` that lists them unless there is exactly one."""
    if len(apps) == 1:
        return apps[0].name
    if not apps:
        raise InvalidRequest(
            "There is no app to ask yet. Add a folder of documents: portico stores add ./docs", param="app"
        )
    names = ", ".join(app.name for app in apps)
    raise InvalidRequest(
        f"There are several apps: {names}. Say which one to ask: app=NAME, or --app NAME.", param="app"
    )


@dataclass(frozen=True, slots=True)
class AppVersion:
    """One version of a deployed app; ``current``: the one that answers. Times in seconds since 1970.

    ``warnings``: what it still needs, such as functions that must be served; told when it is deployed.
    """

    name: str
    version: int
    digest: str
    note: str
    created_by: str
    created_at: float
    current: bool
    spec: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    id: str = ""
