"""`portico open`: opens the daemon's page in a browser."""

from __future__ import annotations

import contextlib
import os
import sys
import webbrowser

import typer

from portico.cli.nouns import print_outcome
from portico.cli.render import one_line
from portico.cli.session import AsJson, connected
from portico.errors import Unauthenticated

app = typer.Typer()


@app.command("open", epilog="Example: portico open")
def open_page(context: typer.Context, as_json: AsJson = False) -> None:
    """Open the daemon's page in a browser; without a browser, print its address."""
    with connected(context) as client:
        with contextlib.suppress(Unauthenticated):  # the page itself asks for the key
            client.status()
        url = f"{client.url.rstrip('/')}/"
    is_opened = has_browser() and webbrowser.open(url)
    print_outcome(
        {"url": url, "opened": is_opened}, as_json, f"Opened {one_line(url)}" if is_opened else one_line(url)
    )


def has_browser() -> bool:
    """Return whether a browser window can be opened. Terminal browsers do not count, as they would take over this
    terminal.
    """
    if os.environ.get("BROWSER") or sys.platform == "darwin":
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
