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
    for finished_run in follow_here(url, key, [run]):
        if finished_run.error is None:
            typer.echo(f"{one_line(finished_run.run.name)} answers from now on.", err=True)


def _ask_person(client: Client) -> str | None:
    with Spinner("Looking for a better model"):
        better_model = client.models.better()
    match better_model.state:
        case "fetching":
            return better_model.run
        case "unreachable":
            typer.echo(
                "No model hub can be reached, so the tiny model stays: it quotes your documents.", err=True
            )
        case "available":
            typer.echo(_described(better_model), err=True)
            try:
                is_wanted = typer.confirm(
                    "Fetch it now? The tiny model answers meanwhile", default=True, err=True
                )
            except typer.Abort as error:
                raise KeyboardInterrupt from error
            return client.models.decide_better(is_wanted)
    return None


def _described(better_model: BetterModel) -> str:
    """Which one, how large, from where and how long it takes."""
    where = one_line(urlsplit(better_model.source).scheme)
    if better_model.seconds == 0:
        costs = "it is on this machine already"
    else:
        time = "" if better_model.seconds is None else f", about {lasts(better_model.seconds)}"
        costs = f"{amount(better_model.size_bytes)}{time} from {_HUBS.get(where, where)}"
    return f"A better model fits this machine: {one_line(better_model.name)}, {one_line(better_model.reason)}; {costs}."


_HUBS = {"hf": "Hugging Face", "modelscope": "ModelScope"}


def at_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()
