"""`portico search`: searches stores and prints ranked passages."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.text import Text

from portico.cli.cite import citations, heading
from portico.cli.render import console, plain, print_json, print_rows, shorten
from portico.cli.session import AsJson, connected
from portico.schemas.search import Found

app = typer.Typer()


class Rewriting(StrEnum):
    """How a chat model rewrites the question."""

    rewrite = "rewrite"
    decompose = "decompose"
    hyde = "hyde"
    instead = "replace"


class StepsChoice(StrEnum):
    """Number of searches per query."""

    off = "off"
    auto = "auto"
    two = "2"
    three = "3"
    four = "4"

    @property
    def given(self) -> str | int:
        """The value as the API expects it: a number or a word."""
        return int(self.value) if self.value.isdigit() else self.value


class RankerChoice(StrEnum):
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
    query: Annotated[str, typer.Argument(help="The text to search for.")],
    number: Annotated[int, typer.Option("-n", "--number", min=1, max=50, help="Number of passages.")] = 10,
    ranker: Annotated[RankerChoice, typer.Option(help="How passages are ranked.")] = RankerChoice.auto,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Minimum score of a passage.")] = 0.0,
    also: Annotated[list[str] | None, typer.Option(help="An additional store to search; repeatable.")] = None,
    route: Annotated[
        bool, typer.Option(help="If there are several stores, let a chat model choose the relevant ones.")
    ] = False,
    group: Annotated[
        list[str] | None,
        typer.Option(help="A chunk group to search instead of the store's default group; repeatable."),
    ] = None,
    vector_weight: Annotated[
        float | None, typer.Option(min=0, max=1, help="The weight of vectors relative to words.")
    ] = None,
    rewrite: Annotated[
        Rewriting | None, typer.Option(help="Also search for the chat model's rewriting of the question.")
    ] = None,
    writer: Annotated[str | None, typer.Option(help="The model for rewriting (default: default).")] = None,
    reranker: Annotated[
        str | None, typer.Option(help="A model that rescores the best candidates, or auto.")
    ] = None,
    diversity: Annotated[
        float | None, typer.Option(min=0, max=1, help="Score penalty for similarity to better passages.")
    ] = None,
    near_duplicates: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="The share of common words above which two passages count as duplicates."
        ),
    ] = None,
    half_life: Annotated[float | None, typer.Option(min=0, help="Days in which a score halves.")] = None,
    decay_by: Annotated[
        str | None,
        typer.Option(
            help="The attribute with the time at which that decay starts (default: when the file was added)."
        ),
    ] = None,
    parents: Annotated[
        str | None,
        typer.Option(
            help="The group whose chunks are shown instead of the chunks found; '*': the parent of each chunk."
        ),
    ] = None,
    neighbours: Annotated[
        int | None, typer.Option(min=0, max=10, help="Number of chunks to add before and after each passage.")
    ] = None,
    infer_filters: Annotated[
        bool,
        typer.Option(help="Search only files that match conditions in the question, such as 'since 2024'."),
    ] = False,
    links: Annotated[
        bool | None,
        typer.Option(
            "--links/--no-links", help="Follow links between passages (default: the store's setting)."
        ),
    ] = None,
    steps: Annotated[
        StepsChoice | None,
        typer.Option(
            help="Search again for information that the first passages lack: auto: if much is missing; a "
            "number: up to so many searches."
        ),
    ] = None,
    steps_model: Annotated[
        str | None, typer.Option(help="The chat model that chooses the next search (default: rules).")
    ] = None,
    explain: Annotated[bool, typer.Option(help="Show each stage of the search.")] = False,
    as_json: AsJson = False,
) -> None:
    """Search a store and print ranked passages with scores and locations."""
    options: dict[str, Any] = {
        "groups": group or None,
        "vector_weight": vector_weight,
        "rewrite": rewrite.value if rewrite else None,
        "writer": writer,
        "reranker": reranker,
        "diversity": diversity,
        "near_duplicates": near_duplicates,
        "half_life_days": half_life,
        "decay_by": decay_by,
        "parents": parents,
        "neighbours": neighbours,
        "infer_filters": infer_filters or None,
        "links": links,
        "steps": steps and steps.given,
        "steps_model": steps_model,
        "route": (route and bool(also)) or None,
    }
    with connected(context) as client:
        result = client.search(
            [store, *also] if also else store,
            query,
            max_num_results=number,
            ranker=ranker.value,
            score_threshold=threshold or None,
            trace=explain,
            **options,
        )
    if as_json:
        print_json({"data": citations(result.passages), "trace": plain(result.trace)})
    else:
        _show(result, store, explain)


def _show(result: Found, store: str, explain: bool) -> None:
    """Print passages with their locations, and the stages of the search if requested."""
    out = console()
    if not result.passages:
        out.print(f"No matches in '{store}'.", markup=False)
    for passage in result.passages:
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
                for stage in result.trace
            ),
        )
