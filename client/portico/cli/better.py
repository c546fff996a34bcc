"""Offers to download a model that fits this machine better than the tiny one, and shows the download."""

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
    """Ask the person, or apply ``decision``. Return the id of the run that downloads the better model, or ``None``.

    ``decision``: download the model, or never offer it again; ``None``: undecided. ``ask``: a person is at the
    terminal. Errors are reported and do not prevent the daemon from being used.
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
    """Show the progress of the run. Once it has finished, print that the better model now answers, or the error."""
    for finished_run in follow_here(url, key, [run]):
        if finished_run.error is None:
            typer.echo(f"{one_line(finished_run.run.name)} now answers.", err=True)


def _ask_person(client: Client) -> str | None:
    with Spinner("Looking for a better model"):
        better_model = client.models.better()
    match better_model.state:
        case "fetching":
            return better_model.run
        case "unreachable":
            typer.echo(
                "No model hub is reachable, so the tiny model stays: it quotes your documents.", err=True
            )
        case "available":
            typer.echo(_describe(better_model), err=True)
            try:
                is_wanted = typer.confirm(
                    "Download it now? The tiny model answers meanwhile", default=True, err=True
                )
            except typer.Abort as error:
                raise KeyboardInterrupt from error
            return client.models.decide_better(is_wanted)
    return None


def _describe(better_model: BetterModel) -> str:
    """Return the model's name, the reason for the offer, and its size, download time and source."""
    place = one_line(urlsplit(better_model.source).scheme)
    if better_model.seconds == 0:
        costs = "it is already on this machine"
    else:
        time = "" if better_model.seconds is None else f", about {lasts(better_model.seconds)}"
        costs = f"{amount(better_model.size_bytes)}{time} from {_HUBS.get(place, place)}"
    return f"A better model fits this machine: {one_line(better_model.name)}, {one_line(better_model.reason)}; {costs}."


_HUBS = {"hf": "Hugging Face", "modelscope": "ModelScope"}


def at_terminal() -> bool:
    """Return whether a person at a terminal can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()
