"""Offers to download models that fit this machine better than the built-in models, and shows the downloads."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import typer

from portico.cli.curve import lasts
from portico.cli.follow import follow_here
from portico.cli.progress import Spinner
from portico.cli.render import amount, one_line
from portico.client import Client
from portico.errors import Conflict, PorticoError
from portico.schemas.deployments import BetterModel, BetterTask


def offer_better(
    url: str,
    key: str | None,
    decisions: Mapping[BetterTask, bool | None],
    asked_tasks: Collection[BetterTask],
) -> list[str]:
    """Apply the decisions, and ask the person about undecided ``asked_tasks``. Return the ids of the runs that download
    better models.

    A decision: download the model of this task, or never offer it again; ``None``: undecided. Errors are reported and
    do not prevent the daemon from being used.
    """
    runs: list[str] = []
    try:
        with Client(url, key) as client:
            for task, decision in decisions.items():
                if decision is not None:
                    runs += _decide(client, task, decision)
                elif task in asked_tasks:
                    with Spinner("Looking for a better model"):
                        better_model = client.models.better(task=task)
                    runs += _ask_person(client, task, better_model)
                    if better_model.state == "unreachable":
                        break  # the other models are at the same hubs
    except PorticoError as error:
        typer.secho(one_line(error.message), fg="yellow", err=True)
    return runs


def follow_better(url: str, key: str | None, runs: Sequence[str]) -> None:
    """Show the progress of the runs. Once a run has finished, print that the better model is in use, or the error."""
    for finished_run in follow_here(url, key, runs):
        if finished_run.error is None:
            typer.echo(f"{one_line(finished_run.run.name)} is now in use.", err=True)


def _decide(client: Client, task: BetterTask, decision: bool) -> list[str]:
    """Return the id of the run that downloads the model, if there is one."""
    try:
        run = client.models.decide_better(decision, task)
    except Conflict as error:
        if error.code != "no_better_model":
            raise
        return []
    return [run] if run is not None else []


def _ask_person(client: Client, task: BetterTask, better_model: BetterModel) -> list[str]:
    """Return the id of the run that downloads the model, if there is one."""
    words = _WORDS[task]
    match better_model.state:
        case "fetching":
            return [better_model.run] if better_model.run is not None else []
        case "unreachable":
            typer.echo(f"No model hub is reachable, so {words.unchanged}.", err=True)
        case "available":
            typer.echo(f"{words.introduction}: {_describe(better_model)}", err=True)
            try:
                is_wanted = typer.confirm(f"Download it now? {words.meanwhile}", default=True, err=True)
            except typer.Abort as error:
                raise KeyboardInterrupt from error
            return _decide(client, task, is_wanted)
    return []


@dataclass(frozen=True, slots=True)
class _Words:
    """The parts of the messages about a better model that depend on its task."""

    introduction: str
    meanwhile: str
    unchanged: str


_WORDS: Mapping[BetterTask, _Words] = {
    "chat": _Words(
        "A better model fits this machine",
        "The tiny model answers meanwhile",
        "the tiny model stays: it quotes your documents",
    ),
    "embedding": _Words(
        "A better model for searches fits this machine",
        "Your stores move to it in the background",
        "your stores keep their built-in vectors",
    ),
}


def _describe(better_model: BetterModel) -> str:
    """Return the model's name, the reason for the offer, and its size, download time and source."""
    place = one_line(urlsplit(better_model.source).scheme)
    if better_model.seconds == 0:
        costs = "it is already on this machine"
    else:
        time = "" if better_model.seconds is None else f", about {lasts(better_model.seconds)}"
        costs = f"{amount(better_model.size_bytes)}{time} from {_HUBS.get(place, place)}"
    return f"{one_line(better_model.name)}, {one_line(better_model.reason)}; {costs}."


_HUBS = {"hf": "Hugging Face", "modelscope": "ModelScope"}


def at_terminal() -> bool:
    """Return whether a person at a terminal can be asked."""
    return sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()
