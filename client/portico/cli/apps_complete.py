"""Names of apps, for the shell's completion."""

from __future__ import annotations

import typer

from portico.cli.session import Session
from portico.errors import PorticoError

PATIENCE = 2.0
"""Seconds that somebody who presses the tab key waits."""


def app_names(_context: typer.Context, incomplete: str) -> list[str]:
    """The apps whose names begin like this; none where no daemon answers."""
    from portico.client import Client

    try:
        with Client(Session().address(), timeout=PATIENCE) as client:
            return [found.name for found in client.apps.list() if found.name.startswith(incomplete)]
    except PorticoError:
        return []
