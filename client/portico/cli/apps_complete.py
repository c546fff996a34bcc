"""Names of apps, for the shell's completion."""

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
