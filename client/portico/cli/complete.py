"""Shell completion for app names, schedule names, engine parameters and event types."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import typer

from portico.errors import PorticoError

if TYPE_CHECKING:
    from portico.client import Client

TIMEOUT_S = 2.0
"""Maximum time that a completion takes, in seconds."""


def app_names(_context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of apps that begin with the input, or no names if no daemon responds."""
    return _names(incomplete, lambda client: (app.name for app in client.apps.list()))


def engine_parameters(context: typer.Context, incomplete: str) -> list[str]:
    """Return the parameters of the engine that the command names, or else of its model's engine. Return no names if no
    daemon responds.
    """

    def names(client: Client) -> Iterable[str]:
        engine = (
            context.params.get("engine") or client.deployments.get(str(context.params.get("name"))).engine
        )
        return (parameter.name for parameter in client.engines.parameters(engine))

    return [f"{name}=" for name in _names(incomplete, names)]


def event_types(_context: typer.Context, incomplete: str) -> list[str]:
    """Return the event types that begin with the input, or no types if no daemon responds."""
    return _names(incomplete, lambda client: client.webhooks.event_types())


def schedule_names(_context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of schedules that begin with the input, or no names if no daemon responds."""
    return _names(incomplete, lambda client: (schedule.name for schedule in client.schedules.list()))


def _names(incomplete: str, of: Callable[[Client], Iterable[str]]) -> list[str]:
    from portico.client import Client

    try:
        with Client(timeout=TIMEOUT_S) as client:
            return [name for name in of(client) if name.startswith(incomplete)]
    except PorticoError:
        return []
