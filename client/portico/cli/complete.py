"""Names of apps and schedules, parameters and events, for the shell's completion."""

from __future__ import annotations

import typer

from portico.cli.session import Invocation
from portico.errors import PorticoError

TIMEOUT_S = 2.0
"""Seconds that somebody who presses the tab key waits."""


def app_names(_context: typer.Context, incomplete: str) -> list[str]:
    """The apps whose names begin like this; none where no daemon answers."""
    from portico.client import Client

    try:
        with Client(Invocation().address(), timeout=TIMEOUT_S) as client:
            return [found.name for found in client.apps.list() if found.name.startswith(incomplete)]
    except PorticoError:
        return []


def engine_parameters(context: typer.Context, incomplete: str) -> list[str]:
    """The parameters of the engine that the command names, or whose model it names; none where no daemon answers."""
    from portico.client import Client

    engine = context.params.get("engine")
    try:
        with Client(Invocation().address(), timeout=TIMEOUT_S) as client:
            engine = engine or client.deployments.get(str(context.params.get("name"))).engine
            known = client.engines.parameters(engine)
    except PorticoError:
        return []
    return [f"{one.name}=" for one in known if one.name.startswith(incomplete)]


def event_types(_context: typer.Context, incomplete: str) -> list[str]:
    """The events that begin like this; none where no daemon answers."""
    from portico.client import Client

    try:
        with Client(Invocation().address(), timeout=TIMEOUT_S) as client:
            return [name for name in client.webhooks.event_types() if name.startswith(incomplete)]
    except PorticoError:
        return []


def schedule_names(_context: typer.Context, incomplete: str) -> list[str]:
    """The schedules whose names begin like this; none where no daemon answers."""
    from portico.client import Client

    try:
        with Client(Invocation().address(), timeout=TIMEOUT_S) as client:
            return [found.name for found in client.schedules.list() if found.name.startswith(incomplete)]
    except PorticoError:
        return []
