"""`portico web`: serves a single app as a page."""

from __future__ import annotations

import contextlib
import html
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from portico.cli.limits import limits_of
from portico.cli.render import one_line, print_json
from portico.cli.session import AsJson, connected, run_server_module, until_exit
from portico.errors import InvalidRequest, NotFound, PorticoError

if TYPE_CHECKING:
    from portico.client import Client

app = typer.Typer()


@app.command(epilog="Example: portico web handbook --title 'Ask the handbook' --origin https://example.org")
def web(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="APP", help="The app, agent or store that answers.")],
    title: Annotated[str, typer.Option(help="The title of the page (default: the name of the app).")] = "",
    origin: Annotated[
        list[str] | None,
        typer.Option(help="A site whose pages can embed this page, such as https://example.org; repeatable."),
    ] = None,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="A scope that the app needs beyond its own store, such as tools:web_fetch:call or "
            "stores:prices:read; repeatable."
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NUMBER",
            help="A limit for all visitors together: concurrency, requests_per_minute, tokens_per_minute or "
            "tokens_per_day; repeatable.",
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; 0.0.0.0 means all interfaces.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 picks a free port.")] = 8643,
    as_json: AsJson = False,
) -> None:
    """Serve a single app as a page, with a separate key that is revoked when this command ends. Ctrl-C stops it."""
    with connected(context) as client, _key(client, name, scope or (), limits_of(limit or ())) as key:
        command = run_server_module("share", "--daemon", client.url, "--app", name, "--title", title or name)
        command += ["--host", host, "--port", str(port)]
        command += [word for allowed_origin in origin or () for word in ("--origin", allowed_origin)]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PORTICO_API_KEY": key},
            start_new_session=True,
        )
        with process:
            signal.signal(signal.SIGTERM, lambda *_: process.stdin and process.stdin.close())
            try:
                url = _address(process)
                frame = f'<iframe src="{url}" title="{html.escape(title or name)}" width="400" height="600"></iframe>'
                with until_exit(process) as wait:
                    if as_json:
                        print_json({"url": url, "html": frame})
                    else:
                        typer.echo(f"{one_line(name)} answers at {url} until Ctrl-C.")
                        typer.echo(
                            f"To embed it: {one_line(frame)}"
                            if origin
                            else "To allow embedding, name a site with --origin."
                        )
                    sys.stdout.flush()
                    wait()
            except KeyboardInterrupt:
                pass
            finally:
                if process.stdin is not None:
                    process.stdin.close()


@contextlib.contextmanager
def _key(client: Client, name: str, extra_scopes: Iterable[str], limits: dict[str, int]) -> Iterator[str]:
    """Yield a temporary key that can call this app and everything that the app needs."""
    apps = {app.name: app for app in client.apps.list()}
    if name not in apps:
        raise NotFound(f"There is no app '{name}'. Apps are: {', '.join(apps) or 'none'}.", param="name")
    store = [f"stores:{name}:read"] if apps[name].kind == "store" else []
    scopes = [  # the page gives visitors access only to the app, even if the key allows more
        "chat",
        f"apps:{name}:call",
        *store,
        *extra_scopes,
    ]
    key = client.keys.add(f"web {name}", scopes, limits=limits)
    try:
        yield key.key
    finally:
        with contextlib.suppress(PorticoError):  # if the daemon has exited, the key cannot be revoked now
            client.keys.revoke(key.id)


def _address(process: subprocess.Popen[str]) -> str:
    """Wait for the page to start and return its URL. If the start fails, raise `InvalidRequest` with the page's own
    message.
    """
    assert process.stdout is not None
    reply = json.loads(process.stdout.readline() or '{"error": {"message": "The page did not start."}}')
    if "error" in reply:
        raise InvalidRequest(reply["error"]["message"], param=reply["error"].get("param"))
    return str(reply["url"])
