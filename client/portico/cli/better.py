"""Offers the model that this machine could have instead of the tiny one, and shows how it arrives."""

from __future__ import annotations

import sys
from urllib.parse import urlsplit

import typer

from portico.cli.curve import lasts
from portico.cli.follow import follow_here
from portico.cli.progress import Spinner
from portico.cli.render import amount, one_line
from portico.client import Client
from portico.errors import Conflict, PorticoError
from portico.schemas.deployments import BetterModel


def offer_better(url: str, key: str | None, *, decision: bool | None, ask: bool) -> str | None:
    """Ask, or do what was asked for; the id of the run that fetches the better model, if one does.

    ``wish``: fetch it, or never offer it again; ``None``: undecided. ``ask``: there is a person at a terminal. What
    goes wrong is said and keeps nobody from using the daemon.
    """
    try:
        with Client(url, key) as client:
            if decision is None:
                return _ask_person(client) if ask else None
            run = client.models.decide_better(decision)
            return run if decision else None
    except Conflict as error:
        if error.code != "no_better_model":
            raise
    except PorticoError as error:
        typer.secho(one_line(error.message), fg="yellow", err=True)
    return None


def follow_better(url: str, key: str | None, run: str) -> None:
    """Show the run until the better model answers, or why it does not."""
    for ended in follow_here(url, key, [run]):
        if ended.error is None:
            typer.echo(f"{one_line(ended.run.name)} answers from now on.", err=True)


def _ask_person(client: Client) -> str | None:
    with Spinner("Looking for a better model"):
        found = client.models.better()
    match found.state:
        case "fetching":
            return found.run
        case "unreachable":
            typer.echo(
                "No model hub can be reached, so the tiny model stays: it quotes your documents.", err=True
            )
        case "available":
            typer.echo(_described(found), err=True)
            try:
                wanted = typer.confirm(
                    "Fetch it now? The tiny model answers meanwhile", default=True, err=True
                )
            except typer.Abort as error:
                raise KeyboardInterrupt from error
            return client.models.decide_better(wanted)
    return None


def _described(found: BetterModel) -> str:
    """Which one, how large, from where and how long it takes."""
    where = one_line(urlsplit(found.source).scheme)
    if found.seconds == 0:
        costs = "it is on this machine already"
    else:
        time = "" if found.seconds is None else f", about {lasts(found.seconds)}"
        costs = f"{amount(found.size_bytes)}{time} from {_HUBS.get(where, where)}"
    return f"A better model fits this machine: {one_line(found.name)}, {one_line(found.reason)}; {costs}."


_HUBS = {"hf": "Hugging Face", "modelscope": "ModelScope"}


def at_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()
