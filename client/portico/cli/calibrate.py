"""`portico stores calibrate`: measures how much a store's vectors improve its search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from portico.cli.json_lines import read_objects
from portico.cli.progress import follow_result
from portico.cli.render import print_json, print_rows
from portico.cli.session import AsJson, connected
from portico.errors import InvalidRequest


def calibrate(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The name or id of the store.")],
    questions: Annotated[
        Path | None, typer.Option(help="A file with one JSON object per line: question, and file or passage.")
    ] = None,
    generate: Annotated[
        int | None, typer.Option(min=1, max=500, help="Let a chat model write this many questions instead.")
    ] = None,
    model: Annotated[str, typer.Option(help="That model.")] = "default",
    apply: Annotated[bool, typer.Option("--apply", help="Use the best weight from now on.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure a store's search with different vector weights, on questions whose answers are known."""
    if (questions is None) == (generate is None):
        raise InvalidRequest("Give either --questions FILE or --generate NUMBER.", param="questions")
    rows = None if questions is None else read_objects(questions, "questions")
    with connected(context) as client:
        run = client.stores.calibrate(name, rows, generate=generate, model=model, apply=apply)
        result = follow_result(client, run, f"Measuring {name}")
    if as_json:
        print_json(result)
        return
    print_rows(
        ("VECTORS", "NDCG@10", "RECALL@10", "MRR@10", ""),
        (
            (
                f"{row['weight']:.1f}",
                f"{row['ndcg']:.4f}",
                f"{row['recall']:.4f}",
                f"{row['mrr']:.4f}",
                "best" if row["weight"] == result["best"] else "",
            )
            for row in result["scores"]
        ),
    )
    typer.echo(
        f"{result['questions']} questions, {result['unanswered']} of them not answered with any weight."
    )
    if result["applied"]:
        typer.echo(f"Searches of '{name}' now use the weight {result['best']:g} for vectors.")
    else:
        typer.echo("No changes made; use --apply to apply the best weight.")
