"""`portico distil`: a small model learns the answers behind an alias, and answers there where it is sure."""

from __future__ import annotations

from typing import Annotated

import typer

from portico.cli.curve import lasts
from portico.cli.nouns import fields_of
from portico.cli.progress import follow_result
from portico.cli.render import dollars, one_line, print_fields, print_json, safe
from portico.cli.root import group
from portico.cli.session import AsJson, connected
from portico.cli.start_group import StartGroup
from portico.schemas.distillations import Distillation

app = group("distil", "portico distil assistant --onto default", cls=StartGroup)

AliasName = Annotated[str, typer.Argument(metavar="ALIAS", help="The alias of the larger model.")]


@app.command(epilog="Example: portico distil start assistant --onto default --agreement 0.97")
def start(
    context: typer.Context,
    alias: AliasName,
    onto: Annotated[str, typer.Option(help="The small model to tune.")],
    agreement: Annotated[
        float | None,
        typer.Option(help="Minimum agreement with the larger model where the small model is sure (0.95)."),
    ] = None,
    weight: Annotated[
        float | None, typer.Option(help="Share of the calls until the small model is promoted (0.2).")
    ] = None,
    sample: Annotated[
        float | None,
        typer.Option(help="Share of its answers that are compared with the larger model's (0.05)."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Number of epochs.")] = None,
    rate: Annotated[float | None, typer.Option(help="Factor for the recipe's learning rate.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Start without waiting for the end.")] = False,
    as_json: AsJson = False,
) -> None:
    """Tune a small model with the stored chats of an alias, and let it answer where it is sure. Ctrl-C leaves the work
    running.
    """
    with connected(context) as client:
        run = client.distillations.start(
            alias, onto, agreement=agreement, weight=weight, sample=sample, epochs=epochs, rate=rate
        )
        if not detach:
            follow_result(client, run, f"Distilling {alias}")
        distillation = client.distillations.get(alias)
    _print(distillation, as_json)


@app.command(epilog="Example: portico distil show assistant")
def show(context: typer.Context, alias: AliasName, as_json: AsJson = False) -> None:
    """Show the newest distillation of an alias, and the money and time that it saves."""
    with connected(context) as client:
        distillation = client.distillations.get(alias)
    _print(distillation, as_json)


def _print(distillation: Distillation, as_json: bool) -> None:
    if as_json:
        print_json(distillation)
        return
    print_fields(
        [
            *fields_of(distillation, "alias", "onto", "status"),
            ("stage", distillation.stage),
            ("error", one_line(distillation.error) or None),
            ("examples", _examples(distillation)),
            ("job", distillation.job),
            ("model", distillation.model),
            ("held back", _held_back(distillation)),
            ("canary", distillation.canary and distillation.canary.replace("_", " ")),
            ("calls", _calls(distillation)),
            ("live agreement", _share(distillation.live_agreement)),
            ("saved money", _saved_money(distillation)),
            ("saved time", _saved_time(distillation.saved_seconds)),
        ]
    )


def _share(value: float | None) -> str | None:
    return None if value is None else f"{value:.1%}"


def _examples(distillation: Distillation) -> str | None:
    if distillation.training is None:
        return None
    omitted = f", {distillation.omitted:,} omitted" if distillation.omitted else ""
    return f"{distillation.training:,} to train on, {distillation.held_back:,} held back{omitted}"


def _held_back(distillation: Distillation) -> str | None:
    if distillation.min_confidence is None:
        return None
    return (
        f"answers {_share(distillation.local_share)} alone (confidence from {distillation.min_confidence:.3f}), "
        f"{_share(distillation.agreement)} of them as stored"
    )


def _calls(distillation: Distillation) -> str | None:
    if distillation.canary is None:
        return None
    return f"{distillation.calls:,}, of which {safe(distillation.model or '')} answered {distillation.local_calls:,}"


def _saved_money(distillation: Distillation) -> str | None:
    if distillation.canary is None:
        return None
    return (
        "the larger model has no known price"
        if distillation.saved_cost is None
        else dollars(distillation.saved_cost)
    )


def _saved_time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return lasts(seconds) if seconds >= 0 else f"none: it takes {lasts(-seconds)} longer"
