"""`portico improve`: finds the part of an app that fails, and measures changes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portico.cli.json_lines import read_objects
from portico.cli.render import dollars, print_fields, print_json, print_rows, safe
from portico.cli.session import AsJson, connected
from portico.errors import NotFound
from portico.schemas.improvements import HeldBackFigures, Improvement

if TYPE_CHECKING:
    from portico.client import Client

app = typer.Typer()


@app.command(epilog="Example: portico improve desk --data cases.jsonl --model large")
def improve(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="APP", help="The name of a deployed app.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Cases: JSON lines with 'question', 'answer', and maybe 'passages' and 'tool'.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    test: Annotated[str, typer.Option("--eval", help="An evaluation whose criteria grade the answers.")] = "",
    model: Annotated[str, typer.Option(help="Another model to try.")] = "",
    ratings: Annotated[
        bool, typer.Option("--ratings/--no-ratings", help="Use your ratings and failed runs of the app too.")
    ] = True,
    apply: Annotated[
        int | None,
        typer.Option(
            min=1, help="Apply this proposal of the app's last improvement as a canary.", metavar="N"
        ),
    ] = None,
    alias: Annotated[str, typer.Option(help="With --apply: the alias whose calls are split.")] = "",
    weight: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="With --apply: the share of calls that the change gets.")
    ] = 0.1,
    as_json: AsJson = False,
) -> None:
    """Find the part of an app that fails on your cases, and measure changes of it on cases that were held back."""
    with connected(context) as client:
        if apply is not None:
            improvement = _last(client, name)
            canary = client.improvements.apply(improvement.id, proposal=apply, alias=alias, weight=weight)
            if as_json:
                print_json(canary)
            else:
                typer.echo(
                    f"{safe(canary.target)} gets {canary.weight:.0%} of the calls of '{safe(canary.alias)}'. Follow "
                    f"it: portico canaries show {safe(canary.alias)}"
                )
            return
        from portico.cli import evals_show

        improvement = client.improvements.create(
            app=name, data=[] if data is None else _cases(data), eval=test, model=model, ratings=ratings
        )
        evals_show.follow(client, improvement.run_id, f"Improving {name}", quiet=as_json)
        improvement = client.improvements.get(improvement.id)
    print_json(improvement) if as_json else _print(improvement)
    if improvement.status != "completed":
        typer.secho(safe(improvement.error) or f"It was {improvement.status}.", fg="red", err=True)
        raise typer.Exit(1)


def _last(client: Client, name: str) -> Improvement:
    improvements = client.improvements.list(app=name, limit=1)
    if not improvements:
        raise NotFound(
            f"'{safe(name)}' has no improvement yet: portico improve {safe(name)} --data FILE", param="apply"
        )
    return improvements[0]


def _cases(path: Path) -> list[Mapping[str, Any]]:
    """Return the cases in a file. A line can contain a case, or an object with a case as its ``item``."""
    documents = read_objects(path, "data")
    return [
        document["item"] if isinstance(document.get("item"), dict) else document for document in documents
    ]


def _print(improvement: Improvement) -> None:
    """Print the diagnosis and the proposals."""
    print_fields(
        [
            ("id", improvement.id),
            ("app", f"{improvement.app}@{improvement.version}"),
            ("cases", improvement.cases),
            ("bad", improvement.bad),
            ("part", improvement.part),
        ]
    )
    repairs = [(repairs.part, repairs.repaired) for repairs in improvement.diagnosis if repairs.repaired]
    if repairs:
        typer.echo()
        print_rows(("PART", f"REPAIRS OF {improvement.diagnosed}"), repairs)
    if improvement.baseline is not None and improvement.proposals:
        typer.echo()
        print_rows(
            ("N", "PART", "CHANGE", "SCORE", "SECONDS", "COST", "WORSE", "OFFERED"),
            _proposal_rows(improvement.baseline, improvement),
        )


def _proposal_rows(baseline: HeldBackFigures, improvement: Improvement) -> Iterator[Sequence[Any]]:
    for proposal in improvement.proposals:
        figures = proposal.figures
        comparison: Sequence[Any] = ("", "", "", "")
        if figures is not None:
            costs = (dollars(row.cost) for row in (baseline, figures) if row.cost is not None)
            comparison = (
                f"{baseline.score or 0:.2f} → {figures.score or 0:.2f}",
                f"{baseline.seconds:.2f} → {figures.seconds:.2f}",
                " → ".join(costs),
                proposal.worse,
            )
        offer = "yes" if proposal.is_offered else proposal.reason
        yield (proposal.number, proposal.part, proposal.text, *comparison, offer)
