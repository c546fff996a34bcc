"""`portico search`: ranked passages of one store."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from rich.text import Text

from portico.cli.cite import citations, heading
from portico.cli.render import console, plain, print_json, print_rows, shorten
from portico.cli.session import AsJson, connected

app = typer.Typer()


class Ranking(StrEnum):
    """How passages are ranked."""

    auto = "auto"
    lexical = "lexical"
    vector = "vector"
    hybrid = "hybrid"
    rrf = "rrf"


@app.command(epilog="Example: portico search docs 'which port' -n 5")
def search(
    context: typer.Context,
    store: Annotated[str, typer.Argument(help="The store to search.")],
    query: Annotated[str, typer.Argument(help="What to look for.")],
    number: Annotated[int, typer.Option("-n", "--number", min=1, max=50, help="How many passages.")] = 10,
    ranker: Annotated[Ranking, typer.Option(help="How passages are ranked.")] = Ranking.auto,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="The least score of a passage.")] = 0.0,
    explain: Annotated[bool, typer.Option(help="Show each stage of the search.")] = False,
    as_json: AsJson = False,
) -> None:
    """Search a store: ranked passages with scores and their places."""
    with connected(context) as client:
        found = client.search(
            store,
            query,
            max_num_results=number,
            ranker=ranker.value,
            score_threshold=threshold or None,
            trace=explain,
        )
    if as_json:
        print_json({"data": citations(found.passages), "trace": plain(found.trace)})
        return
    out = console()
    if not found.passages:
        out.print(f"Nothing in '{store}' matches.", markup=False)
    for passage in found.passages:
        out.print(heading(passage, score=True))
        out.print(Text(f"    {shorten(passage.text, 200)}", "dim"))
    if explain:
        out.print()
        print_rows(
            ("STAGE", "MS", "CANDIDATES", "BEST", "NOTE"),
            (
                (
                    stage.name,
                    f"{stage.milliseconds:.2f}",
                    len(stage.candidates),
                    " ".join(f"{chunk}:{score:.3f}" for chunk, score in stage.candidates[:3]),
                    stage.note,
                )
                for stage in found.trace
            ),
        )
